// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/hidden_layer.hpp>
#include <promptkd/distill/closed_form/ridge.hpp>

namespace promptkd {

/// A student fitted in closed form as one of several: p_r = σ(s·n(φ(x)B + c)·Wᵀ) of raw features x (e_s), and its
/// weight among them.
struct FittedStudent {
    HiddenLayer hidden;  ///< R, b, μ and v
    OutputLayer output;  ///< B and c
    double scale = 1;    ///< s, of its logits: the teacher's
    double weight = 0;   ///< v_r
};

/// Normalised features of a FittedStudent on a device.
template <Device D>
class FittedFeatures {
public:
    using T = typename D::Scalar;

    /// For up to `batch` images. The device must outlive this.
    FittedFeatures(D& device, const FittedStudent& student, Index batch)
        : device_(device),
          hidden_(device, student.hidden),
          outputs_(student.output.outputs),
          weight_(device, std::vector<T>(student.output.weight.begin(), student.output.weight.end())),
          bias_(device, std::vector<T>(student.output.bias.begin(), student.output.bias.end())),
          phi_(device, batch * hidden_.width()),
          u_(device, batch * outputs_) {}

    /// n(φ(x)B + c), (n, e_t), of raw features x (n, e_s); valid until the next call.
    Matrix<const T> forward(ConstMatrix<T> x) {
        const Matrix<T> phi = phi_.matrix(x.rows, hidden_.width()), u = u_.matrix(x.rows, outputs_);
        hidden_.forward(x, phi);
        Gemm g = matrix_product(operand(phi), operand(weight_.data(), outputs_), phi.columns, u);
        g.bias = bias_.data();
        device_.gemm(g);
        normalize_forward(device_, u, u);
        return u;
    }

private:
    D& device_;
    HiddenFeatures<D> hidden_;
    Index outputs_;
    const Buffer<D, T> weight_, bias_;
    Buffer<D, T> phi_, u_;
};

}  // namespace promptkd
