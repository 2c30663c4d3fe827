// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/field_reader.hpp>
#include <promptkd/clip/preprocessing.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace promptkd {

/// open_clip's `preprocess_cfg`. Absent fields are CLIP's: shortest, bicubic, its mean and deviation; the size is the
/// model's, whatever the file says. Throws Error naming a field that is not followed.
inline Preprocessing open_clip_preprocessing(const nlohmann::json& config, const std::string& source) {
    detail::FieldReader fields(config, source);
    Preprocessing p = Preprocessing::clip(0);
    p.colours = ColourConversion::last;
    p.normalization.mean = fields.channels("mean", p.normalization.mean);
    p.normalization.deviation = fields.channels("std", p.normalization.deviation);
    detail::check_deviation(p.normalization, source);
    const std::string mode = fields.text("resize_mode", "shortest");
    if (mode != "shortest" && mode != "longest" && mode != "squash")
        fields.wrong("resize_mode", "shortest, longest or squash");
    p.resize = parse_resize_mode(mode);
    const std::string interpolation = fields.text("interpolation", "bicubic");
    try {
        p.interpolation = parse_interpolation(interpolation == "random" ? "bicubic" : interpolation);  // as open_clip
    } catch (const Error&) {
        fields.wrong("interpolation", "bicubic, bilinear or another filter of Pillow");
    }
    p.fill = fields.byte("fill_color", 0);
    if (fields.text("mode", "RGB") != "RGB") fields.wrong("mode", "RGB");
    fields.ignore({"size"});
    fields.require_all_read();
    return p;
}

namespace detail {

/// A kind of image processor of Hugging Face's, and what its absent fields mean.
struct ProcessorKind {
    std::string_view name;  ///< begins its type
    Index size;             ///< of the resize and of the crop
    bool square;            ///< resize to size × size; else the shorter side
    int filter;             ///< Pillow's number
    bool half;              ///< mean and deviation 0.5; else CLIP's
};

inline constexpr std::array<ProcessorKind, 4> processor_kinds{{{"CLIP", 224, false, 3, false},
                                                               {"Siglip", 224, true, 3, true},
                                                               {"ViT", 224, true, 2, true},
                                                               {"OwlViT", 768, true, 3, false}}};

/// The kind that a file belongs to: CLIP's where nothing is said.
inline const ProcessorKind& processor_kind(FieldReader& fields) {
    const std::string older = fields.text("feature_extractor_type", "CLIPImageProcessor");
    const std::string type = fields.text("image_processor_type", older);
    for (const ProcessorKind& kind : processor_kinds)
        for (const char* ending : {"ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor"})
            if (type == std::string(kind.name) + ending) return kind;
    fields.wrong(fields.has("image_processor_type") ? "image_processor_type" : "feature_extractor_type",
                 "an image processor of CLIP, Siglip, ViT or OwlViT");
}

/// What `size` or `crop_size` says: a number, {shortest_edge} or {height, width}.
struct ProcessorSize {
    Index shortest = 0, height = 0, width = 0;
};

inline ProcessorSize processor_size(FieldReader& fields, const char* key, bool square, Index fallback) {
    const ProcessorSize other = square ? ProcessorSize{0, fallback, fallback} : ProcessorSize{fallback, 0, 0};
    if (!fields.has(key)) return other;
    const nlohmann::json& value = fields.at(key);
    if (value.is_number()) {
        const Index n = fields.size(value, key);
        return square ? ProcessorSize{0, n, n} : ProcessorSize{n, 0, 0};
    }
    const auto only = [&](std::initializer_list<const char*> keys) {
        if (!value.is_object() || value.size() != keys.size()) return false;
        return std::all_of(keys.begin(), keys.end(), [&](const char* k) { return value.contains(k); });
    };
    if (only({"shortest_edge"})) return {fields.size(value.at("shortest_edge"), key), 0, 0};
    if (only({"height", "width"}))
        return {0, fields.size(value.at("height"), key), fields.size(value.at("width"), key)};
    fields.wrong(key, "a number, {\"shortest_edge\"} or {\"height\", \"width\"}");
}

inline Interpolation processor_filter(FieldReader& fields, int fallback) {
    constexpr Interpolation filters[] = {Interpolation::nearest, Interpolation::lanczos, Interpolation::bilinear,
                                         Interpolation::bicubic, Interpolation::box,     Interpolation::hamming};
    const double filter = fields.number("resample", fallback);
    if (filter < 0 || filter > 5 || filter != std::floor(filter))
        fields.wrong("resample", "a filter of Pillow, 0 to 5");
    return filters[static_cast<int>(filter)];
}

/// Resize, crop and the size of the result.
inline void read_processor_sizes(FieldReader& fields, const ProcessorKind& kind, Preprocessing& p) {
    const ProcessorSize size = processor_size(fields, "size", kind.square, kind.size);
    ProcessorSize crop = processor_size(fields, "crop_size", true, kind.size);
    if (crop.height == 0) crop = {0, crop.shortest, crop.shortest};
    p.crop = fields.flag("do_center_crop", !kind.square);
    const bool squash = size.height > 0;
    p.height = p.crop ? crop.height : squash ? size.height : size.shortest;
    p.width = p.crop ? crop.width : squash ? size.width : size.shortest;
    p.resize = !fields.flag("do_resize", true) ? ResizeMode::none : squash ? ResizeMode::squash : ResizeMode::shortest;
    if (p.resize == ResizeMode::none) return;
    const bool whole =
        squash ? size.height == p.height && size.width == p.width : size.shortest == std::min(p.height, p.width);
    if (whole) return;
    if (squash && size.height != size.width) fields.wrong("size", "a square, where a crop of another size follows");
    p.size = squash ? size.height : size.shortest;
}

}  // namespace detail

/// Hugging Face's `preprocessor_config.json`, or `processor_config.json` (the processor stands under
/// `image_processor`), in old and new forms, as the PIL processor computes it. Throws Error naming a field that is not
/// followed.
inline Preprocessing processor_preprocessing(const nlohmann::json& file, const std::string& source) {
    const bool nested = file.is_object() && file.contains("image_processor");
    detail::FieldReader fields(nested ? file.at("image_processor") : file, source);
    const detail::ProcessorKind& kind = detail::processor_kind(fields);
    Preprocessing p = Preprocessing::clip(0);
    p.rounding = CropRounding::floor;
    p.interpolation = detail::processor_filter(fields, kind.filter);
    detail::read_processor_sizes(fields, kind, p);
    const double rescale = fields.number("rescale_factor", p.rescale);
    p.rescale = fields.flag("do_rescale", true) ? rescale : 1;
    if (kind.half) p.normalization = {{0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}};
    const Normalization given{fields.channels("image_mean", p.normalization.mean),
                              fields.channels("image_std", p.normalization.deviation)};
    p.normalization = fields.flag("do_normalize", true) ? given : Normalization{{0, 0, 0}, {1, 1, 1}};
    detail::check_deviation(p.normalization, source);
    if (fields.flag("do_convert_rgb", true)) p.colours = ColourConversion::over_white;
    fields.ignore({"processor_class", "_valid_processor_keys", "_processor_class", "return_tensors", "device",
                   "data_format", "input_data_format", "disable_grouping", "default_to_square", "auto_map"});
    fields.require_all_read();
    return p;
}

/// The preprocessing in a JSON of any of its owners: open_clip's configuration with `preprocess_cfg`, or that alone;
/// Hugging Face's processor; to_json()'s. Nothing where the JSON says nothing about images. Throws Error naming a field
/// that is not followed.
inline std::optional<Preprocessing> parse_preprocessing(const nlohmann::json& json, const std::string& source) {
    const auto has = [&](std::initializer_list<const char*> keys) {
        return std::any_of(keys.begin(), keys.end(), [&](const char* key) { return json.contains(key); });
    };
    if (!json.is_object()) return std::nullopt;
    if (json.contains("preprocess_cfg")) return open_clip_preprocessing(json.at("preprocess_cfg"), source);
    if (has({"model_cfg", "vision_cfg", "vision_config", "text_config"})) return std::nullopt;
    if (has({"image_processor", "image_processor_type", "feature_extractor_type", "image_mean", "image_std",
             "do_resize", "do_normalize", "do_center_crop", "crop_size", "resample"}))
        return processor_preprocessing(json, source);
    if (json.contains("crop_rounding")) return preprocessing_from_json(json, source);
    if (has({"mean", "std", "resize_mode", "interpolation"})) return open_clip_preprocessing(json, source);
    return std::nullopt;
}

}  // namespace promptkd
