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
    Matrix<const T> images;          ///< the input
    Matrix<A> tokens;                ///< before ln_pre (batch·tokens, d)
    RowMoments<T> moments_pre;       ///< of ln_pre
    TransformerTape<D> transformer;  ///< of the blocks
    Matrix<A> last;                  ///< class token after the last block (batch, d)
    RowMoments<T> moments_post;      ///< of ln_post

    /// Of the first LayerNorm.
    LayerNormTape<A, T> ln_pre() const { return {tokens, moments_pre}; }
    /// Of the last LayerNorm.
    LayerNormTape<A, T> ln_post() const { return {last, moments_post}; }
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

    /// Its sizes.
    const VisionConfig& config() const { return config_; }
    /// Height and width of the images.
    Index resolution() const { return config_.resolution(); }
    /// Size e of the features.
    Index embed() const { return config_.embed; }
    /// Width d of the tokens.
    Index width() const { return config_.width; }
    /// Number of blocks.
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

    /// features (batch, embed), un-normalised, of images (batch, 3·resolution²): three channels of normalised pixels
    /// one behind the other. `prompts` stand where place_prompts() says for this batch. `tape` null: inference.
    /// `observe(i, x)`: i = −1 after ln_pre, then after each block but the last.
    template <class Observer = NoObserver>
    void forward(const Workspace<D>& w, Matrix<const T> images, const PlacedPrompts<T>& prompts, Matrix<T> features,
                 VisionTape<D>* tape, const Observer& observe = {}) const {
        require_shape(images, features.rows, 3 * resolution() * resolution(), "image encoder: the images");
        require_shape(features, images.rows, config_.embed, "image encoder: the features");
        const WorkspaceScope scope(w);
        const Keep keep = tape ? Keep::yes : Keep::no;
        const Index d = config_.width, batch = images.rows;
        const Sequences s{0, batch, 1 + config_.cells() + prompts.tokens(), false};
        VisionTape<D> local;
        VisionTape<D>& t = tape ? *tape : local;
        t.images = images;
        t.tokens = take<A>(w, keep, s.rows(), d);
        embed_patches(w, images, prompts.layers, t.tokens);
        if (tape) t.moments_pre = keep_moments<T>(w, s.rows());
        const Matrix<A> x = tape ? promptkd::keep<A>(w, s.rows(), d) : t.tokens;
        layer_norm_forward(w.device, t.tokens, ln_pre_, x, t.moments_pre);
        observe(Index(-1), Matrix<const A>(x));
        t.last = take<A>(w, keep, batch, d);
        transformer_.forward(w, TokenLayout<T>{s, Selection{}, prompts}, x, t.last, tape ? &t.transformer : nullptr,
                             observe);
        if (tape) t.moments_post = keep_moments<T>(w, batch);
        const Matrix<A> norm = scratch<A>(w, batch, d);
        layer_norm_forward(w.device, t.last, ln_post_, norm, t.moments_post);
        linear_forward(w.device, projection_, norm, features);
    }

    /// Adds to the gradients of `prompts` (if there are any) what d_features (batch, embed) implies. Nothing below the
    /// prompts is computed. With `weights`, the gradients of all weights are added there too; the images of forward()
    /// must then still be where they were.
    void backward(const Workspace<D>& w, Matrix<const T> d_features, const PlacedPrompts<T>& prompts,
                  const VisionTape<D>& t, const WeightGradients<T>* weights = nullptr) const {
        const WorkspaceScope scope(w);
        const Matrix<A> d_last = scratch<A>(w, t.last.rows, config_.width);
        head_backward(w, d_features, t, d_last, weights);
        const Matrix<A> dx = scratch<A>(w, t.tokens.rows, config_.width);
        transformer_.backward(w, prompts, t.transformer, d_last, dx, weights);
        const bool shallow = prompts.layers && !prompts.layers->empty() && prompts.layers->layers[0]->grad;
        if (!shallow && !weights) return;
        add_norm_gradients(w.device, ln_pre_, t.ln_pre(), dx, weights);
        layer_norm_backward(w.device, ln_pre_, t.ln_pre(), dx, dx);
        if (shallow) collect_prompt_gradients(w.device, prompts.place, dx, prompts.layers->gradients(0));
        if (weights) embedding_gradients(w, dx, t, *weights);
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

    PatchGrid patch_grid() const { return {config_.grid, config_.patch, config_.resolution()}; }
    Matrix<const T> positions() const { return {positions_, 1 + config_.cells(), config_.width}; }

    void embed_patches(const Workspace<D>& w, Matrix<const T> images, const PromptLayers<T>* prompts,
                       Matrix<A> tokens) const {
        const WorkspaceScope scope(w);
        const PatchGrid grid = patch_grid();
        const Index cells = images.rows * grid.cells();
        const Matrix<A> patches = scratch<A>(w, cells, grid.patch_values());
        extract_patches(w.device, images, grid, patches);
        const Matrix<A> embedded = scratch<A>(w, cells, config_.width);
        linear_forward(w.device, patch_embedding_, patches, embedded);
        const Matrix<const T> shallow = prompts && !prompts->empty() ? prompts->values(0) : Matrix<const T>();
        assemble_tokens(w.device, embedded, class_embedding_, positions(), shallow, tokens);
    }

    /// d_last (batch, d), the gradient of the class tokens after the last block.
    void head_backward(const Workspace<D>& w, Matrix<const T> d_features, const VisionTape<D>& t, Matrix<A> d_last,
                       const WeightGradients<T>* weights) const {
        const WorkspaceScope scope(w);
        const Matrix<A> d_out = scratch<A>(w, d_last.rows, config_.embed);
        convert(w.device, d_features, d_out);
        if (weights) {  // ln_post's output again, in the memory of its gradient
            layer_norm_forward(w.device, t.last, ln_post_, d_last);
            add_linear_gradients(w.device, projection_, d_last, d_out, weights);
        }
        linear_backward(w.device, projection_, d_out, d_last);
        add_norm_gradients(w.device, ln_post_, t.ln_post(), d_last, weights);
        layer_norm_backward(w.device, ln_post_, t.ln_post(), d_last, d_last);
    }

    /// Gradients of class token, positions and patch embedding from dx, that of the assembled tokens.
    void embedding_gradients(const Workspace<D>& w, Matrix<const A> dx, const VisionTape<D>& t,
                             const WeightGradients<T>& weights) const {
        const WorkspaceScope scope(w);
        const PatchGrid grid = patch_grid();
        const Index cells = t.images.rows * grid.cells();
        const Matrix<A> d_patches = scratch<A>(w, cells, config_.width);
        const Matrix<T> d_positions{weights.of(positions_), 1 + grid.cells(), config_.width};
        disassemble_token_gradients(w.device, dx, weights.of(class_embedding_), d_positions, d_patches);
        const Matrix<A> patches = scratch<A>(w, cells, grid.patch_values());
        extract_patches(w.device, t.images, grid, patches);
        add_linear_gradients(w.device, patch_embedding_, patches, d_patches, &weights);
    }

    VisionConfig config_;
    FrozenLinear<T> patch_embedding_, projection_;
    const T *class_embedding_ = nullptr, *positions_ = nullptr;
    FrozenNorm<T> ln_pre_, ln_post_;
    Transformer<D> transformer_;
};

}  // namespace promptkd
