// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/image_input.hpp>
#include <promptkd/clip/checkpoint/model_config.hpp>
#include <promptkd/clip/checkpoint/positions.hpp>
#include <promptkd/clip/config.hpp>

#include <functional>
#include <string>
#include <vector>

namespace promptkd {

/// Metadata of a model whose positions were interpolated: "14 x 14", the grid that they stood for.
inline constexpr const char* positions_from_key = "positions_interpolated_from";

}  // namespace promptkd

namespace promptkd::detail {

/// Pixels a side of an image that no whole number of patches covers; metadata of the tower's description.
inline constexpr const char* odd_image_size_key = "vision_image_size";

/// The vision transformer, for the images that its positions are for.
inline VisionConfig config_of_positions(const TensorMap& map) {
    TensorMap whole = map;
    whole.metadata.erase(odd_image_size_key);
    return vision_config(whole);
}

/// Whose way of interpolating positions a model follows: that of the library whose names it has.
inline PositionFilter position_filter(const TensorMap& map, schema::Layout layout) {
    if (layout == schema::Layout::huggingface || layout == schema::Layout::siglip) return PositionFilter::bicubic;
    const auto probe =
        schema::find(schema::vision_transformer, schema::Role::pool_probe, schema::Part::weight, std::nullopt);
    const bool pe = layout == schema::Layout::openai && map.contains(schema::name_of(*probe));  // Meta's own names
    return pe ? PositionFilter::bilinear : PositionFilter::bicubic_antialiased;
}

/// The positions for images of `resolution` pixels. Throws Error for another encoder than a vision transformer.
inline void interpolate_positions(TensorMap& map, schema::Layout layout, Index resolution) {
    require(schema::has_vision_transformer(map), map.source,
            ": another resolution needs the positions of a vision transformer, which this model has not");
    const VisionConfig c = config_of_positions(map);
    require(resolution >= c.patch, map.source, ": a resolution of ", resolution, " pixels is less than a patch of ",
            c.patch);
    const std::string name = schema::name_of(*schema::find(schema::vision_transformer, schema::Role::positions));
    if (resolution / c.patch != c.grid) {
        map.metadata[positions_from_key] = concat(c.grid, " x ", c.grid);
        map.tensors[name] = resize_positions(map.at(name), c.positions() - c.cells(), resolution / c.patch,
                                             position_filter(map, layout));
    }
    map.metadata.erase(odd_image_size_key);
    if (resolution % c.patch != 0) map.metadata[odd_image_size_key] = std::to_string(resolution);
}

/// A configuration for another image size than the positions': open_clip interpolates them, Hugging Face refuses.
/// Damaged towers are left to those who read them.
inline void follow_image_size(TensorMap& map, schema::Layout layout,
                              const std::function<void(const std::string&)>& warn) {
    const Index said = metadata_integer(map, image_size_key, 0);
    map.metadata.erase(image_size_key);
    if (said == 0 || !schema::has_vision_transformer(map)) return;
    VisionConfig c;
    try {
        c = config_of_positions(map);
    } catch (const Error&) {
        return;
    }
    if (said / c.patch == c.grid) return;
    require(layout != schema::Layout::huggingface && layout != schema::Layout::siglip, map.source,
            ": its configuration says image_size ", said, ", but its positions are those of ", c.grid * c.patch,
            " pixels");
    interpolate_positions(map, layout, said);
    if (warn)
        warn(concat(map.source, ": its positions of ", c.grid * c.patch, " pixels are interpolated for the image_size ",
                    said, " of its configuration, as open_clip does"));
}

/// What images of a model go through where no file says: CLIP's, SigLIP's, and Meta's of its Perception Encoder.
inline Preprocessing usual_preprocessing(const TensorMap& map, schema::Layout layout) {
    Preprocessing p = Preprocessing::clip(0);
    const bool pe = position_filter(map, layout) == PositionFilter::bilinear;
    if (!pe && layout != schema::Layout::siglip) return p;
    p.resize = ResizeMode::squash;
    if (pe) p.interpolation = Interpolation::bilinear;
    p.colours = pe ? ColourConversion::last : ColourConversion::over_white;
    p.normalization = {{0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}};
    return p;
}

/// Puts what the images go through into the metadata, and brings the positions to the resolution that is asked for.
/// `files`: where the preprocessing may stand, best first.
inline void use_image_input(const ImageInputOptions& options, schema::Layout layout,
                            const std::vector<std::string>& files, const std::function<void(const std::string&)>& warn,
                            TensorMap& map) {
    if (schema::image_architecture(map) == nullptr) return;
    if (options.resolution > 0) {
        map.metadata.erase(image_size_key);
        interpolate_positions(map, layout, options.resolution);
    } else {
        follow_image_size(map, layout, warn);
    }
    const Preprocessing said = preprocessing_said(map, options.file, files, usual_preprocessing(map, layout));
    set_preprocessing(map, overridden(said, options));
}

/// A bundle carries what its student's images go through; the options decide otherwise.
inline void use_bundle_input(const ImageInputOptions& options, TensorMap& bundle) {
    if (options == ImageInputOptions()) return;
    require(options.resolution == 0, bundle.source,
            ": a student bundle keeps the resolution that it was distilled with");
    set_preprocessing(bundle,
                      overridden(preprocessing_said(bundle, options.file, {}, Preprocessing::clip(0)), options));
}

}  // namespace promptkd::detail
