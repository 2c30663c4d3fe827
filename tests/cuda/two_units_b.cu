// SPDX-License-Identifier: Apache-2.0
// Linked with support/two_units_a.cpp, which g++ compiles: both compilers must agree on what the library defines.
#include <promptkd/cuda.hpp>
#include <promptkd/promptkd.hpp>

#include <cstdio>

const void* version_address_in_a();

int main() {
    if (version_address_in_a() != &promptkd::version) {
        std::puts("promptkd::version is a different object in each translation unit");
        return 1;
    }
    try {
        promptkd::Cuda<float> device;
        std::printf("running on %s\n", device.name().c_str());
    } catch (const promptkd::Error& error) {
        std::printf("no GPU: %s\n", error.what());
    }
    return 0;
}
