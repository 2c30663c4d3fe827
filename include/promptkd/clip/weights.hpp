// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/config.hpp>
#include <promptkd/nn/transformer.hpp>

#include <optional>
#include <string>
#include <utility>

namespace promptkd {

/// Walks the layers of one architecture by their roles. An encoder's visit_weights() calls matrix(), layer(), vector()
/// and norm() for each of them, in_block() before those of a block; what happens to the tensors is the business of
/// WeightReader or TensorVisitor, which inherit the place in the tables from here.
class SchemaCursor {
public:
    /// At the beginning of `architecture`, whose sizes are `sizes`.
    SchemaCursor(const schema::Architecture& architecture, const schema::Sizes& sizes)
        : architecture_(&architecture), sizes_(sizes) {}

    /// What follows is in the block of these numbers, whose inner sizes are not known before.
    void in_block(const schema::Numbers& numbers) {
        numbers_ = numbers;
        sizes_.set(schema::Size::hidden, 0);
    }
    /// What follows is outside the blocks.
    void outside_blocks() {
        numbers_.reset();
        sizes_.set(schema::Size::hidden, 0);
    }

    /// Sizes that may change from block to block.
    schema::Sizes& sizes() { return sizes_; }

    /// Whether the architecture has such a tensor (a bias, for example).
    bool has(schema::Role role, schema::Part part) const {
        return schema::find(*architecture_, role, part, numbers_).has_value();
    }
    /// The tensor of this role and part where the cursor stands.
    schema::Weight weight(schema::Role role, schema::Part part = schema::Part::weight) const {
        const auto w = schema::find(*architecture_, role, part, numbers_);
        require(w.has_value(), architecture_->name, ": the schema has no tensor of this role");
        return *w;
    }

private:
    const schema::Architecture* architecture_;
    schema::Sizes sizes_;
    std::optional<schema::Numbers> numbers_;
};

/// A cursor over a model's tensors (OpenAI's names), which gives the one where it stands.
class TensorCursor : public SchemaCursor {
public:
    /// `map` must outlive the cursor.
    TensorCursor(const TensorMap& map, const schema::Architecture& architecture, const schema::Sizes& sizes)
        : SchemaCursor(architecture, sizes), map_(&map) {}

    /// The tensor in the form in which it is computed with. Throws Error when it is missing, misshapen or of integers.
    HostTensor tensor(schema::Role role, schema::Part part = schema::Part::weight) {
        const schema::Weight w = weight(role, part);
        const HostTensor& tensor = schema::checked(*map_, w, sizes());
        const bool transposed = schema::cell_of(w, schema::Layout::openai).form == schema::Form::transposed;
        return transposed ? detail::transpose(tensor) : tensor;
    }
    /// Whether the file has this tensor, an optional one.
    bool is_there(schema::Role role, schema::Part part = schema::Part::weight) const {
        return has(role, part) && map_->contains(schema::name_of(weight(role, part)));
    }

private:
    const TensorMap* map_;
};

/// Fills the layers of an encoder from a model's tensors (OpenAI's names); the values go into `store`.
template <Device D>
class WeightReader : public TensorCursor {
public:
    using T = typename D::Scalar;

    /// `map` must outlive the reader.
    WeightReader(FrozenStore<D>& store, const TensorMap& map, const schema::Architecture& architecture,
                 const schema::Sizes& sizes)
        : TensorCursor(map, architecture, sizes), store_(&store) {}

    using TensorCursor::is_there;
    /// Whether the layer has weights: those that the file has.
    bool is_there(schema::Role role, const Linear<T>&) const { return is_there(role); }
    /// The same of a normalisation.
    bool is_there(schema::Role role, const Norm<T>&) const { return is_there(role); }
    /// The same of a vector.
    bool is_there(schema::Role role, const WeightVector<T>&) const { return is_there(role); }

    /// A linear map that stays in the order of its rows: embeddings and projections.
    void matrix(schema::Role role, Linear<T>& to) {
        const HostTensor values = tensor(role);
        const Index rows = values.shape[0];
        to.weight = store_->matrix(values, rows, values.count() / rows);
        bias(role, to);
    }
    /// A layer of a block, which the store may pack; see FrozenStore::layer.
    void layer(schema::Role role, Linear<T>& to, Index unit = 0) {
        const HostTensor values = tensor(role);
        to.weight = store_->layer(values, values.shape[0], values.shape[1], unit);
        bias(role, to);
    }
    /// Fills `to` with a vector.
    void vector(schema::Role role, WeightVector<T>& to) { to.values = store_->vector(tensor(role)); }
    /// Weight and bias of a normalisation.
    void norm(schema::Role role, Norm<T>& to) {
        to.weight = store_->vector(tensor(role));
        to.bias = store_->vector(tensor(role, schema::Part::bias));
    }

private:
    /// A bias that every such layer has, or one that the file has.
    void bias(schema::Role role, Linear<T>& to) {
        if (!has(role, schema::Part::bias)) return;
        const bool optional = weight(role, schema::Part::bias).row->presence == schema::Presence::optional;
        if (optional && !is_there(role, schema::Part::bias)) return;
        const HostTensor values = tensor(role, schema::Part::bias);
        to.activation_bias = store_->activation_vector(values);
        to.bias = store_->vector(values);
    }

    FrozenStore<D>* store_;
};

/// Calls f(name, tensor, gradient, shape) for every tensor of an encoder, under OpenAI's names and in the shape in
/// which it is computed with; `tensor` is a reference to a WeightMatrix or to a pointer, `gradient` one to the pointer
/// that its layer has for the gradient.
template <class T, class F>
class TensorVisitor : public SchemaCursor {
public:
    /// Calls f for each tensor of an encoder.
    TensorVisitor(const schema::Architecture& architecture, const schema::Sizes& sizes, const F& f)
        : SchemaCursor(architecture, sizes), f_(f) {}

    /// Whether the encoder has such a layer.
    bool is_there(schema::Role, const Linear<T>& layer) const { return layer.outputs() > 0; }
    /// The same of a normalisation.
    bool is_there(schema::Role, const Norm<T>& norm) const { return norm.weight != nullptr; }
    /// The same of a vector.
    bool is_there(schema::Role, const WeightVector<T>& vector) const { return vector.values != nullptr; }

    /// A matrix, and its bias where it has one.
    void matrix(schema::Role role, Linear<T>& to) {
        f_(schema::name_of(weight(role)), to.weight, to.training.weight, sizes().shape(*weight(role).row));
        bias(role, to);
    }
    /// A matrix and its bias.
    void layer(schema::Role role, Linear<T>& to, Index = 0) {
        const Shape shape{to.weight.rows, to.weight.columns};  // nvcc takes no braces for an argument that depends on T
        sizes().learn(*weight(role).row, shape);
        matrix(role, to);
    }
    /// A vector.
    void vector(schema::Role role, WeightVector<T>& to) { call(role, schema::Part::weight, to.values, to.gradient); }
    /// Weight and bias of a normalisation.
    void norm(schema::Role role, Norm<T>& to) {
        call(role, schema::Part::weight, to.weight, to.training.weight);
        call(role, schema::Part::bias, to.bias, to.training.bias);
    }

private:
    void bias(schema::Role role, Linear<T>& to) {
        if (to.bias) call(role, schema::Part::bias, to.bias, to.training.bias);
    }
    void call(schema::Role role, schema::Part part, const T*& to, T*& gradient) {
        const schema::Weight w = weight(role, part);
        f_(schema::name_of(w), to, gradient, sizes().shape(*w.row));
    }

    const F& f_;
};

namespace detail {

/// Blocks of these sizes and this design, whose weights are still to be read.
template <Device D>
Transformer<D> empty_blocks(Index layers, Index width, Index heads, const BlockDesign& design) {
    Block<D> block;
    block.attention.d = width;
    block.attention.heads = heads;
    block.mlp.gelu = design.gelu;
    block.norms = design.norms;
    block.ln_1.epsilon = design.epsilon;
    block.ln_2.epsilon = design.epsilon;
    block.attention.norm.epsilon = design.epsilon;
    block.mlp.norm.epsilon = design.epsilon;
    Transformer<D> transformer;
    transformer.blocks.assign(static_cast<std::size_t>(layers), block);
    return transformer;
}

/// The weights of all blocks, in the order of the parameters of a trainable encoder.
template <class Visitor, Device D>
void visit_blocks(Visitor& visitor, Transformer<D>& transformer) {
    using schema::Role;
    Index number = 0;
    const auto if_there = [&](Role role, auto& part, auto&& visit) {
        if (visitor.is_there(role, part)) visit();
    };
    for (Block<D>& b : transformer.blocks) {
        visitor.in_block({number++, 0});
        visitor.norm(Role::norm_1, b.ln_1);
        visitor.norm(Role::norm_2, b.ln_2);
        visitor.layer(Role::attention_in, b.attention.in_proj, b.width());
        if_there(Role::attention_norm, b.attention.norm, [&] { visitor.norm(Role::attention_norm, b.attention.norm); });
        visitor.layer(Role::attention_out, b.attention.out_proj);
        visitor.layer(Role::mlp_in, b.mlp.c_fc);
        if_there(Role::mlp_gate, b.mlp.c_gate, [&] { visitor.layer(Role::mlp_gate, b.mlp.c_gate); });
        if_there(Role::mlp_norm, b.mlp.norm, [&] { visitor.norm(Role::mlp_norm, b.mlp.norm); });
        visitor.layer(Role::mlp_out, b.mlp.c_proj);
        if_there(Role::scale_1, b.scale_1, [&] { visitor.vector(Role::scale_1, b.scale_1); });
        if_there(Role::scale_2, b.scale_2, [&] { visitor.vector(Role::scale_2, b.scale_2); });
    }
    visitor.outside_blocks();
}

}  // namespace detail

}  // namespace promptkd
