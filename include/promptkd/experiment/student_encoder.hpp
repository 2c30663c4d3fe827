// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/student.hpp>

namespace promptkd {

namespace detail {

/// A student in evaluation mode, planned for `batch` images.
template <Device D>
class StudentEncoder {
public:
    using T = typename D::Scalar;

    StudentEncoder(D& device, Student<D>& student, Index batch)
        : student_(student), features_(device, batch * student.config().embed), arena_(device) {
        arena_.plan([&] { student.forward_inference(arena_, nullptr, batch, features_.data()); });
    }

    const Preprocessing& preprocessing() const { return student_.model().preprocessing(); }
    Index embed() const { return student_.config().embed; }
    /// Normalised features (n, embed) of device images, valid until the next call.
    const T* encode(const T* images, Index n) {
        arena_.reset();
        student_.forward_inference(arena_, images, n, features_.data());
        return features_.data();
    }

private:
    Student<D>& student_;
    Buffer<D, T> features_;
    Arena<D> arena_;
};

}  // namespace detail

}  // namespace promptkd
