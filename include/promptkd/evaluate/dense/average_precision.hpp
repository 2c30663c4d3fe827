// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/dense/boxes.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
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

/// A true box of a class in an image. Of a crowd, a region with many objects, any number of detections may be: they
/// count neither as right nor as wrong (COCO's iscrowd).
struct TrueBox {
    Index image = 0;     ///< number of the image
    Box box;             ///< where
    Index label = 0;     ///< class
    bool crowd = false;  ///< whether it is a region of many
};

namespace detail {

/// Detections of a class and an image that count, at most: those with the largest scores.
inline constexpr std::size_t most_detections = 100;

/// What has become of a detection.
enum class Verdict { wrong, right, left_out };

/// A class in one image: detections by falling score, true boxes, those of crowds behind the others.
struct ImageBoxes {
    std::vector<Detection> found;  ///< at most most_detections once they are sorted
    std::vector<TrueBox> truth;    ///< what they are compared with

    /// Puts both in order, ties as they were.
    void sort() {
        std::stable_sort(found.begin(), found.end(),
                         [](const Detection& a, const Detection& b) { return a.score > b.score; });
        if (found.size() > most_detections) found.resize(most_detections);
        std::stable_partition(truth.begin(), truth.end(), [](const TrueBox& one) { return !one.crowd; });
    }
};

/// Intersection over union, over the detection alone where the true box is a crowd's.
inline double true_overlap(const Box& found, const TrueBox& truth) {
    if (!truth.crowd) return box_overlap(found, truth.box);
    return found.area() > 0 ? shared_area(found, truth.box) / found.area() : 0;
}

/// Each detection takes the true box that is still free, or a crowd's, with the largest overlap of at least
/// `threshold`; of equal ones the last, as pycocotools does. Crowds come after all others.
inline std::vector<Verdict> match(const ImageBoxes& boxes, double threshold) {
    std::vector<bool> taken(boxes.truth.size(), false);
    std::vector<Verdict> out;
    for (const Detection& one : boxes.found) {
        double best = std::min(threshold, 1 - 1e-10);
        std::optional<std::size_t> hit;
        for (std::size_t k = 0; k < boxes.truth.size(); ++k) {
            const TrueBox& truth = boxes.truth[k];
            if (truth.crowd && hit && !boxes.truth[*hit].crowd) break;
            if (taken[k] && !truth.crowd) continue;
            const double overlap = true_overlap(one.box, truth);
            if (overlap < best) continue;
            best = overlap;
            hit = k;
        }
        if (hit) taken[*hit] = true;
        out.push_back(!hit ? Verdict::wrong : boxes.truth[*hit].crowd ? Verdict::left_out : Verdict::right);
    }
    return out;
}

/// The mean of the monotone precision at 101 recalls, of verdicts by falling score among `positives` true boxes.
inline double precision_at_recalls(const std::vector<Verdict>& verdicts, std::size_t positives) {
    std::vector<double> precision, recall;
    double right = 0, all = 0;
    for (const Verdict verdict : verdicts) {
        if (verdict == Verdict::right) ++right;
        if (verdict != Verdict::left_out) ++all;
        precision.push_back(all > 0 ? right / all : 0);
        recall.push_back(right / static_cast<double>(positives));
    }
    for (std::size_t i = precision.size(); i-- > 1;) precision[i - 1] = std::max(precision[i - 1], precision[i]);
    double total = 0;
    for (int r = 0; r <= 100; ++r) {
        const auto first = std::lower_bound(recall.begin(), recall.end(), r * 0.01);  // rounded as numpy's linspace
        if (first != recall.end()) total += precision[static_cast<std::size_t>(first - recall.begin())];
    }
    return total / 101;
}

/// One class: its images in order of their numbers.
class ClassPrecision {
public:
    void add(const Detection& one) { images_[one.image].found.push_back(one); }
    void add(const TrueBox& one) {
        images_[one.image].truth.push_back(one);
        if (!one.crowd) ++positives_;
    }
    /// Puts each image's boxes in order. Call it once, after the last add().
    void sort() {
        std::vector<double> scores;
        for (auto& [image, boxes] : images_) {
            boxes.sort();
            for (const Detection& one : boxes.found) scores.push_back(one.score);
        }
        order_ = by_falling_score(scores);
    }
    /// Whether there is a true box to be found.
    bool has_truth() const { return positives_ > 0; }
    /// The average precision at a threshold of the overlap.
    double at(double threshold) const {
        std::vector<Verdict> given, sorted;
        for (const auto& [image, boxes] : images_) {
            const std::vector<Verdict> own = match(boxes, threshold);
            given.insert(given.end(), own.begin(), own.end());
        }
        for (const std::size_t i : order_) sorted.push_back(given[i]);
        return precision_at_recalls(sorted, positives_);
    }

private:
    std::map<Index, ImageBoxes> images_;
    std::vector<std::size_t> order_;
    std::size_t positives_ = 0;
};

}  // namespace detail

/// Of `found` against the true boxes `truth`, classes 0 … classes − 1; of equal scores first those of the image with
/// the smaller number. Of each image and class the 100 detections with the largest scores count, as in COCO. Throws
/// Error for a class beyond.
inline AveragePrecision average_precision(const std::vector<Detection>& found, const std::vector<TrueBox>& truth,
                                          Index classes) {
    std::vector<detail::ClassPrecision> own(static_cast<std::size_t>(classes));
    const auto of = [&](Index label) -> detail::ClassPrecision& {
        require(label >= 0 && label < classes, "a box is of class ", label, ", but there are ", classes, " classes");
        return own[static_cast<std::size_t>(label)];
    };
    for (const Detection& one : found) of(one.label).add(one);
    for (const TrueBox& one : truth) of(one.label).add(one);
    AveragePrecision out;
    for (detail::ClassPrecision& one : own) {
        out.ap50.emplace_back();
        out.ap.emplace_back();
        if (!one.has_truth()) continue;
        one.sort();
        out.ap50.back() = one.at(0.5);
        double total = *out.ap50.back();
        for (int t = 1; t < 10; ++t) total += one.at(0.5 + t * ((0.95 - 0.5) / 9));  // rounded as numpy's linspace
        out.ap.back() = total / 10;
    }
    return out;
}

}  // namespace promptkd
