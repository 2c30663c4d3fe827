// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/tensor.hpp>
#include <promptkd/format/image.hpp>
#include <promptkd/image/augment.hpp>
#include <promptkd/image/preprocess.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../support/golden.hpp"

namespace promptkd::test {

namespace detail {

/// What a tensor's name asks for: "FILE/clip224_u8" = kind "clip", size 224, suffix "_u8".
struct PreprocessName {
    std::string kind, suffix;
    Index size = 0;

    explicit PreprocessName(const std::string& name) {
        const std::size_t digits = name.find_first_of("0123456789");
        if (digits == std::string::npos) return;
        const std::size_t end = std::min(name.find_first_not_of("0123456789", digits), name.size());
        kind = name.substr(0, digits);
        size = std::stoll(name.substr(digits, end - digits));
        suffix = name.substr(end);
    }
};

/// Grey levels by which two lists of values differ. PNG: none. JPEG decoders differ: mean ≤ 1, maximum ≤ 8.
inline void check_levels(const std::string& what, const std::vector<double>& got, const std::vector<double>& want,
                         bool exact, Report& report) {
    if (got.size() != want.size())
        return report.check(false, concat(what, ": ", got.size(), " values, expected ", want.size()));
    double sum = 0, largest = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        sum += std::abs(got[i] - want[i]);
        largest = std::max(largest, std::abs(got[i] - want[i]));
    }
    const double mean = sum / static_cast<double>(std::max<std::size_t>(got.size(), 1));
    const bool good = exact ? largest <= 1e-4 : mean <= 1 && largest <= 8;
    report.check(good, concat(what, ": differs by up to ", largest, " grey levels, ", mean, " on average"));
}

/// The normalised tensor as grey levels, so that one bound serves both forms.
inline std::vector<double> grey_levels(std::vector<float> chw, const Normalization& normalization) {
    std::vector<double> levels(chw.size());
    const std::size_t plane = chw.size() / 3;
    for (std::size_t i = 0; i < plane * 3; ++i) {
        const std::size_t c = i / plane;
        levels[i] = 255.0 * (double{chw[i]} * double{normalization.deviation[c]} + double{normalization.mean[c]});
    }
    return levels;
}

inline void check_preprocessed(const std::string& name, const HostTensor& want, const Image& image, bool exact,
                               const Normalization& normalization, Report& report) {
    if (want.dtype == DType::u8) {
        report.check(want.shape == Shape{image.height, image.width, 3}, name + ": shape " + to_string(want.shape));
        const std::vector<double> got(image.pixels.begin(), image.pixels.end());
        return check_levels(name, got, want.to<double>(), exact, report);
    }
    report.check(want.shape == Shape{3, image.height, image.width}, name + ": shape " + to_string(want.shape));
    std::vector<float> got(image.pixels.size());
    normalize_image(image, got.data(), normalization);
    if (exact) report.close(name, got, want.to<float>(), 1e-6);
    check_levels(name, grey_levels(got, normalization), grey_levels(want.to<float>(), normalization), exact, report);
}

inline Normalization read_normalization(const nlohmann::json& config) {
    Normalization normalization;
    if (config.contains("mean")) config.at("mean").get_to(normalization.mean);
    if (config.contains("std")) config.at("std").get_to(normalization.deviation);
    return normalization;
}

}  // namespace detail

/// Checks every tensor of a preprocessing case: `FILE/clip{n}` (normalised) and `FILE/clip{n}_u8` are the test
/// preprocessing at resolution n, `FILE/rrc{n}_u8` and `FILE/rrc{n}_flip_u8` the crop box of the metadata resized to
/// n and mirrored. Files, sizes and boxes come from the names and the metadata `config`.
inline void check_preprocess(const TensorMap& tensors, const std::string& image_directory, Report& report) {
    const auto metadata = tensors.metadata.find("config");
    require(metadata != tensors.metadata.end(), tensors.source, ": metadata 'config' is missing");
    const nlohmann::json config = nlohmann::json::parse(metadata->second);
    const Normalization normalization = detail::read_normalization(config);
    std::size_t checked = 0;
    for (const nlohmann::json& entry : config.at("images")) {
        const auto file = entry.at("file").get<std::string>();
        const Image image = read_image(image_directory + "/" + file);
        const bool exact = file.size() > 4 && file.substr(file.size() - 4) == ".png";
        for (const auto& item : tensors.tensors) {
            if (item.first.rfind(file + "/", 0) != 0) continue;
            const detail::PreprocessName name(item.first.substr(file.size() + 1));
            Image got;
            if (name.kind == "clip") {
                got = preprocess_image(image, name.size);
            } else {
                report.check(name.kind == "rrc", item.first + ": unknown kind of tensor");
                if (name.kind != "rrc") continue;
                const nlohmann::json& box = entry.at("rrc");
                got = resized_crop(image, CropBox{box.at("top"), box.at("left"), box.at("height"), box.at("width")},
                                   name.size);
                if (name.suffix.find("_flip") != std::string::npos) flip_horizontal(got);
            }
            detail::check_preprocessed(item.first, item.second, got, exact, normalization, report);
            ++checked;
        }
    }
    report.check(checked > 0 && checked == tensors.tensors.size(),
                 concat(tensors.source, ": ", checked, " of ", tensors.tensors.size(), " tensors belong to an image"));
}

}  // namespace promptkd::test
