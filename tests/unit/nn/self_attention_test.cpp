// SPDX-License-Identifier: Apache-2.0
// A layer whose attention is recomputed on the matrix units is the layer with the composed one.
#include "support/devices.hpp"

#include <doctest/doctest.h>

#include <promptkd/nn/self_attention.hpp>

namespace self_attention_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

/// A layer of two heads of 64 values with a trained output projection, and what a pass there and back gives.
template <class D>
struct Layer {
    using A = typename D::Activation;
    static constexpr Index d = 128;

    D device;
    Sequences s;
    Index rows = s.rows();
    Tensor<D, A> in{device, numbers<A>(3 * d * d, 1, 0.15)}, out{device, numbers<A>(d*d, 2, 0.09)},
        x{device, numbers<A>(rows*d, 3)}, d_out{device, numbers<A>(rows*d, 4)};
    Buffer<D, A> o{device, rows*d}, dx{device, rows*d};
    Buffer<D, float> weight_gradients{device, std::vector<float>(d* d)};
    Arena<D> arena{device};
    Workspace<D> workspace{device, arena};
    SelfAttention<D> attention;

    Layer(AttentionKernel kernel, const Sequences& sequences) : device(device_with<D>(kernel)), s(sequences) {
        attention.in_proj.weight = {in.data(), dtype_of<A>, 3 * d, d};
        attention.out_proj.weight = {out.data(), dtype_of<A>, d, d};
        attention.out_proj.training.weight = weight_gradients.data();
        attention.d = d;
        attention.heads = 2;
    }

    void run() {
        const auto pass = [&] {
            SelfAttentionTape<D> tape;
            tape.shape = attention.shape_of(device, s, {});
            attention.allocate(workspace, Keep::yes, tape);
            attention.forward(workspace, x.matrix(rows, d), tape, o.matrix(rows, d), Keep::yes);
            attention.backward(
                workspace, tape, d_out.matrix(rows, d), [](Matrix<A>) {}, dx.matrix(rows, d));
        };
        planned(workspace, pass);
    }
};

template <class T>
Values in_double(const std::vector<T>& x) {
    Values found;
    for (const T& value : x) found.push_back(static_cast<double>(static_cast<float>(value)));
    return found;
}

}  // namespace

TEST_CASE_TEMPLATE("self-attention: recomputed on the matrix units, and composed", D, PROMPTKD_TEST_DEVICES_MATRIX) {
    const double bound = std::is_same_v<typename D::Activation, bf16> ? 1.5e-2 : 2e-3;
    for (const bool causal : {false, true}) {
        Layer<D> recomputed(AttentionKernel::mma, {0, 2, 70, causal}),
            composed(AttentionKernel::composed, {0, 2, 70, causal});
        recomputed.run();
        composed.run();
        CHECK(difference(recomputed.o.to_host(), in_double(composed.o.to_host())) < bound);
        CHECK(difference(recomputed.dx.to_host(), in_double(composed.dx.to_host())) < bound);
        CHECK(difference(recomputed.weight_gradients.to_host(), in_double(composed.weight_gradients.to_host())) <
              bound);
        CHECK(recomputed.arena.peak() < composed.arena.peak());  // no scores
    }
}

}  // namespace self_attention_test
