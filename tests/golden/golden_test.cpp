// SPDX-License-Identifier: Apache-2.0
// Runs every golden case of a directory on every device: `golden_test`, PROMPTKD_GOLDEN_DIR=… (default:
// tests/fixtures/golden), PROMPTKD_VERBOSE=1 to see the margins, PROMPTKD_GOLDEN_PART=I/N for every N-th case from the
// I-th. Prints "N cases, M failed" and exits 1 when one failed.
#include "cases.hpp"

#include <promptkd/device/cpu.hpp>
#include <promptkd/format/file.hpp>

#include <cstdlib>
#include <filesystem>

namespace promptkd::test {

namespace {

int cases = 0, failed = 0;

/// Which cases this process runs: all, or every `parts`-th from the `part`-th, counted from 1.
struct Share {
    int part = 1, parts = 1, seen = 0;

    /// Reads "I/N"; false for anything else.
    bool parse(const char* text) {
        char end = 0;
        return std::sscanf(text, "%d/%d%c", &part, &parts, &end) == 2 && part >= 1 && part <= parts;
    }
    bool takes_next() { return seen++ % parts == part - 1; }
} share;

/// Runs one case, turns exceptions into failures and counts.
template <class Check>
void run(const std::string& name, const Check& check, Bounds bounds = {}) {
    if (!share.takes_next()) return;
    Report report(name, bounds);
    try {
        check(report);
        report.check(report.comparisons() > 0, "nothing was compared");
    } catch (const std::exception& error) {
        report.check(false, error.what());
    }
    ++cases;
    if (report.failures() > 0) ++failed;
    if (report.failures() > 0 || std::getenv("PROMPTKD_VERBOSE"))
        std::printf("%s %s: %d comparisons, worst at %.3g of its bound\n", report.failures() ? "FAIL" : "ok  ",
                    name.c_str(), report.comparisons(), report.worst());
}

std::string vocabulary() {
    const char* path = std::getenv("PROMPTKD_VOCAB");
    return path && *path ? path : PROMPTKD_OPENAI_VOCAB;
}

void run_file(const std::filesystem::path& path) {
    const std::string name = path.filename().string(), directory = path.parent_path().string();
    if (name == "tokenizer.json") {
        if (std::getenv("PROMPTKD_OFFLINE") && !std::filesystem::exists(vocabulary())) return;
        return run(name, [&](Report& r) { check_tokenizer(path.string(), vocabulary(), r); });
    }
    if (name.rfind("numbers", 0) == 0 && path.extension() == ".json")
        return run(name, [&](Report& r) { check_all_numbers(path.string(), r); });
    if (path.extension() != ".safetensors") return;
    GoldenCase c{directory, read_safetensors(path.string()), nullptr};
    const auto kind = c.map.metadata.find("kind");
    if (kind == c.map.metadata.end()) return;  // a model
    c.config = nlohmann::json::parse(c.map.metadata.at("config"));
    if (kind->second == "preprocess")
        return run(name, [&](Report& r) { check_preprocess(c.map, directory + "/images", r); });
    if (const auto check = find_plain_check(kind->second)) return run(name, [&](Report& r) { check(c, r); });
    const auto run_on = [&](auto& device, const char* device_name, auto check, Bounds bounds) {
        if (check)
            run(
                name + " on " + device_name,
                [&](Report& r) {
                    check(device, c, r);
                    check_device(device, r);
                },
                bounds);
        return check != nullptr;
    };
    const bool exact = for_each_exact_device([&](auto& device, const char* device_name) {
        using D = std::remove_reference_t<decltype(device)>;
        return run_on(device, device_name, find_exact_check<D>(kind->second), Bounds{});
    });
    const bool known = exact || for_each_device([&](auto& device, const char* device_name) {
                           using D = std::remove_reference_t<decltype(device)>;
                           return run_on(device, device_name, find_check<D>(kind->second), bounds_of<D>());
                       });
    if (!known) run(name, [&](Report& r) { r.check(false, "unknown kind '" + kind->second + "'"); });
}

}  // namespace

}  // namespace promptkd::test

int main() {
    using namespace promptkd::test;
    const char* part = std::getenv("PROMPTKD_GOLDEN_PART");
    if (part && !share.parse(part)) {
        std::fprintf(stderr, "golden_test: PROMPTKD_GOLDEN_PART is '%s', not I/N such as 1/2\n", part);
        return 2;
    }
    const char* chosen = std::getenv("PROMPTKD_GOLDEN_DIR");
    const std::filesystem::path directory = chosen && *chosen ? chosen : PROMPTKD_TEST_DATA "/golden";
    std::error_code error;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) files.push_back(entry.path());
    if (error) {
        std::fprintf(stderr, "golden_test: cannot read '%s': %s\n", directory.c_str(), error.message().c_str());
        return 2;
    }
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
        try {
            run_file(file);
        } catch (const std::exception& exception) {
            run(file.filename().string(), [&](Report& r) { r.check(false, exception.what()); });
        }
    }
    std::printf("%d cases, %d failed\n", cases, failed);
    return failed == 0 && cases > 0 ? 0 : 1;
}
