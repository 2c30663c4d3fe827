// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/distill/teachers.hpp>
#include <promptkd/op/copy.hpp>

#include <vector>

namespace promptkd {

/// What a closed-form fit reads of an image, in one row: the student encoder's raw features x (e_s), then what a
/// teacher gives, its features (e_t) or its logits (K), or nothing; with flips, the same of the mirrored image behind
/// it. A FeatureEncoder (evaluate/evaluate.hpp): each image goes through each encoder once.
template <Device D>
class PairEncoder {
public:
    using T = typename D::Scalar;

    /// For up to `batch` images; `teacher` may be null. Device, model and teacher must outlive this.
    PairEncoder(D& device, const ClipModel<D>& student, TeacherSource<D>* teacher, Index batch, bool flips)
        : device_(device),
          student_(device, student, nullptr, batch),
          teacher_(teacher),
          flips_(flips),
          rows_(device, batch * embed()),
          mirrored_(device, flips ? batch * 3 * resolution() * resolution() : 0) {}

    /// Height and width of the images.
    Index resolution() const { return student_.resolution(); }
    /// What the student's images go through, and the teacher's where it takes others; see FeatureEncoder.
    const Preprocessing& preprocessing() const { return student_.preprocessing(); }
    /// What the teacher takes beside them.
    std::vector<Preprocessing> further_inputs() {
        return teacher_ ? teacher_->further_inputs(preprocessing()) : std::vector<Preprocessing>();
    }
    /// Before encode() of the batch's images.
    void prepare(const Batch& batch) {
        if (teacher_) teacher_->prepare(batch, 0);
    }
    /// e_s
    Index student_width() const { return student_.embed(); }
    /// Values that the teacher gives.
    Index teacher_width() const { return teacher_ ? teacher_->size() : 0; }
    /// Values of a row.
    Index embed() const { return views() * (student_width() + teacher_width()); }
    /// Views of an image that stand in a row.
    Index views() const { return flips_ ? 2 : 1; }

    /// Rows (n, embed()) of device images, valid until the next call.
    const T* encode(const T* images, Index n) {
        write(images, n, 0);
        if (flips_) {
            const Index r = resolution();
            reverse_rows(device_, Matrix<const T>(images, n * 3 * r, r), mirrored_.matrix(n * 3 * r, r));
            if (teacher_) teacher_->mirror();
            write(mirrored_.data(), n, embed() / 2);
        }
        return rows_.data();
    }

private:
    /// One view of the images, from column `first` on.
    void write(const T* images, Index n, Index first) {
        const Matrix<T> rows = rows_.matrix(n, embed());
        const Index e_s = student_width(), e_t = teacher_width();
        copy_rows(device_, Matrix<const T>(student_.encode_raw(images, n), n, e_s), rows.column_range(first, e_s));
        if (teacher_)
            copy_rows(device_, Matrix<const T>(teacher_->targets(images, n), n, e_t),
                      rows.column_range(first + e_s, e_t));
    }

    D& device_;
    FrozenImageTower<D> student_;
    TeacherSource<D>* teacher_;
    bool flips_;
    Buffer<D, T> rows_, mirrored_;
};

}  // namespace promptkd
