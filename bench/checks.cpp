// SPDX-License-Identifier: Apache-2.0
// What it costs to trust files: seconds of the checks that every command makes when it reads safetensors files, and of
// the identity that a run stores of weights and images.
//   checks [--repeat 5] [--data NAME:ROOT] [FILE…]      prints one JSON object a file, and one of the images
#include <promptkd/data/open.hpp>
#include <promptkd/experiment/inputs.hpp>
#include <promptkd/format/finite.hpp>
#include <promptkd/format/safetensors.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>

namespace promptkd::bench {

namespace {

/// The median of the seconds that `f` takes, after one call that is not counted.
template <class F>
double median_seconds(int repeat, const F& f) {
    std::vector<double> seconds;
    f();
    for (int i = 0; i < repeat; ++i) {
        const auto start = std::chrono::steady_clock::now();
        f();
        seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 2];
}

nlohmann::json checks_of_file(const std::string& path, int repeat) {
    const TensorMap map = read_safetensors(path);
    std::size_t bytes = 0;
    for (const auto& named : map.tensors) bytes += named.second.size_bytes();
    return {{"file", path},
            {"megabytes", static_cast<double>(bytes) / 1e6},
            {"digest", median_seconds(repeat, [&] { (void)digest_of(map); })},
            {"finite", median_seconds(repeat, [&] { require_finite(map); })},
            {"identity", median_seconds(repeat, [&] { (void)weights_identity(map); })}};
}

nlohmann::json checks_of_images(const std::string& source, int repeat) {
    const Dataset data = open_dataset(source, Split::train);
    const std::string root = parse_data_spec(source).root;
    return {{"data", source},
            {"images", data.size()},
            {"identity", median_seconds(repeat, [&] { (void)images_identity(data, root, false); })},
            {"identity_with_contents", median_seconds(1, [&] { (void)images_identity(data, root, true); })}};
}

}  // namespace

}  // namespace promptkd::bench

int main(int argc, char** argv) {
    std::vector<std::string> files;
    std::string data;
    int repeat = 5;
    CLI::App app{"Seconds of the checks of files and images"};
    app.add_option("FILE", files, "safetensors files");
    app.add_option("--data", data, "NAME:ROOT, images");
    app.add_option("--repeat", repeat, "measurements, of which the median counts")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        for (const std::string& file : files) std::cout << promptkd::bench::checks_of_file(file, repeat) << std::endl;
        if (!data.empty()) std::cout << promptkd::bench::checks_of_images(data, repeat) << std::endl;
    } catch (const std::exception& error) {
        std::cerr << "checks: " << error.what() << std::endl;
        return 1;
    }
}
