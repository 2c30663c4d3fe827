// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/fit.hpp>

#include <vector>

namespace promptkd {

/// Predicts with a ClosedFormFit, from the student's raw features alone: p_kd = σ(s_t·n(φ(x)B + c)·Wᵀ), mixed with the
/// zero-shot student as Mixture says. A student that was written to a bundle is read back by Classifier.
template <Device D>
class ClosedFormPredictor {
public:
    using T = typename D::Scalar;

    /// Allocates for up to `max_batch` images. The device must outlive this.
    ClosedFormPredictor(D& device, const ClosedFormFit& fit, const ClassGeometry& geometry, Index max_batch)
        : device_(device),
          features_(device, {fit.hidden, fit.output}, max_batch),
          inputs_(fit.hidden.inputs),
          max_batch_(max_batch),
          mixture_(mixture_of(fit, geometry)),
          class_vectors_(device, narrow(geometry.class_vectors)),
          logits_(device, max_batch * geometry.classes) {}

    /// Of n images with raw features x (n, e_s) in device memory.
    MixturePrediction predict(const T* x, Index n) {
        require(n <= max_batch_, "a batch of ", n, " images, but ", max_batch_, " were planned");
        std::vector<T> features(static_cast<std::size_t>(n * inputs_));
        device_.download(features.data(), x, features.size() * sizeof(T));
        return mixture_.predict(host_,
                                softmax_rows(host_, student_cosines(x, n), mixture_.classes, mixture_.distilled_scale),
                                std::vector<double>(features.begin(), features.end()));
    }

private:
    static std::vector<T> narrow(const std::vector<double>& values) {
        return std::vector<T>(values.begin(), values.end());
    }

    /// n(φ(x)B + c)·Wᵀ on the host.
    std::vector<double> student_cosines(const T* x, Index n) {
        const Matrix<const T> u = features_.forward(Matrix<const T>(x, n, inputs_));
        const Matrix<T> logits = logits_.matrix(n, mixture_.classes);
        cosine_logits(device_, u, class_vectors_.matrix(mixture_.classes, u.columns), 1.0, logits);
        std::vector<T> values(static_cast<std::size_t>(logits.count()));
        device_.download(values.data(), logits.data, values.size() * sizeof(T));
        return std::vector<double>(values.begin(), values.end());
    }

    D& device_;
    Cpu<double> host_{1};
    FittedFeatures<D> features_;
    Index inputs_, max_batch_;
    Mixture mixture_;
    const Buffer<D, T> class_vectors_;
    Buffer<D, T> logits_;
};

}  // namespace promptkd
