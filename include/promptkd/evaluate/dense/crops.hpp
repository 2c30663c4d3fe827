// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>
#include <promptkd/data/dataset.hpp>
#include <promptkd/evaluate/dense/boxes.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// The square around a box, black beyond the picture.
inline Image square_around(const Image& picture, const Box& box) {
    const auto x0 = static_cast<Index>(std::floor(box.x0)), y0 = static_cast<Index>(std::floor(box.y0));
    const auto x1 = static_cast<Index>(std::ceil(box.x1)), y1 = static_cast<Index>(std::ceil(box.y1));
    const Index side = std::max(x1 - x0, y1 - y0);
    const auto begin = [side](Index a, Index b) {
        return static_cast<Index>(std::floor(static_cast<double>(a + b - side) / 2));
    };
    const Index left = begin(x0, x1), top = begin(y0, y1);
    Image out(side, side);
    for (Index y = std::max<Index>(0, -top); y < side && top + y < picture.height; ++y) {
        const Index first = std::max<Index>(0, -left), last = std::min(side, picture.width - left);
        if (last > first)
            std::copy_n(picture.row(top + y) + 3 * (left + first), 3 * (last - first), out.row(y) + 3 * first);
    }
    return out;
}

/// The square around a box of a picture.
struct Crop {
    Index picture = 0;  ///< position in the data set of the pictures
    Box box;            ///< what is in the middle
};

/// Crops of pictures as images of their own. The pictures that were decoded last stay in memory: crops of one picture
/// stand one behind the other.
class CropSource final : public ImageSource {
public:
    /// Of the pictures of a data set.
    CropSource(Dataset pictures, std::vector<Crop> crops) : pictures_(std::move(pictures)), crops_(std::move(crops)) {}

    Index size() const override { return static_cast<Index>(crops_.size()); }
    std::string name(Index i) const override { return pictures_.item_name(crop(i).picture); }
    void load(Index i, Image& out) const override { out = square_around(*picture(crop(i).picture), crop(i).box); }

private:
    const Crop& crop(Index i) const { return crops_.at(static_cast<std::size_t>(i)); }

    std::shared_ptr<const Image> picture(Index i) const {
        {
            const std::lock_guard lock(mutex_);
            for (const auto& [number, image] : recent_)
                if (number == i) return image;
        }
        auto image = std::make_shared<const Image>(pictures_.load(i));
        const std::lock_guard lock(mutex_);
        constexpr std::size_t kept = 4;
        if (recent_.size() == kept) recent_.erase(recent_.begin());
        recent_.emplace_back(i, image);
        return image;
    }

    Dataset pictures_;
    std::vector<Crop> crops_;
    mutable std::mutex mutex_;
    mutable std::vector<std::pair<Index, std::shared_ptr<const Image>>> recent_;
};

/// Crops as a data set without labels.
inline Dataset crops_of(const Dataset& pictures, const std::vector<Crop>& crops) {
    Dataset data;
    data.name = "crops of " + pictures.name;
    data.class_names = pictures.class_names;
    for (std::size_t i = 0; i < crops.size(); ++i) data.items.push_back({static_cast<Index>(i), -1});
    data.source = std::make_shared<CropSource>(pictures, crops);
    return data;
}

}  // namespace promptkd
