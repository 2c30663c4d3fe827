// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/core/rng.hpp>
#include <promptkd/data/dataset.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Pictures of several items on black: small grey images of a data set, each of another class, at random places without
/// overlap. A function of these numbers alone.
struct SceneSpec {
    std::uint64_t seed = 1;           ///< of the random numbers
    Index first = 0, count = 0;       ///< images of the data set that are used: [first, first + count)
    Index width = 112, height = 112;  ///< pixels of the canvas
    Index least = 3, most = 5;        ///< items of a scene
    int threshold = 16;               ///< a pixel above it belongs to the item
};

/// One of them.
struct Scene {
    Index height = 0, width = 0;     ///< pixels
    std::vector<std::uint8_t> grey;  ///< (height, width): the picture
    std::vector<std::uint8_t> mask;  ///< (height, width): 0, or class + 1
    std::vector<std::array<Index, 4>>
        boxes;                  ///< of each item: left, top, right, bottom around its pixels, end exclusive
    std::vector<Index> labels;  ///< of each item: its class
    std::vector<Index> items;   ///< of each item: its image

    /// The picture in three equal channels.
    Image image() const {
        Image out(height, width);
        for (std::size_t i = 0; i < grey.size(); ++i)
            for (std::size_t c = 0; c < 3; ++c) out.pixels[3 * i + c] = grey[i];
        return out;
    }
};

namespace detail {

using Places = std::vector<std::pair<Index, Index>>;

/// Images of `n` items, each of another class.
inline std::vector<Index> choose_items(RandomStream& random, const Dataset& data, const SceneSpec& spec, Index n) {
    std::vector<Index> chosen;
    while (static_cast<Index>(chosen.size()) < n) {
        const Index i = spec.first + random.below(static_cast<std::uint32_t>(spec.count));
        const Index label = data.label(i);
        const bool is_new = std::none_of(chosen.begin(), chosen.end(), [&](Index c) { return data.label(c) == label; });
        if (is_new) chosen.push_back(i);
    }
    return chosen;
}

/// A left top corner (x, y) away from those of `places`, drawn up to 100 times; false: none was found.
inline bool place_item(RandomStream& random, const SceneSpec& spec, Index side, Places& places) {
    for (int attempt = 0; attempt < 100; ++attempt) {
        const Index x = random.below(static_cast<std::uint32_t>(spec.width - side + 1));
        const Index y = random.below(static_cast<std::uint32_t>(spec.height - side + 1));
        const bool free = std::all_of(places.begin(), places.end(), [&](const auto& p) {
            return std::abs(x - p.first) >= side || std::abs(y - p.second) >= side;
        });
        if (!free) continue;
        places.emplace_back(x, y);
        return true;
    }
    return false;
}

inline Places place_items(RandomStream& random, const SceneSpec& spec, Index side, std::size_t n) {
    for (;;) {
        Places places;
        while (places.size() < n && place_item(random, spec, side, places)) {
        }
        if (places.size() == n) return places;
    }
}

/// Copies an item to (x, y) and marks its pixels.
inline void paint(Scene& scene, const Image& item, std::pair<Index, Index> at, Index label, int threshold) {
    std::array<Index, 4> box{scene.width, scene.height, 0, 0};
    for (Index y = 0; y < item.height; ++y)
        for (Index x = 0; x < item.width; ++x) {
            const std::uint8_t value = item.row(y)[3 * x];
            const Index to_x = at.first + x, to_y = at.second + y;
            scene.grey[static_cast<std::size_t>(to_y * scene.width + to_x)] = value;
            if (value <= threshold) continue;
            scene.mask[static_cast<std::size_t>(to_y * scene.width + to_x)] = static_cast<std::uint8_t>(label + 1);
            box = {std::min(box[0], to_x), std::min(box[1], to_y), std::max(box[2], to_x + 1),
                   std::max(box[3], to_y + 1)};
        }
    scene.boxes.push_back(box);
    scene.labels.push_back(label);
}

}  // namespace detail

/// Throws Error where a scene cannot be made: too few images or classes, or items that do not fit.
inline void require_scenes(const SceneSpec& spec, const Dataset& data) {
    require(spec.first >= 0 && spec.count > 0 && spec.first + spec.count <= data.size(), "scenes of images ",
            spec.first, " to ", spec.first + spec.count - 1, ", but there are ", data.size());
    require(spec.least >= 1 && spec.least <= spec.most, "scenes of ", spec.least, " to ", spec.most, " items");
    std::vector<bool> seen(static_cast<std::size_t>(data.classes()), false);
    for (Index i = spec.first; i < spec.first + spec.count; ++i) seen[static_cast<std::size_t>(data.label(i))] = true;
    const Index classes = std::count(seen.begin(), seen.end(), true);
    require(spec.most <= classes, "scenes of up to ", spec.most,
            " items, each of another class, but the images are of ", classes, " classes");
    Image item;
    data.load(spec.first, item);
    require(item.height == item.width, "scenes take square images, not ", item.width, " x ", item.height);
    require(spec.width / item.width * (spec.height / item.height) >= spec.most, "a canvas of ", spec.width, " x ",
            spec.height, " pixels is too small for ", spec.most, " items of ", item.width, " x ", item.height);
}

/// Scene `index`. Random numbers: RandomStream(seed, index).
inline Scene render_scene(const SceneSpec& spec, const Dataset& data, Index index) {
    RandomStream random(spec.seed, static_cast<std::uint64_t>(index));
    const Index n = spec.least + random.below(static_cast<std::uint32_t>(spec.most - spec.least + 1));
    Scene scene;
    scene.height = spec.height;
    scene.width = spec.width;
    scene.grey.resize(static_cast<std::size_t>(spec.height * spec.width));
    scene.mask.resize(scene.grey.size());
    scene.items = detail::choose_items(random, data, spec, n);
    Image item;
    data.load(scene.items.front(), item);
    const detail::Places places = detail::place_items(random, spec, item.height, scene.items.size());
    for (std::size_t k = 0; k < scene.items.size(); ++k) {
        data.load(scene.items[k], item);
        detail::paint(scene, item, places[k], data.label(scene.items[k]), spec.threshold);
    }
    return scene;
}

}  // namespace promptkd
