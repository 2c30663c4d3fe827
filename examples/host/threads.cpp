// SPDX-License-Identifier: Apache-2.0
// A student that many threads ask at the same time; the bundle comes from memory.
#include <fstream>
#include <iostream>
#include <iterator>
#include <promptkd/promptkd.hpp>

int main(int argc, char** argv) {
    using namespace promptkd;
    if (argc < 3) return 2;  // BUNDLE IMAGE…
    std::ifstream file(argv[1], std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const TensorMap bundle = read_safetensors(std::as_bytes(std::span(bytes)), argv[1]);
    const ClassifierPool<Cpu<float>> pool(bundle, {2, 1, 4});  // two calls at a time, each on one core
    std::vector<std::string> found(static_cast<std::size_t>(argc - 2));
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < found.size(); ++i)
        threads.emplace_back([&, i] { found[i] = pool.top_k(read_image(argv[i + 2]), 1).front().name; });
    for (std::thread& thread : threads) thread.join();
    for (const std::string& name : found) std::cout << name << "\n";
    return 0;
}
