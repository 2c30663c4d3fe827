// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/fit.hpp>

#include <vector>

namespace promptkd {

/// What a mixture of a distilled and a zero-shot student says of some images; all (n, K) but weight and distance (n).
struct MixturePrediction {
    std::vector<double> probabilities;  ///< p = w·p_kd + (1 − w)·p_zs
    std::vector<double> student;        ///< p_kd
    std::vector<double> zero_shot;      ///< p_zs
    std::vector<double> weight;         ///< w = a·g(x)
    std::vector<double> distance;       ///< ℓ(x)/c_g: above 1 the image is unfamiliar; 0 without a guard
};

/// Predicts with a ClosedFormFit, from the student's raw features alone:
///   p_kd = σ(s_t·n(φ(x)B + c)·Wᵀ), p_zs = σ(τ_z·s_s·n(x)·Vᵀ), w = a/(1 + (ℓ(x)/c_g)⁴), p = w·p_kd + (1 − w)·p_zs.
template <Device D>
class ClosedFormPredictor {
public:
    using T = typename D::Scalar;

    /// Allocates for up to `max_batch` images. The device must outlive this.
    ClosedFormPredictor(D& device, const ClosedFormFit& fit, const ClassGeometry& geometry, Index max_batch)
        : device_(device),
          hidden_(device, fit.hidden),
          inputs_(fit.hidden.inputs),
          outputs_(fit.output.outputs),
          classes_(geometry.classes),
          student_scale_(geometry.teacher_scale),
          zero_shot_scale_(fit.temperature * geometry.student_scale),
          weight_(fit.weight.chosen),
          guard_(fit.guard),
          max_batch_(max_batch),
          output_weight_(device, narrow(fit.output.weight)),
          output_bias_(device, narrow(fit.output.bias)),
          class_vectors_(device, narrow(geometry.class_vectors)),
          student_text_(device, narrow(geometry.student_text)),
          phi_(device, max_batch * hidden_.width()),
          u_(device, max_batch * std::max(outputs_, inputs_)),
          logits_(device, max_batch * classes_) {}

    /// Of n images with raw features x (n, e_s) in device memory.
    MixturePrediction predict(const T* x, Index n) {
        require(n <= max_batch_, "a batch of ", n, " images, but ", max_batch_, " were planned");
        MixturePrediction out;
        out.student = softmax_rows(host_, student_cosines(x, n), classes_, student_scale_);
        out.zero_shot = softmax_rows(host_, zero_shot_cosines(x, n), classes_, zero_shot_scale_);
        out.weight.assign(static_cast<std::size_t>(n), weight_);
        out.distance.assign(static_cast<std::size_t>(n), 0);
        if (guard_) judge(x, n, out);
        out.probabilities.resize(out.student.size());
        for (std::size_t i = 0; i < out.probabilities.size(); ++i) {
            const double w = out.weight[i / static_cast<std::size_t>(classes_)];
            out.probabilities[i] = w * out.student[i] + (1 - w) * out.zero_shot[i];
        }
        return out;
    }

private:
    static std::vector<T> narrow(const std::vector<double>& values) {
        return std::vector<T>(values.begin(), values.end());
    }

    void judge(const T* x, Index n, MixturePrediction& out) {
        std::vector<T> features(static_cast<std::size_t>(n * inputs_));
        device_.download(features.data(), x, features.size() * sizeof(T));
        out.distance = guard_->distances(host_, std::vector<double>(features.begin(), features.end()));
        for (std::size_t i = 0; i < out.distance.size(); ++i) {
            out.weight[i] *= guard_->weight(out.distance[i]);
            out.distance[i] /= guard_->cutoff;
        }
    }

    std::vector<double> student_cosines(const T* x, Index n) {
        const Matrix<T> phi = phi_.matrix(n, hidden_.width()), u = u_.matrix(n, outputs_);
        hidden_.forward(Matrix<const T>(x, n, inputs_), phi);
        Gemm g = matrix_product(operand(phi), operand(output_weight_.data(), outputs_), phi.columns, u);
        g.bias = output_bias_.data();
        device_.gemm(g);
        return cosines(u, class_vectors_);
    }

    std::vector<double> zero_shot_cosines(const T* x, Index n) {
        return cosines(Matrix<const T>(x, n, inputs_), student_text_);
    }

    /// n(x)·vectorsᵀ on the host.
    std::vector<double> cosines(Matrix<const T> x, const Buffer<D, T>& vectors) {
        const Matrix<T> unit = u_.matrix(x.rows, x.columns), logits = logits_.matrix(x.rows, classes_);
        normalize_forward(device_, x, unit);
        cosine_logits(device_, unit, vectors.matrix(classes_, x.columns), 1.0, logits);
        std::vector<T> values(static_cast<std::size_t>(logits.count()));
        device_.download(values.data(), logits.data, values.size() * sizeof(T));
        return std::vector<double>(values.begin(), values.end());
    }

    D& device_;
    Cpu<double> host_{1};
    HiddenFeatures<D> hidden_;
    Index inputs_, outputs_, classes_;
    double student_scale_, zero_shot_scale_, weight_;
    std::optional<Guard> guard_;
    Index max_batch_;
    const Buffer<D, T> output_weight_, output_bias_, class_vectors_, student_text_;
    Buffer<D, T> phi_, u_, logits_;
};

}  // namespace promptkd
