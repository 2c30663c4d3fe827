// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/field_reader.hpp>
#include <promptkd/core/tensor.hpp>
#include <promptkd/image/preprocess.hpp>

#include <nlohmann/json.hpp>

#include <string>

namespace promptkd {

/// Metadata under which the tensors of a model carry what their images go through, where that is not CLIP's: the JSON
/// of to_json().
inline constexpr const char* preprocessing_key = "image_preprocessing";

namespace detail {

inline void check_deviation(const Normalization& n, const std::string& source) {
    for (const float d : n.deviation)
        require(d > 0, source, ": a standard deviation of the preprocessing is ", d, ", expected a positive number");
}

inline const char* name_of(CropRounding rounding) { return rounding == CropRounding::floor ? "floor" : "half_to_even"; }

}  // namespace detail

/// All of `p`; a size that is not said is left out.
inline nlohmann::json to_json(const Preprocessing& p) {
    nlohmann::json json = {{"resize", name_of(p.resize)},
                           {"interpolation", name_of(p.interpolation)},
                           {"crop", p.crop},
                           {"crop_rounding", detail::name_of(p.rounding)},
                           {"fill", p.fill},
                           {"rescale", p.rescale},
                           {"mean", p.normalization.mean},
                           {"std", p.normalization.deviation}};
    if (p.colours != ColourConversion::first) json["convert_rgb"] = name_of(p.colours);
    if (p.height > 0) json["height"] = p.height;
    if (p.width > 0) json["width"] = p.width;
    if (p.size > 0) json["size"] = p.size;
    return json;
}

/// What to_json() wrote. Throws Error naming `source` and the field that is wrong or not known.
inline Preprocessing preprocessing_from_json(const nlohmann::json& json, const std::string& source) {
    detail::FieldReader fields(json, source);
    Preprocessing p = Preprocessing::clip(0);
    p.height = fields.size("height", 0);
    p.width = fields.size("width", 0);
    p.size = fields.size("size", 0);
    p.resize = parse_resize_mode(fields.text("resize", "shortest"));
    p.interpolation = parse_interpolation(fields.text("interpolation", "bicubic"));
    p.crop = fields.flag("crop", true);
    const std::string rounding = fields.text("crop_rounding", "half_to_even");
    if (rounding != "half_to_even" && rounding != "floor") fields.wrong("crop_rounding", "half_to_even or floor");
    p.rounding = rounding == "floor" ? CropRounding::floor : CropRounding::half_to_even;
    p.fill = fields.byte("fill", 0);
    p.colours = parse_colour_conversion(fields.text("convert_rgb", "first"));
    p.rescale = fields.number("rescale", p.rescale);
    p.normalization.mean = fields.channels("mean", p.normalization.mean);
    p.normalization.deviation = fields.channels("std", p.normalization.deviation);
    detail::check_deviation(p.normalization, source);
    fields.require_all_read();
    return p;
}

/// The preprocessing that the metadata of `map` says, CLIP's where it says none, for an encoder of `resolution` pixels.
/// Throws Error when it is damaged or makes images of another size.
inline Preprocessing preprocessing_of(const TensorMap& map, Index resolution) {
    const auto found = map.metadata.find(preprocessing_key);
    if (found == map.metadata.end()) return Preprocessing::clip(resolution);
    const nlohmann::json json = nlohmann::json::parse(found->second, nullptr, false);
    require(!json.is_discarded(), map.source, ": metadata '", preprocessing_key, "' is not JSON");
    const Preprocessing p = preprocessing_from_json(json, map.source).at_resolution(resolution);
    require(p.height == resolution && p.width == resolution, map.source, ": its preprocessing makes images of ",
            p.height, "x", p.width, " pixels, but the image encoder takes ", resolution, "x", resolution,
            "; a resolution of ", p.height, " interpolates the encoder's positions, a preprocessing of its own decides",
            " otherwise");
    return p;
}

/// Puts `p` into the metadata; CLIP's, which is meant where none is said, leaves none.
inline void set_preprocessing(TensorMap& map, const Preprocessing& p) {
    map.metadata.erase(preprocessing_key);
    Preprocessing sizeless = p;
    sizeless.height = 0;
    sizeless.width = 0;
    if (sizeless == Preprocessing::clip(0)) return;
    map.metadata[preprocessing_key] = to_json(p).dump();
}

}  // namespace promptkd
