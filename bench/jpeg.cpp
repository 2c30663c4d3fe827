// SPDX-License-Identifier: Apache-2.0
// Images a second on one core: JPEG files in memory decoded and preprocessed to 224 x 224, by each decoder of this
// build. bench/jpeg.py makes the files and times Pillow beside it.
//   jpeg [--seconds S] [--resolution R] FILE…
#include <promptkd/format/image.hpp>
#include <promptkd/image/augment.hpp>
#include <promptkd/image/preprocess.hpp>
#if defined(PROMPTKD_WITH_JPEG_TURBO)
#include <promptkd/format/jpeg_turbo.hpp>
#endif

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

namespace {

using namespace promptkd;
using Clock = std::chrono::steady_clock;

struct Options {
    std::vector<std::string> files;
    double seconds = 3;
    Index resolution = 224;
};

Image decode(const std::string& bytes) {
    return decode_image(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), "image");
}

/// Calls `f(i)` over all files again and again for that long; images a second.
template <class F>
double rate(const Options& o, F&& f) {
    for (std::size_t i = 0; i < o.files.size(); ++i) f(i);
    std::size_t done = 0;
    const auto start = Clock::now();
    double elapsed = 0;
    while (elapsed < o.seconds) {
        for (std::size_t i = 0; i < o.files.size(); ++i) {
            f(i);
            ++done;
        }
        elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    }
    return static_cast<double>(done) / elapsed;
}

void measure(const char* decoder, const Options& o, const std::vector<std::string>& bytes) {
    std::vector<Image> images;
    for (const std::string& file : bytes) images.push_back(decode(file));
    std::vector<float> pixels(static_cast<std::size_t>(3 * o.resolution * o.resolution));
    const double all = rate(
        o, [&](std::size_t i) { normalize_image(preprocess_image(decode(bytes[i]), o.resolution), pixels.data()); });
    const double decoding = rate(o, [&](std::size_t i) { decode(bytes[i]); });
    const double resizing = rate(o, [&](std::size_t i) { preprocess_image(images[i], o.resolution); });
    const double normalizing = rate(
        o, [&](std::size_t i) { normalize_image(crop(images[i], 0, 0, o.resolution, o.resolution), pixels.data()); });
    std::printf(
        "{\"decoder\": \"%s\", \"images_per_second\": %.1f, \"decode\": %.1f, \"resize_crop\": %.1f, \"normalize\": "
        "%.1f}\n",
        decoder, all, decoding, resizing, normalizing);
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    Options o;
    CLI::App app{"Decoding and preprocessing of JPEG files, images a second on one core."};
    app.add_option("files", o.files, "JPEG files")->required()->check(CLI::ExistingFile);
    app.add_option("--seconds", o.seconds, "of each figure")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--resolution", o.resolution, "of the model")->check(CLI::PositiveNumber)->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        std::vector<std::string> bytes;
        for (const std::string& file : o.files) bytes.push_back(promptkd::read_file_bytes(file, std::size_t{1} << 28));
        measure("stb_image", o, bytes);
#if defined(PROMPTKD_WITH_JPEG_TURBO)
        promptkd::use_jpeg_turbo();
        measure("libjpeg-turbo", o, bytes);
#endif
    } catch (const std::exception& error) {
        std::cerr << "jpeg: " << error.what() << std::endl;
        return 1;
    }
    return 0;
}
