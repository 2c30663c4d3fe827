// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/features.hpp>
#include <promptkd/distill/stored_targets.hpp>
#include <promptkd/experiment/closed_form/pair_encoder.hpp>
#include <promptkd/experiment/evaluation.hpp>

#include <optional>
#include <utility>
#include <vector>

namespace promptkd {

/// The rows of a PairEncoder in its two parts, an image's views one behind the other.
template <class T>
struct PairRows {
    std::vector<T> student;  ///< (views·images, e_s)
    std::vector<T> teacher;  ///< (views·images, e_t or K)

    /// Takes the rows of an encoder apart.
    template <Device D>
    PairRows(const FeatureSet<T>& set, const PairEncoder<D>& encoder) {
        const Index e_s = encoder.student_width(), width = e_s + encoder.teacher_width();
        student.reserve(static_cast<std::size_t>(set.size() * encoder.views() * e_s));
        teacher.reserve(static_cast<std::size_t>(set.size() * encoder.views() * (width - e_s)));
        for (auto row = set.values.begin(); row != set.values.end(); row += width) {
            student.insert(student.end(), row, row + e_s);
            teacher.insert(teacher.end(), row + e_s, row + width);
        }
    }
};

/// The targets of images of a table, (n, size), in the order of `images`. Throws Error for one that has
/// none.
template <class T>
std::vector<T> table_rows(const TargetTable& table, const std::vector<Index>& images) {
    std::vector<T> rows;
    for (const Index i : images) {
        const float* row = table.target(0, i);
        rows.insert(rows.end(), row, row + table.size);
    }
    return rows;
}

/// The table of some of its images, in this order.
inline TargetTable keep_images(const TargetTable& table, const std::vector<Index>& images) {
    TargetTable kept = table;
    kept.images = static_cast<Index>(images.size());
    std::vector<float> values;
    values.reserve(static_cast<std::size_t>(kept.views * kept.images * kept.size));
    for (Index view = 0; view < table.views; ++view)
        for (const Index i : images) values.insert(values.end(), table.row(view, i), table.row(view, i) + table.size);
    kept.values = make_tensor(std::move(values), {kept.views, kept.images, kept.size});
    return kept;
}

/// Teacher features T (n, e_t) that stand for logits (n, K), and their scale; see LogitFeatures.
template <class T>
std::pair<std::vector<T>, double> features_of_logits(const std::vector<T>& logits, const std::vector<T>& class_vectors,
                                                     Index classes) {
    constexpr Index group = 1024;
    Cpu<double> host;
    LogitFeatures inverse(host, std::vector<double>(class_vectors.begin(), class_vectors.end()), classes);
    std::vector<T> features;
    const Index values = static_cast<Index>(logits.size());
    for (Index first = 0; first < values; first += group * classes) {
        const auto begin = logits.begin() + first;
        const auto end = logits.begin() + std::min(values, first + group * classes);
        const std::vector<double> part = inverse.add(std::vector<double>(begin, end));
        features.insert(features.end(), part.begin(), part.end());
    }
    return {std::move(features), inverse.scale()};
}

}  // namespace promptkd
