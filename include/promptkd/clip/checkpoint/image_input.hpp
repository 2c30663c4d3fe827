// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/preprocessing.hpp>
#include <promptkd/clip/checkpoint/weights_folder.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// What the user says about an encoder's images, in place of what the files say. Empty and 0: nothing.
struct ImageInputOptions {
    std::string file;           ///< JSON that parse_preprocessing() knows, in place of the one beside the weights
    std::vector<double> mean;   ///< of red, green and blue in [0, 1], or one for all
    std::vector<double> std;    ///< standard deviation, likewise
    std::string interpolation;  ///< see parse_interpolation()
    std::string resize_mode;    ///< see parse_resize_mode()
    Index resize_to = 0;        ///< the side that the resize fits, before the crop
    std::string convert_rgb;    ///< see parse_colour_conversion()
    std::optional<int> fill;    ///< of what a `longest` resize leaves empty
    Index resolution = 0;       ///< of the encoder, whose positions are interpolated, and of its images

    /// Whether all of both is the same.
    friend bool operator==(const ImageInputOptions&, const ImageInputOptions&) = default;
};

namespace detail {

inline nlohmann::json read_json(const std::string& path) {
    nlohmann::json json = nlohmann::json::parse(read_file(path, std::size_t{16} << 20), nullptr, false);
    require(!json.is_discarded(), path, ": not JSON");
    return json;
}

/// JSON files that may say what the images of the model in `source` (a file or a folder) go through, best first;
/// `config`: the model's JSON where it was named. A processor_config.json without an image processor says nothing.
inline std::vector<std::string> preprocessing_candidates(const std::string& source, const std::string& config,
                                                         bool huggingface) {
    const std::filesystem::path path(source);
    const std::filesystem::path folder = is_folder(source) ? path : path.parent_path();
    std::vector<std::string> files;
    const auto offer = [&](const std::filesystem::path& file) {
        if (is_file(file.string())) files.push_back(file.string());
    };
    const auto offer_processor = [&](const std::filesystem::path& where) {
        const std::string newer = (where / "processor_config.json").string();
        if (is_file(newer) && read_json(newer).contains("image_processor")) files.push_back(newer);
        offer(where / "preprocessor_config.json");
    };
    if (!config.empty()) offer(config);
    if (!is_folder(source)) offer(std::filesystem::path(path).replace_extension(".json"));
    if (huggingface) offer_processor(folder);
    offer(folder / "open_clip_config.json");
    if (!huggingface) offer_processor(folder);
    if (!config.empty()) offer_processor(std::filesystem::path(config).parent_path());
    return files;
}

/// One value for all channels, or three.
inline std::array<float, 3> channel_values(const std::vector<double>& values, const char* what) {
    require(values.size() == 1 || values.size() == 3, what, " of the images: ", values.size(),
            " values, expected three (red, green, blue), or one for all");
    std::array<float, 3> out{};
    for (std::size_t c = 0; c < 3; ++c) out[c] = static_cast<float>(values[values.size() == 3 ? c : 0]);
    return out;
}

/// `p` with what `options` say. Another resolution scales the side of the resize.
inline Preprocessing overridden(Preprocessing p, const ImageInputOptions& options) {
    if (!options.mean.empty()) p.normalization.mean = channel_values(options.mean, "the mean");
    if (!options.std.empty()) p.normalization.deviation = channel_values(options.std, "the standard deviation");
    check_deviation(p.normalization, "the images");
    if (!options.interpolation.empty()) p.interpolation = parse_interpolation(options.interpolation);
    if (!options.convert_rgb.empty()) p.colours = parse_colour_conversion(options.convert_rgb);
    if (!options.resize_mode.empty()) {
        p.resize = parse_resize_mode(options.resize_mode);
        p.crop = true;
        p.size = 0;
    }
    if (options.resolution > 0) {
        const Index before = std::min(p.height, p.width);
        if (before > 0) p.size = (p.size * options.resolution + before / 2) / before;
        p.height = options.resolution;
        p.width = options.resolution;
    }
    if (options.resize_to > 0) {
        p.size = options.resize_to;
        p.crop = true;
    }
    if (options.fill) {
        require(*options.fill >= 0 && *options.fill <= 255, "the fill colour of the images is ", *options.fill,
                ", expected 0 to 255");
        p.fill = static_cast<std::uint8_t>(*options.fill);
    }
    return p;
}

/// What the files say about the images of `map`: the file that was named, the metadata, or the best of `candidates`;
/// `usual` where they say nothing.
inline Preprocessing preprocessing_said(const TensorMap& map, const std::string& file,
                                        const std::vector<std::string>& candidates, const Preprocessing& usual) {
    if (!file.empty()) {
        const std::optional<Preprocessing> given = parse_preprocessing(read_json(file), file);
        require(given.has_value(), file,
                ": says nothing about images (neither a preprocessor_config.json nor open_clip's preprocess_cfg)");
        return *given;
    }
    const auto own = map.metadata.find(preprocessing_key);
    if (own != map.metadata.end())
        return preprocessing_from_json(nlohmann::json::parse(own->second, nullptr, false), map.source);
    for (const std::string& path : candidates)
        if (const auto found = parse_preprocessing(read_json(path), path)) return *found;
    return usual;
}

}  // namespace detail

}  // namespace promptkd
