// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace promptkd {

/// A rectangle in an image, in pixels: x0 ≤ x < x1, y0 ≤ y < y1.
struct Box {
    double x0 = 0, y0 = 0, x1 = 0, y1 = 0;  ///< left, top, right and bottom edge

    /// In pixels².
    double area() const { return std::max(0.0, x1 - x0) * std::max(0.0, y1 - y0); }
    /// Whether both are the same.
    bool operator==(const Box&) const = default;
};

/// A box of a class in an image, and how sure it is.
struct Detection {
    Index image = 0;   ///< number of the image
    Box box;           ///< where
    Index label = 0;   ///< class
    double score = 1;  ///< in [0, 1]
};

/// What is wrong with a box in an image of width × height pixels, inside which it is to lie with an extent; empty:
/// nothing.
inline std::string box_fault(const Box& box, Index width, Index height) {
    const bool finite =
        std::isfinite(box.x0) && std::isfinite(box.y0) && std::isfinite(box.x1) && std::isfinite(box.y1);
    if (!finite) return "a box holds NaN or infinity";
    const std::string text = concat("box ", box.x0, ", ", box.y0, ", ", box.x1, ", ", box.y1);
    if (!(box.x1 > box.x0 && box.y1 > box.y0))
        return text + " is inverted or empty; boxes are left, top, right, bottom";
    const bool inside =
        box.x0 >= 0 && box.y0 >= 0 && box.x1 <= static_cast<double>(width) && box.y1 <= static_cast<double>(height);
    return inside ? "" : concat(text, " lies outside the image of ", width, " x ", height, " pixels");
}

/// Throws Error, whose text begins with `what`, for a box with a fault.
inline void require_box(const Box& box, Index width, Index height, const std::string& what) {
    const std::string fault = box_fault(box, width, height);
    require(fault.empty(), what, ": ", fault);
}

/// Of the intersection of two boxes, in pixels².
inline double shared_area(const Box& a, const Box& b) {
    return Box{std::max(a.x0, b.x0), std::max(a.y0, b.y0), std::min(a.x1, b.x1), std::min(a.y1, b.y1)}.area();
}

/// Intersection over union of two boxes.
inline double box_overlap(const Box& a, const Box& b) {
    const double shared = shared_area(a, b), all = a.area() + b.area() - shared;
    return all > 0 ? shared / all : 0;
}

/// Indices of `scores` by falling score, ties in the order given.
inline std::vector<std::size_t> by_falling_score(const std::vector<double>& scores) {
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    return order;
}

/// Non-maximum suppression: the boxes that are kept, by falling score; each of them removes those that overlap it by
/// more than `threshold` and have a smaller score (torchvision's nms).
inline std::vector<std::size_t> non_maximum_suppression(const std::vector<Box>& boxes,
                                                        const std::vector<double>& scores, double threshold) {
    require(boxes.size() == scores.size(), scores.size(), " scores for ", boxes.size(), " boxes");
    std::vector<std::size_t> kept;
    for (const std::size_t i : by_falling_score(scores)) {
        const bool free = std::all_of(kept.begin(), kept.end(),
                                      [&](std::size_t k) { return !(box_overlap(boxes[i], boxes[k]) > threshold); });
        if (free) kept.push_back(i);
    }
    return kept;
}

/// The detections that remain when those of each image and class suppress each other, in the order given.
inline std::vector<Detection> suppress_by_class(const std::vector<Detection>& all, double threshold) {
    std::vector<double> scores;
    for (const Detection& one : all) scores.push_back(one.score);
    std::vector<std::size_t> kept;
    for (const std::size_t i : by_falling_score(scores)) {
        const bool free = std::all_of(kept.begin(), kept.end(), [&](std::size_t k) {
            return all[k].image != all[i].image || all[k].label != all[i].label ||
                   !(box_overlap(all[i].box, all[k].box) > threshold);
        });
        if (free) kept.push_back(i);
    }
    std::sort(kept.begin(), kept.end());
    std::vector<Detection> out;
    for (const std::size_t i : kept) out.push_back(all[i]);
    return out;
}

}  // namespace promptkd
