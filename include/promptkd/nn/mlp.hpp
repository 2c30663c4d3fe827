// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/linear.hpp>
#include <promptkd/op/elementwise.hpp>
#include <promptkd/op/gate.hpp>
#include <promptkd/op/norm.hpp>

namespace promptkd {

/// What the backward pass of an Mlp needs besides its input.
template <Device D>
struct MlpTape {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    Matrix<A> hidden;       ///< c_fc's output before the activation (rows, width)
    Matrix<A> gate;         ///< c_gate's, where there is one
    RowMoments<T> moments;  ///< of the inner norm, where there is one
};

/// The two layers behind attention: c_proj(act(c_fc(x))), act one of the GELUs; or, with a gate,
/// c_proj(silu(c_gate(x))∘c_fc(x)). An inner norm (EVA02's sub-LN) stands in front of c_proj.
template <Device D>
struct Mlp {
    using T = typename D::Scalar;
    using A = typename D::Activation;

    Linear<T> c_fc, c_gate, c_proj;  ///< c_gate without a weight: none
    Norm<T> norm;                    ///< without a weight: none
    Gelu gelu = Gelu::quick;         ///< activation, where there is no gate

    /// Width of the hidden layer.
    Index width() const { return c_fc.outputs(); }
    /// Whether a gate takes the place of the GELU.
    bool is_gated() const { return c_gate.outputs() > 0; }
    /// Whether add_linear_gradients() of a first layer reads the input.
    bool needs_input() const { return c_fc.needs_input() || c_gate.needs_input(); }

    /// Memory of the tape for `rows` rows.
    void allocate(const Workspace<D>& w, Keep kept, Index rows, MlpTape<D>& t) const {
        t.hidden = take<A>(w, kept, rows, width());
        if (is_gated()) t.gate = take<A>(w, kept, rows, width());
        if (norm.weight && kept == Keep::yes) t.moments = keep_moments<T>(w, rows);
    }

    /// y (rows, d) = the result for x (rows, d), plus `residual` (its data may be null); y may be the residual. The
    /// tape was allocated with the same `kept`.
    void forward(const Workspace<D>& w, Matrix<const A> x, MlpTape<D>& t, Keep kept, Matrix<A> y,
                 Matrix<const A> residual) const {
        const WorkspaceScope scope(w);
        const Matrix<A> active = kept == Keep::yes ? scratch<A>(w, x.rows, width()) : t.hidden;
        linear_forward(w, c_fc, x, t.hidden);
        if (is_gated()) linear_forward(w, c_gate, x, t.gate);
        activate(w, t, active);
        if (norm.weight) layer_norm_forward(w.device, active, norm, active, t.moments);
        linear_forward(w, c_proj, active, y, residual);
    }

    /// dx (rows, d) from dy (rows, d), and the gradients of the weights that are trained; `input(to)` writes the x of
    /// the forward pass, and is called where a gradient needs it.
    template <class Input>
    void backward(const Workspace<D>& w, const MlpTape<D>& t, Matrix<const A> dy, const Input& input,
                  Matrix<A> dx) const {
        const WorkspaceScope scope(w);
        const Matrix<A> d_hidden = scratch<A>(w, dy.rows, width());
        if (c_proj.needs_input()) {  // in the memory of its gradient
            activate(w, t, d_hidden);
            if (norm.weight) layer_norm_forward(w.device, d_hidden, norm, d_hidden);
        }
        linear_gradients(w, c_proj, d_hidden, dy, d_hidden);
        if (norm.weight) norm_backward(w, t, d_hidden);
        Matrix<A> d_gate;
        if (is_gated()) {
            d_gate = scratch<A>(w, dy.rows, width());
            swiglu_backward(w.device, t.gate, t.hidden, d_gate, d_hidden);
        } else {
            gelu_backward(w.device, gelu, t.hidden, d_hidden);
        }
        if (needs_input()) input(dx);  // in the memory of its gradient
        if (is_gated()) add_linear_gradients(w, c_gate, dx, d_gate);
        linear_gradients(w, c_fc, dx, d_hidden, dx);
        if (is_gated()) linear_backward(w, c_gate, d_gate, dx, Accumulate::yes);
    }

private:
    /// active = the activation of what the tape holds.
    void activate(const Workspace<D>& w, const MlpTape<D>& t, Matrix<A> active) const {
        if (is_gated())
            swiglu_forward(w.device, t.gate, t.hidden, active);
        else
            gelu_forward(w.device, gelu, t.hidden, active);
    }

    /// d, the gradient of the inner norm's output, becomes that of its input.
    void norm_backward(const Workspace<D>& w, const MlpTape<D>& t, Matrix<A> d) const {
        const WorkspaceScope scope(w);
        const Matrix<A> active = scratch<A>(w, d.rows, d.columns);
        activate(w, t, active);
        add_norm_gradients(w.device, norm, LayerNormTape<A, T>{active, t.moments}, d);
        layer_norm_backward(w.device, norm, LayerNormTape<A, T>{active, t.moments}, d, d);
    }
};

}  // namespace promptkd
