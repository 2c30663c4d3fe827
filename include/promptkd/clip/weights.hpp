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
    void outside_blocks() { numbers_.reset(); }

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

/// Fills the layers of an encoder from a model's tensors (OpenAI's names); the values go into `store`.
template <Device D>
class WeightReader : public SchemaCursor {
public:
    using T = typename D::Scalar;

    /// `map` must outlive the reader.
    WeightReader(FrozenStore<D>& store, const TensorMap& map, const schema::Architecture& architecture,
                 const schema::Sizes& sizes)
        : SchemaCursor(architecture, sizes), store_(&store), map_(&map) {}

    /// The tensor in the form in which it is computed with. Throws Error when it is missing, misshapen or of integers.
    HostTensor tensor(schema::Role role, schema::Part part = schema::Part::weight) {
        const schema::Weight w = weight(role, part);
        const HostTensor& tensor = schema::checked(*map_, w, sizes());
        const bool transposed = schema::cell_of(*w.row, schema::Layout::openai).form == schema::Form::transposed;
        return transposed ? detail::transpose(tensor) : tensor;
    }
    /// Whether the file has this tensor, an optional one.
    bool is_there(schema::Role role) const { return map_->contains(schema::name_of(weight(role))); }

    /// A linear map that stays in the order of its rows: embeddings and projections.
    void matrix(schema::Role role, FrozenLinear<T>& to) {
        const HostTensor values = tensor(role);
        const Index rows = values.shape[0];
        to.weight = store_->matrix(values, rows, values.count() / rows);
        bias(role, to);
    }
    /// A layer of a block, which the store may pack; see FrozenStore::layer.
    void layer(schema::Role role, FrozenLinear<T>& to, Index unit = 0) {
        const HostTensor values = tensor(role);
        to.weight = store_->layer(values, values.shape[0], values.shape[1], unit);
        bias(role, to);
    }
    /// Fills `to` with a vector.
    void vector(schema::Role role, const T*& to) { to = store_->vector(tensor(role)); }
    /// Weight and bias of a normalisation.
    void norm(schema::Role role, FrozenNorm<T>& to) {
        to.weight = store_->vector(tensor(role));
        to.bias = store_->vector(tensor(role, schema::Part::bias));
    }

private:
    void bias(schema::Role role, FrozenLinear<T>& to) {
        if (!has(role, schema::Part::bias)) return;
        const HostTensor values = tensor(role, schema::Part::bias);
        to.activation_bias = store_->activation_vector(values);
        to.bias = store_->vector(values);
    }

    FrozenStore<D>* store_;
    const TensorMap* map_;
};

/// Calls f(name, tensor, shape) for every tensor of an encoder, under OpenAI's names and in the shape in which it is
/// computed with; `tensor` is a reference to a FrozenMatrix or to a pointer.
template <class T, class F>
class TensorVisitor : public SchemaCursor {
public:
    /// Calls f for each tensor of an encoder.
    TensorVisitor(const schema::Architecture& architecture, const schema::Sizes& sizes, const F& f)
        : SchemaCursor(architecture, sizes), f_(f) {}

    /// A matrix without bias.
    void matrix(schema::Role role, FrozenLinear<T>& to) {
        f_(schema::name_of(weight(role)), to.weight, sizes().shape(*weight(role).row));
        bias(role, to);
    }
    /// A matrix and its bias.
    void layer(schema::Role role, FrozenLinear<T>& to, Index = 0) {
        const Shape shape{to.weight.rows, to.weight.columns};  // nvcc takes no braces for an argument that depends on T
        sizes().learn(*weight(role).row, shape);
        matrix(role, to);
    }
    /// A vector.
    void vector(schema::Role role, const T*& to) { call(role, schema::Part::weight, to); }
    /// Weight and bias of a normalisation.
    void norm(schema::Role role, FrozenNorm<T>& to) {
        call(role, schema::Part::weight, to.weight);
        call(role, schema::Part::bias, to.bias);
    }

private:
    void bias(schema::Role role, FrozenLinear<T>& to) {
        if (has(role, schema::Part::bias)) call(role, schema::Part::bias, to.bias);
    }
    void call(schema::Role role, schema::Part part, const T*& to) {
        const schema::Weight w = weight(role, part);
        f_(schema::name_of(w), to, sizes().shape(*w.row));
    }

    const F& f_;
};

namespace detail {

/// Blocks of these sizes, whose weights are still to be read.
template <Device D>
Transformer<D> empty_blocks(Index layers, Index width, Index heads, Gelu gelu) {
    Block<D> block;
    block.d = width;
    block.heads = heads;
    block.gelu = gelu;
    Transformer<D> transformer;
    transformer.blocks.assign(static_cast<std::size_t>(layers), block);
    return transformer;
}

/// The weights of all blocks, in the order of the parameters of a trainable encoder.
template <class Visitor, Device D>
void visit_blocks(Visitor& visitor, Transformer<D>& transformer) {
    Index number = 0;
    for (Block<D>& b : transformer.blocks) {
        visitor.in_block({number++, 0});
        visitor.norm(schema::Role::norm_1, b.ln_1);
        visitor.norm(schema::Role::norm_2, b.ln_2);
        visitor.layer(schema::Role::attention_in, b.in_proj, b.d);
        visitor.layer(schema::Role::attention_out, b.out_proj);
        visitor.layer(schema::Role::mlp_in, b.c_fc);
        visitor.layer(schema::Role::mlp_out, b.c_proj);
    }
    visitor.outside_blocks();
}

}  // namespace detail

}  // namespace promptkd
