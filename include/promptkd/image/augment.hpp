// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/core/rng.hpp>
#include <promptkd/image/preprocess.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

namespace promptkd {

/// A rectangle of an image, in pixels.
struct CropBox {
    Index top = 0, left = 0, height = 0, width = 0;  ///< in pixels of the source image
};

/// Draws the box of torchvision's RandomResizedCrop: area uniform in 0.08–1 of the image's, log of width/height uniform
/// in log 3/4 – log 4/3, position uniform; after 10 boxes that do not fit, the largest central box whose ratio is in
/// range. Requires height, width ≥ 1.
inline CropBox random_crop_box(RandomStream& random, Index height, Index width) {
    require(height >= 1 && width >= 1, "random_crop_box: the image is empty");
    constexpr double min_ratio = 3.0 / 4.0, max_ratio = 4.0 / 3.0;
    const double area = static_cast<double>(height) * static_cast<double>(width);
    for (int attempt = 0; attempt < 10; ++attempt) {
        const double target = area * random.uniform(0.08, 1.0);
        const double ratio = std::exp(random.uniform(std::log(min_ratio), std::log(max_ratio)));
        const Index w = std::lrint(std::sqrt(target * ratio)), h = std::lrint(std::sqrt(target / ratio));
        if (w < 1 || h < 1 || w > width || h > height) continue;
        const Index top = random.below(static_cast<std::uint32_t>(height - h + 1));
        const Index left = random.below(static_cast<std::uint32_t>(width - w + 1));
        return {top, left, h, w};
    }
    const double ratio = static_cast<double>(width) / static_cast<double>(height);
    CropBox box{0, 0, height, width};
    if (ratio < min_ratio) box.height = std::lrint(static_cast<double>(width) / min_ratio);
    if (ratio > max_ratio) box.width = std::lrint(static_cast<double>(height) * max_ratio);
    box.top = (height - box.height) / 2;
    box.left = (width - box.width) / 2;
    return box;
}

/// The box's pixels resized to resolution × resolution (bicubic, as image/preprocess.hpp).
inline Image resized_crop(const Image& image, const CropBox& box, Index resolution) {
    return resized_crop(image, box.top, box.left, box.height, box.width, resolution);
}

/// The box's pixels resized to what `p` makes, with its interpolation: torchvision's `resized_crop`.
inline Image resized_crop(const Image& image, const CropBox& box, const Preprocessing& p) {
    const detail::Rect source{box.top, box.left, box.height, box.width};
    detail::check_rect(image, source, "resized_crop");
    detail::check_target(image, p.height, p.width, "resized_crop");
    const detail::Rect all{0, 0, p.height, p.width};
    return detail::resample_stored(image, source, p.height, p.width, all, p.interpolation, p.colours);
}

/// Mirrors the image, left to right.
inline void flip_horizontal(Image& image) {
    for (Index y = 0; y < image.height; ++y) {
        std::uint8_t* const row = image.row(y);
        for (Index left = 0, right = image.width - 1; left < right; ++left, --right)
            std::swap_ranges(row + left * 3, row + left * 3 + 3, row + right * 3);
    }
}

/// What happens to a training image: `random_resized_crop` = random crop, resized, then a flip with p = 0.5 (the
/// published recipes); `flip` = the test preprocessing, then the flip; `none` = the test preprocessing.
enum class Augmentation { random_resized_crop, flip, none };

/// Augmentation called `name`: "rrc", "flip" or "none". Throws Error listing the choices for any other.
inline Augmentation parse_augmentation(const std::string& name) {
    if (name == "rrc") return Augmentation::random_resized_crop;
    if (name == "flip") return Augmentation::flip;
    if (name == "none") return Augmentation::none;
    fail("unknown augmentation '", name, "'; the choices are rrc, flip, none");
}

/// Name that parse_augmentation reads back.
inline const char* to_string(Augmentation augmentation) {
    switch (augmentation) {
        case Augmentation::random_resized_crop:
            return "rrc";
        case Augmentation::flip:
            return "flip";
        default:
            return "none";
    }
}

/// The image of p.height × p.width that training sees of image number `image_index` in `epoch`. A pure function of its
/// arguments: the draws are named by (seed, image_index, epoch), so neither the number of loader threads nor the order
/// of the images changes a pixel, and encoders of different preprocessing see the same box and the same flip.
inline Image augment_image(const Image& image, Augmentation augmentation, const Preprocessing& p, std::uint64_t seed,
                           std::uint64_t image_index, std::uint32_t epoch) {
    RandomStream random(seed, image_index, epoch);
    Image out = augmentation == Augmentation::random_resized_crop
                    ? resized_crop(image, random_crop_box(random, image.height, image.width), p)
                    : preprocess_image(image, p);
    if (augmentation != Augmentation::none && random.uniform() < 0.5) flip_horizontal(out);
    return out;
}

/// Whether augment_image() with Augmentation::flip mirrors this image in this epoch.
inline bool is_mirrored(std::uint64_t seed, std::uint64_t image_index, std::uint32_t epoch) {
    return RandomStream(seed, image_index, epoch).uniform() < 0.5;
}

}  // namespace promptkd
