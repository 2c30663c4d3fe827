// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/dense/boxes.hpp>

#include <optional>
#include <vector>

namespace promptkd {

/// Average precision of detections as pycocotools computes it: per class and at each threshold of the IoU, the mean of
/// the monotone precision at the recalls 0, 0.01 … 1.
struct AveragePrecision {
    std::vector<std::optional<double>> ap50;  ///< of each class at IoU 0.5; nothing for a class that no box is of
    std::vector<std::optional<double>> ap;    ///< of each class, mean over the thresholds 0.5, 0.55 … 0.95

    /// Mean over the classes that boxes are of.
    static double mean(const std::vector<std::optional<double>>& values) {
        double total = 0;
        Index count = 0;
        for (const std::optional<double>& value : values)
            if (value) {
                total += *value;
                ++count;
            }
        return count > 0 ? total / static_cast<double>(count) : 0;
    }
};

namespace detail {

/// Whether each of `found` (by falling score) takes a true box that is still free, the one with the largest overlap of
/// at least `threshold`; of equal ones the last, as pycocotools does.
inline std::vector<bool> match(const std::vector<Detection>& found, const std::vector<Detection>& truth,
                               double threshold) {
    std::vector<bool> taken(truth.size(), false), hits;
    for (const Detection& one : found) {
        double best = std::min(threshold, 1 - 1e-10);
        std::optional<std::size_t> hit;
        for (std::size_t k = 0; k < truth.size(); ++k) {
            if (taken[k] || truth[k].image != one.image) continue;
            const double overlap = box_overlap(one.box, truth[k].box);
            if (overlap < best) continue;
            best = overlap;
            hit = k;
        }
        if (hit) taken[*hit] = true;
        hits.push_back(hit.has_value());
    }
    return hits;
}

/// The mean of the monotone precision at 101 recalls, of hits by falling score among `positives` true boxes.
inline double precision_at_recalls(const std::vector<bool>& hits, std::size_t positives) {
    std::vector<double> precision, recall;
    double right = 0;
    for (std::size_t i = 0; i < hits.size(); ++i) {
        right += hits[i] ? 1 : 0;
        precision.push_back(right / static_cast<double>(i + 1));
        recall.push_back(right / static_cast<double>(positives));
    }
    for (std::size_t i = precision.size(); i-- > 1;) precision[i - 1] = std::max(precision[i - 1], precision[i]);
    double total = 0;
    for (int r = 0; r <= 100; ++r) {
        const double at = r / 100.0;
        const auto first = std::lower_bound(recall.begin(), recall.end(), at);
        if (first != recall.end()) total += precision[static_cast<std::size_t>(first - recall.begin())];
    }
    return total / 101;
}

}  // namespace detail

/// Of `found` against the true boxes `truth` (whose scores are not read), classes 0 … classes − 1. Of each image and
/// class the 100 detections with the largest scores count, as in COCO. Throws Error for a class beyond.
inline AveragePrecision average_precision(const std::vector<Detection>& found, const std::vector<Detection>& truth,
                                          Index classes) {
    for (const std::vector<Detection>* all : {&found, &truth})
        for (const Detection& one : *all)
            require(one.label >= 0 && one.label < classes, "a box is of class ", one.label, ", but there are ", classes,
                    " classes");
    AveragePrecision out;
    for (Index c = 0; c < classes; ++c) {
        std::vector<Detection> own, boxes;
        for (const Detection& one : found)
            if (one.label == c) own.push_back(one);
        for (const Detection& one : truth)
            if (one.label == c) boxes.push_back(one);
        std::stable_sort(own.begin(), own.end(), [](const Detection& a, const Detection& b) {
            return a.score > b.score || (a.score == b.score && a.image < b.image);
        });
        if (boxes.empty()) {
            out.ap50.emplace_back();
            out.ap.emplace_back();
            continue;
        }
        double total = 0;
        for (int t = 0; t < 10; ++t) {
            const double value = detail::precision_at_recalls(detail::match(own, boxes, 0.5 + 0.05 * t), boxes.size());
            if (t == 0) out.ap50.emplace_back(value);
            total += value;
        }
        out.ap.emplace_back(total / 10);
    }
    return out;
}

}  // namespace promptkd
