// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/weights.hpp>
#include <promptkd/op/patches.hpp>

namespace promptkd {

/// Saved activations of a VisionTransformer's forward pass.
template <Device D>
struct VisionTape {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    Index batch = 0;
    const T* images = nullptr;
    A* tokens = nullptr;  ///< before ln_pre
    T *mean_pre = nullptr, *rstd_pre = nullptr;
    TransformerTape<D> transformer;
    A* last = nullptr;  ///< class token after the last block (batch, d)
    T *mean_post = nullptr, *rstd_post = nullptr;
};

/// CLIP's ViT image encoder with optional visual prompts, which stand at the end of the sequence. Its weights are
/// frozen unless they are made parameters (see TrainableVision).
template <Device D>
class VisionTransformer {
public:
    using T = typename D::Scalar;
    using A = typename D::Activation;

    /// Reads the image branch of a model (OpenAI's key names) from `map` into `store`.
    VisionTransformer(FrozenStore<D>& store, const TensorMap& map)
        : config_(vision_config(map)),
          transformer_(detail::empty_blocks<D>(config_.layers, config_.width, config_.heads, gelu_of(map))) {
        WeightReader<D> reader(store, map, schema::vision_transformer, sizes_of(config_));
        visit_layers(reader);
    }

    const VisionConfig& config() const { return config_; }
    Index resolution() const { return config_.resolution(); }
    Index embed() const { return config_.embed; }
    Index width() const { return config_.width; }
    Index layers() const { return config_.layers; }

    /// Where `prompts` visual prompts stand in a batch of up to `max_batch` images.
    PlacementTable<D> place_prompts(D& device, Index prompts, Index max_batch) const {
        const Index tokens = 1 + config_.cells() + prompts;
        std::vector<std::int32_t> rows(static_cast<std::size_t>(prompts * max_batch));
        for (Index j = 0; j < prompts; ++j)
            for (Index b = 0; b < max_batch; ++b)
                rows[static_cast<std::size_t>(j * max_batch + b)] =
                    static_cast<std::int32_t>(b * tokens + 1 + config_.cells() + j);
        return PlacementTable<D>(device, prompts, max_batch, rows);
    }

    /// features (batch, embed), un-normalised, of images (batch, 3, resolution, resolution), normalised pixels.
    /// `prompts` may be null; `place` is the view of place_prompts() for this batch. `tape` null: inference.
    /// `observe(i, x)`: i = −1 after ln_pre, then after each block but the last.
    template <class Observer = NoObserver>
    void forward(D& device, Arena<D>& arena, const T* images, Index batch, const PromptLayers<T>* prompts,
                 const Placement& place, T* features, VisionTape<D>* tape, const Observer& observe = {}) const {
        typename Arena<D>::Scope scope(arena);
        const bool keep = tape != nullptr;
        const Index d = config_.width, count = prompts ? prompts->tokens : 0;
        const Sequences s{0, batch, 1 + config_.cells() + count, false};
        VisionTape<D> local;
        VisionTape<D>& t = keep ? *tape : local;
        t.batch = batch, t.images = images;
        t.tokens = arena.template take<A>(keep, s.rows() * d);
        embed_patches(device, arena, images, batch, prompts, t.tokens);
        if (keep) t.mean_pre = arena.template keep<T>(s.rows()), t.rstd_pre = arena.template keep<T>(s.rows());
        A* x = keep ? arena.template keep<A>(s.rows() * d) : t.tokens;
        layer_norm_forward(device, t.tokens, d, ln_pre_.weight, ln_pre_.bias, x, t.mean_pre, t.rstd_pre, s.rows(), d);
        observe(Index(-1), static_cast<const A*>(x));
        t.last = arena.template take<A>(keep, batch * d);
        transformer_.forward(device, arena, s, Selection{}, prompts, place, x, t.last, keep ? &t.transformer : nullptr,
                             observe);
        if (keep) t.mean_post = arena.template keep<T>(batch), t.rstd_post = arena.template keep<T>(batch);
        A* norm = arena.template scratch<A>(batch * d);
        layer_norm_forward(device, t.last, d, ln_post_.weight, ln_post_.bias, norm, t.mean_post, t.rstd_post, batch, d);
        linear_forward(device, projection_, norm, features, batch);
    }

    /// Adds to the gradients of `prompts` (which may be empty) what d_features (batch, embed) implies. Nothing below
    /// the prompts is computed. With `weights`, the gradients of all weights are added there too; the images of
    /// forward() must then still be where they were.
    void backward(D& device, Arena<D>& arena, const T* d_features, const PromptLayers<T>& prompts,
                  const Placement& place, const VisionTape<D>& t, const WeightGradients<T>* weights = nullptr) const {
        typename Arena<D>::Scope scope(arena);
        const Index d = config_.width, batch = t.batch;
        const Sequences s{0, batch, 1 + config_.cells() + prompts.tokens, false};
        A* d_out = arena.template scratch<A>(batch * config_.embed);
        convert(device, d_features, d_out, batch * config_.embed);
        A* d_last = arena.template scratch<A>(batch * d);
        if (weights) {  // ln_post's output again, in the memory of its gradient
            layer_norm_forward(device, static_cast<const A*>(t.last), d, ln_post_.weight, ln_post_.bias, d_last,
                               static_cast<T*>(nullptr), static_cast<T*>(nullptr), batch, d);
            add_linear_gradients(device, projection_, static_cast<const A*>(d_last), static_cast<const A*>(d_out),
                                 batch, weights);
        }
        linear_backward(device, projection_, d_out, d_last, batch);
        add_norm_gradients(device, ln_post_, static_cast<const A*>(t.last), static_cast<const A*>(d_last), t.mean_post,
                           t.rstd_post, batch, d, weights);
        layer_norm_backward(device, t.last, d, d_last, ln_post_.weight, t.mean_post, t.rstd_post, d_last, d, false,
                            batch, d);
        A* dx = arena.template scratch<A>(s.rows() * d);
        transformer_.backward(device, arena, s, Selection{}, &prompts, place, d_last, dx, t.transformer, weights);
        const bool shallow = !prompts.empty() && prompts.layers[0]->grad;
        if (!shallow && !weights) return;
        add_norm_gradients(device, ln_pre_, static_cast<const A*>(t.tokens), static_cast<const A*>(dx), t.mean_pre,
                           t.rstd_pre, s.rows(), d, weights);
        layer_norm_backward(device, t.tokens, d, dx, ln_pre_.weight, t.mean_pre, t.rstd_pre, dx, d, false, s.rows(), d);
        if (shallow) collect_prompt_gradients(device, place, static_cast<const A*>(dx), prompts.layers[0]->grad, d);
        if (weights) embedding_gradients(device, arena, dx, prompts.tokens, t, *weights);
    }

    /// Calls visit(name, tensor, shape) for every weight under OpenAI's names; `tensor` is a reference to a
    /// FrozenMatrix or to a pointer, in the form and shape in which it is computed with: the projection is (embed, d)
    /// here, the transpose of what files hold.
    template <class Visit>
    void visit_weights(const Visit& visit) {
        TensorVisitor<T, Visit> visitor(schema::vision_transformer, sizes_of(config_), visit);
        visit_layers(visitor);
    }

private:
    /// The weights by their roles, in the order of the parameters of a trainable encoder.
    template <class Visitor>
    void visit_layers(Visitor& visitor) {
        visitor.matrix(schema::Role::patch_embedding, patch_embedding_);
        visitor.vector(schema::Role::class_token, class_embedding_);
        visitor.vector(schema::Role::positions, positions_);
        visitor.norm(schema::Role::first_norm, ln_pre_);
        visitor.norm(schema::Role::last_norm, ln_post_);
        detail::visit_blocks(visitor, transformer_);
        visitor.matrix(schema::Role::projection, projection_);
    }

    void embed_patches(D& device, Arena<D>& arena, const T* images, Index batch, const PromptLayers<T>* prompts,
                       A* tokens) const {
        typename Arena<D>::Scope scope(arena);
        const Index cells = config_.cells(), d = config_.width, columns = 3 * config_.patch * config_.patch;
        A* patches = arena.template scratch<A>(batch * cells * columns);
        extract_patches(device, images, patches, batch, config_.grid, config_.patch, config_.resolution());
        A* embedded = arena.template scratch<A>(batch * cells * d);
        linear_forward(device, patch_embedding_, patches, embedded, batch * cells);
        const T* shallow = prompts && !prompts->empty() ? prompts->layers[0]->value : nullptr;
        assemble_tokens(device, embedded, class_embedding_, positions_, shallow, prompts ? prompts->tokens : 0, tokens,
                        batch, cells, d);
    }

    /// Gradients of class token, positions and patch embedding from dx, that of the assembled tokens.
    void embedding_gradients(D& device, Arena<D>& arena, const A* dx, Index prompt_count, const VisionTape<D>& t,
                             const WeightGradients<T>& weights) const {
        typename Arena<D>::Scope scope(arena);
        const Index cells = config_.cells(), d = config_.width, columns = 3 * config_.patch * config_.patch;
        A* d_patches = arena.template scratch<A>(t.batch * cells * d);
        disassemble_token_gradients(device, dx, weights.of(class_embedding_), weights.of(positions_), d_patches,
                                    prompt_count, t.batch, cells, d);
        A* patches = arena.template scratch<A>(t.batch * cells * columns);
        extract_patches(device, t.images, patches, t.batch, config_.grid, config_.patch, config_.resolution());
        add_linear_gradients(device, patch_embedding_, static_cast<const A*>(patches), static_cast<const A*>(d_patches),
                             t.batch * cells, &weights);
    }

    VisionConfig config_;
    FrozenLinear<T> patch_embedding_, projection_;
    const T *class_embedding_ = nullptr, *positions_ = nullptr;
    FrozenNorm<T> ln_pre_, ln_post_;
    Transformer<D> transformer_;
};

}  // namespace promptkd
