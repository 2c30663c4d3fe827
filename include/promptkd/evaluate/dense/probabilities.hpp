// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/dense/planes.hpp>

#include <cmath>
#include <optional>
#include <vector>

namespace promptkd {

/// How logits of pixels become classes. A class may be asked for by several texts, its synonyms.
struct PixelDecision {
    double logit_scale = 40;       ///< factor of the cosines: 40 (NACLIP, SCLIP), 50 (ClearCLIP)
    double threshold = 0;          ///< a pixel whose largest probability is below it becomes class 0
    std::optional<double> area{};  ///< classes 1 … with no larger share of the foreground are left out (SCLIP)
};

namespace detail {

/// softmax over the planes of scale·x, the largest of a class's queries, for each pixel.
inline Planes class_maxima(const Planes& x, const std::vector<Index>& query_class, Index classes, double scale) {
    const Index n = x.pixels();
    const auto pixels = static_cast<std::size_t>(n);
    std::vector<float> top(x.values.begin(), x.values.begin() + n), total(pixels, 0.0F);
    for (Index q = 1; q < x.count; ++q)
        for (std::size_t i = 0; i < pixels; ++i) top[i] = std::max(top[i], x.row(q, 0)[i]);
    Planes out(classes, x.height, x.width);
    const auto factor = static_cast<float>(scale);
    for (Index q = 0; q < x.count; ++q) {
        const float* const in = x.row(q, 0);
        float* const best = out.row(query_class[static_cast<std::size_t>(q)], 0);
        for (std::size_t i = 0; i < pixels; ++i) {
            const float e = std::exp(factor * (in[i] - top[i]));
            total[i] += e;
            best[i] = std::max(best[i], e);
        }
    }
    for (Index c = 0; c < classes; ++c)
        for (std::size_t i = 0; i < pixels; ++i) out.row(c, 0)[i] /= total[i];
    return out;
}

/// Classes from 1 on, whose share of the pixels that are not of class 0 is not above `area`, get probability 0.
inline void drop_small_classes(Planes& p, double area) {
    const LabelMap labels = largest_plane(p);
    std::vector<Index> counts(static_cast<std::size_t>(p.count), 0);
    for (const std::uint8_t label : labels.labels) ++counts[label];
    const double foreground = static_cast<double>(p.pixels() - counts[0]);
    for (Index c = 1; c < p.count; ++c)
        if (!(static_cast<double>(counts[static_cast<std::size_t>(c)]) > area * foreground))
            std::fill_n(p.row(c, 0), p.pixels(), 0.0F);
}

}  // namespace detail

/// Probabilities (classes, height, width) of cosines (queries, height, width), query q being a text of class
/// query_class[q]: softmax over the queries of scale·cosine, then the maximum over the texts of a class; then as
/// `decision` says. Throws Error for a query of no class.
inline Planes class_probabilities(const Planes& cosines, const std::vector<Index>& query_class,
                                  const PixelDecision& decision) {
    require(static_cast<Index>(query_class.size()) == cosines.count, cosines.count, " planes of logits for ",
            query_class.size(), " texts");
    Index classes = 0;
    for (const Index c : query_class) {
        require(c >= 0, "a text belongs to class ", c);
        classes = std::max(classes, c + 1);
    }
    Planes p = detail::class_maxima(cosines, query_class, classes, decision.logit_scale);
    if (decision.area) detail::drop_small_classes(p, *decision.area);
    return p;
}

/// Probabilities divided by their sum over the classes, as NACLIP gives them out after the decision.
inline void divide_by_sum(Planes& p) {
    std::vector<float> total(static_cast<std::size_t>(p.pixels()), 0.0F);
    for (Index c = 0; c < p.count; ++c)
        for (std::size_t i = 0; i < total.size(); ++i) total[i] += p.row(c, 0)[i];
    for (Index c = 0; c < p.count; ++c)
        for (std::size_t i = 0; i < total.size(); ++i) p.row(c, 0)[i] /= total[i];
}

/// MaskCLIP's prompt denoising (Zhou et al., 2022, section 3.3): a plane of `cosines` whose largest probability
/// softmax(scale·cosine) over the image is below `least` becomes −100.
inline void drop_absent_classes(Planes& cosines, double scale = 100, double least = 0.5) {
    std::vector<Index> own;
    for (Index q = 0; q < cosines.count; ++q) own.push_back(q);
    const Planes p = detail::class_maxima(cosines, own, cosines.count, scale);
    for (Index q = 0; q < cosines.count; ++q) {
        const float* const values = p.row(q, 0);
        if (*std::max_element(values, values + p.pixels()) < static_cast<float>(least))
            std::fill_n(cosines.row(q, 0), cosines.pixels(), -100.0F);
    }
}

/// The most probable class of each pixel; 0 where its probability is below the threshold.
inline LabelMap decide(const Planes& probabilities, const PixelDecision& decision) {
    LabelMap labels = largest_plane(probabilities);
    if (decision.threshold <= 0) return labels;
    const auto least = static_cast<float>(decision.threshold);
    for (std::size_t i = 0; i < labels.labels.size(); ++i)
        if (probabilities.row(labels.labels[i], 0)[i] < least) labels.labels[i] = 0;
    return labels;
}

}  // namespace promptkd
