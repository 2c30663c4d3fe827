// SPDX-License-Identifier: Apache-2.0
#pragma once

// One harness a reader. With -DPROMPTKD_FUZZ=ON (clang) these are libFuzzer programs; else a small main runs the seeds
// and random mutations of them for PROMPTKD_FUZZ_SECONDS (default 5), and `NAME --write DIR` writes the seeds as a
// corpus for libFuzzer.

#include <promptkd/core/rng.hpp>
#include <promptkd/format/file.hpp>

#include <sys/mman.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace promptkd::fuzz {

/// Valid inputs of this harness.
std::vector<std::string> seeds();

/// Runs `f`; an Error is what a reader should answer to bad input, anything else ends the program.
template <class F>
void tolerate_errors(F&& f) {
    try {
        f();
    } catch (const Error&) {
    }
}

/// A file without a name that holds the input: for readers that take a path.
class InputFile {
public:
    InputFile() : file_(::memfd_create("fuzz", MFD_CLOEXEC)) {
        if (!file_.valid()) std::abort();
    }
    const std::string& write(const std::uint8_t* data, std::size_t size) {
        if (::ftruncate(file_.get(), 0) != 0 ||
            (size > 0 && ::pwrite(file_.get(), data, size, 0) != static_cast<ssize_t>(size)))
            std::abort();
        return path_;
    }

private:
    detail::Descriptor file_;
    std::string path_ = "/proc/self/fd/" + std::to_string(file_.get());
};

/// A changed copy of `seed`: bits, bytes, numbers, cuts, repeats, and parts of `other`.
inline std::string mutate(std::string bytes, const std::string& other, RandomStream& random) {
    const auto below = [&](std::size_t n) {
        return n == 0 ? std::size_t{0} : static_cast<std::size_t>(random.below(static_cast<std::uint32_t>(n)));
    };
    for (std::size_t changes = 1 + below(8); changes > 0; --changes) {
        const std::size_t at = below(bytes.size());
        switch (bytes.empty() ? 4 : below(8)) {
            case 0:
                bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
                break;
            case 1:
                bytes[at] = static_cast<char>(random.next());
                break;
            case 2:
                bytes.resize(at);
                break;
            case 3:
                bytes.erase(at, 1 + below(16));
                break;
            case 4:
                bytes.insert(at, 1 + below(16), static_cast<char>(random.next()));
                break;
            case 5:
                bytes.insert(at, bytes.substr(below(bytes.size()), 1 + below(64)));
                break;
            case 6: {
                constexpr std::uint64_t numbers[] = {
                    0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff};
                const std::uint64_t number = numbers[below(std::size(numbers))];
                for (std::size_t i = 0; i < (std::size_t{1} << below(4)) && at + i < bytes.size(); ++i)
                    bytes[at + i] = static_cast<char>(number >> (8 * i));
                break;
            }
            default:
                if (!other.empty()) bytes.insert(at, other.substr(below(other.size()), 1 + below(256)));
        }
    }
    return bytes;
}

inline void run(const std::string& bytes) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

/// The main of a build without libFuzzer.
inline int main_without_libfuzzer(int argc, char** argv) {
    const std::vector<std::string> inputs = seeds();
    if (argc == 3 && std::string_view(argv[1]) == "--write") {
        make_directories(argv[2]);
        for (std::size_t i = 0; i < inputs.size(); ++i) write_atomically(concat(argv[2], "/seed-", i), inputs[i]);
        return 0;
    }
    for (int i = 1; i < argc; ++i) run(read_file(argv[i]));  // a finding of libFuzzer
    if (argc > 1) return 0;
    for (const std::string& input : inputs) run(input);
    run("");
    const char* seconds = std::getenv("PROMPTKD_FUZZ_SECONDS");
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds ? std::atof(seconds) : 5.0);
    std::uint64_t rounds = 0;
    for (; std::chrono::steady_clock::now() < end; ++rounds) {
        RandomStream random(1, rounds);
        const std::size_t n = inputs.size();
        const std::string& seed = inputs[static_cast<std::size_t>(rounds % n)];
        run(mutate(seed, inputs[random.below(static_cast<std::uint32_t>(n))], random));
    }
    std::printf("%zu seeds and %llu mutations, no crash\n", inputs.size(), static_cast<unsigned long long>(rounds));
    return rounds > 0 ? 0 : 1;
}

}  // namespace promptkd::fuzz

#if !defined(PROMPTKD_LIBFUZZER)
int main(int argc, char** argv) { return promptkd::fuzz::main_without_libfuzzer(argc, argv); }
#endif
