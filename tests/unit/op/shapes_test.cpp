// SPDX-License-Identifier: Apache-2.0
// Operations refuse matrices that do not fit together, with both shapes in the message.
#include "support/devices.hpp"

#include <promptkd/loss/cross_entropy.hpp>
#include <promptkd/loss/distillation.hpp>
#include <promptkd/loss/feature_distance.hpp>
#include <promptkd/nn/linear.hpp>
#include <promptkd/op/attention.hpp>
#include <promptkd/op/batch_norm.hpp>
#include <promptkd/op/broadcast.hpp>
#include <promptkd/op/convolution.hpp>
#include <promptkd/op/cosine.hpp>
#include <promptkd/op/elementwise.hpp>
#include <promptkd/op/norm.hpp>
#include <promptkd/op/patches.hpp>
#include <promptkd/op/sequences.hpp>

#include <doctest/doctest.h>

namespace shapes_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

/// What `f` throws.
template <class F>
std::string error_of(const F& f) {
    try {
        f();
    } catch (const Error& error) {
        return error.what();
    }
    return "nothing";
}

/// Memory of which matrices of any shape are made.
template <class D>
struct Matrices {
    using T = typename D::Scalar;
    D device = make_device<D>();
    Arena<D> arena{device};
    Workspace<D> w{device, arena};
    Tensor<D> values{device, numbers(4096, 1)};

    Matrix<T> operator()(Index rows, Index columns) { return values.matrix(rows, columns); }
};

}  // namespace

TEST_CASE_TEMPLATE("norms refuse what does not fit", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    Matrices<D> m;
    const LayerNormWeights<T> norm{m.values.data(), m.values.data()};
    CHECK(error_of([&] { layer_norm_forward(m.device, m(3, 8), norm, m(4, 8)); }) ==
          "LayerNorm: x: a matrix of 3 x 8, expected 4 x 8");
    CHECK(error_of([&] { layer_norm_forward(m.device, m(3, 8), norm, m(3, 16).column_range(0, 8)); }) ==
          "LayerNorm: y: a matrix of 3 x 8 whose rows are 16 apart, expected one behind the other");
    CHECK(error_of([&] {
              layer_norm_backward(m.device, norm, {m(3, 8), {}}, m(3, 9), m(3, 8));
          }) == "gradient of LayerNorm: dy: a matrix of 3 x 9, expected 3 x 8");
    CHECK(error_of([&] { normalize_forward(m.device, m(2, 5), m(2, 6)); }) ==
          "normalisation: x: a matrix of 2 x 5, expected 2 x 6");
    const BatchNormView<T> bn{m.values.data(), m.values.data(), m.values.data(), m.values.data(), 7};
    CHECK(error_of([&] { batch_norm_inference(m.device, bn, m(4, 6), m(4, 6)); }) ==
          "BatchNorm: x: a matrix of 4 x 6, expected 4 x 7");
}

TEST_CASE_TEMPLATE("products refuse what does not fit", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    Matrices<D> m;
    CHECK(error_of([&] { cosine_logits(m.device, m(3, 8), m(5, 9), 1.0, m(3, 5)); }) ==
          "cosine logits: the features: a matrix of 3 x 8, expected 3 x 9");
    CHECK(error_of([&] { cosine_logits(m.device, m(3, 8), m(6, 8), 1.0, m(3, 5)); }) ==
          "cosine logits: the class vectors: a matrix of 6 x 8, expected 5 x 8");
    Param<T> weight, bias;
    weight.shape = {4, 6};
    bias.shape = {4};
    weight.grad = m.values.data();
    const Linear<T> layer = LinearParams<T>{&weight, &bias}.layer();
    CHECK(error_of([&] { linear_forward(m.device, layer, m(3, 5), m(3, 4)); }) ==
          "Linear: x: a matrix of 3 x 5, expected 3 x 6");
    CHECK(error_of([&] { add_linear_gradients(m.device, layer, m(3, 6), m(2, 4)); }) ==
          "gradients of a Linear's weights: x: a matrix of 3 x 6, expected 2 x 6");
    CHECK(error_of([&] { linear_backward(m.device, layer, m(2, 5), m(2, 6)); }) ==
          "gradient of Linear: dy: a matrix of 2 x 5, expected 2 x 4");
    AttentionShape shape;
    shape.sequences = {0, 2, 3, false};
    shape.heads = 2;
    shape.head_dim = 4;
    const auto attend = [&](Matrix<T> q, Matrix<T> k, Matrix<T> v) {
        return error_of(
            [&] { attention_forward(m.w, shape, QueriesKeysValues<T>(q, k, v), m.values.data(), m(6, 8)); });
    };
    CHECK(attend(m(5, 8), m(6, 8), m(6, 8)) == "attention: an input: a matrix of 5 x 8, expected 6 x 8");
    CHECK(attend(m(6, 8), m(6, 8), m(6, 9).column_range(0, 8)) ==
          "attention: an input: rows of keys are 8 apart, those of values 9");
}

TEST_CASE_TEMPLATE("elementwise operations and losses refuse what does not fit", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    Matrices<D> m;
    T* loss = m.values.data();
    CHECK(error_of([&] { gelu_forward(m.device, Gelu::quick, m(2, 3), m(3, 2)); }) ==
          "GELU: x: a matrix of 2 x 3, expected 3 x 2");
    CHECK(error_of([&] { relu_backward(m.device, m(1, 3), m(1, 4)); }) ==
          "gradient of ReLU: y: a matrix of 1 x 3, expected 1 x 4");
    CHECK(error_of([&] { add_row(m.device, m(2, 3), loss, m(2, 4)); }) ==
          "x + row: x: a matrix of 2 x 3, expected 2 x 4");
    CHECK(error_of([&] { cross_entropy_loss(m.w, m(2, 3), nullptr, m(2, 4), loss); }) ==
          "cross-entropy: the logits: a matrix of 2 x 3, expected 2 x 4");
    CHECK(error_of([&] { distillation_loss(m.w, m(2, 3), m(2, 4), m(2, 4), loss, {}); }) ==
          "distillation: the teacher's logits: a matrix of 2 x 3, expected 2 x 4");
    CHECK(error_of([&] { add_squared_difference_loss(m.w, m(2, 4), m(3, 4), 1.0, m(2, 4), loss); }) ==
          "difference of features: their target: a matrix of 3 x 4, expected 2 x 4");
}

TEST_CASE_TEMPLATE("images, tokens and prompts refuse what does not fit", D, PROMPTKD_TEST_DEVICES) {
    Matrices<D> m;
    const PatchGrid grid{2, 3, 6};
    CHECK(error_of([&] { extract_patches(m.device, m(2, 108), grid, m(7, 27)); }) ==
          "patches: a matrix of 7 x 27, expected 8 x 27");
    const TokenParts<typename D::Scalar> parts{m.values.data(), m(5, 5), m(2, 5)};
    CHECK(error_of([&] { assemble_tokens(m.device, m(8, 5), 4, parts, m(10, 5)); }) ==
          "tokens: a matrix of 10 x 5, expected 14 x 5");
    CHECK(error_of([&] {
              average_pool(m.device, m(15, 3), MapShape{1, 4, 4, 3}, 2, m(4, 3));
          }) == "average pooling: x: a matrix of 15 x 3, expected 16 x 3");
    CHECK(error_of([&] {
              overwrite_prompts(m.device, Placement{2, 1, 1, nullptr}, m(3, 5), m(9, 5));
          }) == "prompts to be placed: a matrix of 3 x 5, expected 2 x 5");
    CHECK(error_of([&] {
              gather_selected(m.device, Sequences{1, 2, 3, true}, {}, m(6, 5), m(2, 5));
          }) == "gathering selected rows: x: a matrix of 6 x 5, expected 7 x 5");
}

}  // namespace shapes_test
