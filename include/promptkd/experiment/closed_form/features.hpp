// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/features.hpp>
#include <promptkd/distill/closed_form/stored_part.hpp>
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

    /// Takes the rows `values` of an encoder apart.
    template <Device D>
    PairRows(const std::vector<T>& values, const PairEncoder<D>& encoder) {
        const Index e_s = encoder.student_width(), width = e_s + encoder.teacher_width();
        for (auto row = values.begin(); row != values.end(); row += width) {
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

/// Makes FeatureRows of what a PairEncoder gives. Stored targets, and the logits of several teachers, become the
/// features that stand for them with the class vectors of the run (LogitFeatures).
template <Device D>
class RowMaker {
public:
    using T = typename D::Scalar;

    /// `stored` may be null; it must outlive this.
    RowMaker(const TargetTable* stored, bool logits, const std::vector<T>& class_vectors, Index classes)
        : stored_(stored) {
        if (logits) inverse_.emplace(host_, std::vector<double>(class_vectors.begin(), class_vectors.end()), classes);
    }

    /// The rows of a batch.
    FeatureRows<T> operator()(const Batch& batch, const std::vector<T>& values, const PairEncoder<D>& encoder) {
        PairRows<T> parts(values, encoder);
        if (stored_) parts.teacher = table_rows<T>(*stored_, batch.indices);
        FeatureRows<T> rows{batch.indices, std::move(parts.student), {}, {}};
        if (!inverse_) {
            rows.teacher = std::move(parts.teacher);
            return rows;
        }
        const std::vector<double> t = inverse_->add({parts.teacher.begin(), parts.teacher.end()});
        rows.teacher.assign(t.begin(), t.end());
        rows.norms = inverse_->norms();
        return rows;
    }

private:
    const TargetTable* stored_;
    Cpu<double> host_;
    std::optional<LogitFeatures> inverse_;
};

}  // namespace promptkd
