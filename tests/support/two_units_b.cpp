// SPDX-License-Identifier: Apache-2.0
#include <promptkd/promptkd.hpp>

#include <cstdio>

const void* version_address_in_a();

/// The link is the test: a function or variable that is not inline is defined twice. The addresses show that an inline
/// variable is one object in the whole program.
int main() {
    if (version_address_in_a() == &promptkd::version) return 0;
    std::puts("promptkd::version is a different object in each translation unit");
    return 1;
}
