// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/dense/planes.hpp>

#include <cstdint>
#include <numeric>
#include <optional>
#include <vector>

namespace promptkd {

/// A label that says nothing of a pixel.
inline constexpr std::uint8_t ignored_label = 255;

/// Overlap of predicted and true label maps over a whole data set, class by class: mIoU and accuracies as
/// mmsegmentation counts them. Pixels whose true label is 255 are left out on both sides.
class Overlap {
public:
    /// Of `classes` classes.
    explicit Overlap(Index classes)
        : intersection_(static_cast<std::size_t>(classes)),
          predicted_(static_cast<std::size_t>(classes)),
          labelled_(static_cast<std::size_t>(classes)) {}

    /// Counts one image. Throws Error for maps of two sizes and labels above the classes.
    void add(const LabelMap& prediction, const LabelMap& truth) {
        require(prediction.height == truth.height && prediction.width == truth.width, "a mask of ", truth.width, " x ",
                truth.height, " pixels for an image of ", prediction.width, " x ", prediction.height);
        for (std::size_t i = 0; i < truth.labels.size(); ++i) {
            const std::uint8_t label = truth.labels[i], found = prediction.labels[i];
            if (label == ignored_label) continue;
            require(label < labelled_.size(), "a mask holds label ", static_cast<int>(label), ", but there are ",
                    labelled_.size(), " classes (0 to ", labelled_.size() - 1, ")");
            require(found < labelled_.size(), "a prediction holds label ", static_cast<int>(found));
            ++labelled_[label];
            ++predicted_[found];
            if (label == found) ++intersection_[label];
        }
    }

    /// Number of classes.
    Index classes() const { return static_cast<Index>(labelled_.size()); }
    /// I: pixels that are of the class and predicted so, of each class.
    const std::vector<std::int64_t>& intersection() const { return intersection_; }
    /// Pixels predicted to be of a class.
    const std::vector<std::int64_t>& predicted() const { return predicted_; }
    /// Pixels that are of a class.
    const std::vector<std::int64_t>& labelled() const { return labelled_; }
    /// U = predicted + labelled − I.
    std::vector<std::int64_t> united() const {
        std::vector<std::int64_t> out(labelled_.size());
        for (std::size_t c = 0; c < out.size(); ++c) out[c] = predicted_[c] + labelled_[c] - intersection_[c];
        return out;
    }

    /// I/U of a class, nothing where it appears nowhere.
    std::optional<double> iou(Index c) const { return ratio(c, united()); }
    /// I/labelled of a class, nothing where no pixel is of it.
    std::optional<double> accuracy(Index c) const { return ratio(c, labelled_); }
    /// Mean of iou() over the classes that appear.
    double mean_iou() const {
        return mean_of([this](Index c) { return iou(c); });
    }
    /// Mean of accuracy() over the classes that pixels are of.
    double mean_accuracy() const {
        return mean_of([this](Index c) { return accuracy(c); });
    }
    /// Pixels that have a label.
    std::int64_t pixels() const { return std::accumulate(labelled_.begin(), labelled_.end(), std::int64_t{0}); }
    /// Share of the labelled pixels that are predicted rightly.
    double pixel_accuracy() const {
        const std::int64_t hit = std::accumulate(intersection_.begin(), intersection_.end(), std::int64_t{0});
        const std::int64_t all = pixels();
        return all > 0 ? static_cast<double>(hit) / static_cast<double>(all) : 0;
    }

private:
    std::optional<double> ratio(Index c, const std::vector<std::int64_t>& of) const {
        const auto i = static_cast<std::size_t>(c);
        if (of[i] == 0) return std::nullopt;
        return static_cast<double>(intersection_[i]) / static_cast<double>(of[i]);
    }

    template <class F>
    double mean_of(const F& value) const {
        double total = 0;
        Index count = 0;
        for (Index c = 0; c < classes(); ++c)
            if (const std::optional<double> v = value(c)) {
                total += *v;
                ++count;
            }
        return count > 0 ? total / static_cast<double>(count) : 0;
    }

    std::vector<std::int64_t> intersection_, predicted_, labelled_;
};

}  // namespace promptkd
