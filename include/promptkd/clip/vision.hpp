// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_rotation.hpp>
#include <promptkd/clip/patch_stem.hpp>
#include <promptkd/clip/vision_head.hpp>
#include <promptkd/clip/weights.hpp>
#include <promptkd/op/patches.hpp>

namespace promptkd {

/// Saved activations of a VisionTransformer's forward pass.
template <Device D>
struct VisionTape {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    Matrix<const T> images;          ///< the input
    Sequences sequences;             ///< tokens of the images
    Matrix<A> tokens;                ///< before ln_pre (batch·tokens, d)
    RowMoments<T> moments_pre;       ///< of ln_pre
    TransformerTape<D> transformer;  ///< of the blocks
    VisionHeadTape<D> head;          ///< of what follows them

    /// Of the first LayerNorm.
    LayerNormTape<A, T> ln_pre() const { return {tokens, moments_pre}; }
};

/// A pass whose features are those of the patches, of images of any size.
template <class T>
struct PatchPass {
    PatchGrid grid;             ///< how the images are divided
    Matrix<const T> positions;  ///< (class token's, where it has one, + cells, d), for that grid
    LastBlock<T> last;          ///< what the last block is
    PlacedPrompts<T> prompts;   ///< where they stand in sequences of that grid
};

/// A ViT image encoder with optional visual prompts, which stand at the end of the sequence; what kind of ViT, its
/// VisionConfig says. Its weights are frozen; a copy of it can hold trained ones (see TrainableVision).
template <Device D>
class VisionTransformer {
public:
    using T = typename D::Scalar;
    using A = typename D::Activation;

    /// Reads the image branch of a model (OpenAI's key names) from `map` into `store`.
    VisionTransformer(FrozenStore<D>& store, const TensorMap& map)
        : config_(vision_config(map)),
          transformer_(detail::empty_blocks<D>(config_.layers, config_.width, config_.heads, config_.blocks)),
          head_(config_) {
        ln_pre_.epsilon = config_.blocks.epsilon;
        WeightReader<D> reader(store, map, schema::vision_transformer, sizes_of(config_));
        visit_layers(reader);
        if (config_.stem) stem_ = PatchStem<D>(reader, store, config_);
        head_.read_pool(reader, store);
        const Rotation<T> rotation = read_rotation(store, config_);
        for (Block<D>& block : transformer_.blocks) block.attention.rotation = rotation;
    }

    /// What it is.
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
        return place_prompts(device, prompts, max_batch, config_.cells());
    }
    /// The same for images of `cells` patches.
    PlacementTable<D> place_prompts(D& device, Index prompts, Index max_batch, Index cells) const {
        const Index first = config_.class_tokens() + cells, tokens = first + prompts;
        std::vector<std::int32_t> rows(static_cast<std::size_t>(prompts * max_batch));
        for (Index j = 0; j < prompts; ++j)
            for (Index b = 0; b < max_batch; ++b)
                rows[static_cast<std::size_t>(j * max_batch + b)] = static_cast<std::int32_t>(b * tokens + first + j);
        return PlacementTable<D>(device, prompts, max_batch, rows);
    }

    /// features (batch, embed), un-normalised, of images (batch, 3·resolution²): three channels of normalised pixels
    /// one behind the other. `prompts` stand where place_prompts() says for this batch; they take part in attention
    /// (that of the pooling too), and not in a mean of the patches. `tape` null: inference. `observe(i, x)`: i = −1
    /// before the first block, then after each block but the last.
    template <class Observer = NoObserver>
    void forward(const Workspace<D>& w, Matrix<const T> images, const PlacedPrompts<T>& prompts, Matrix<T> features,
                 VisionTape<D>* tape, const Observer& observe = {}) const {
        require_shape(images, features.rows, 3 * resolution() * resolution(), "image encoder: the images");
        require_shape(features, images.rows, config_.embed, "image encoder: the features");
        const WorkspaceScope scope(w);
        const Keep kept = tape ? Keep::yes : Keep::no;
        const Index d = config_.width, batch = images.rows;
        VisionTape<D> local;
        VisionTape<D>& t = tape ? *tape : local;
        t.images = images;
        t.sequences = {0, batch, config_.class_tokens() + config_.cells() + prompts.tokens(), false};
        const Sequences& s = t.sequences;
        t.tokens = take<A>(w, kept, s.rows(), d);
        embed_patches(w, images, {patch_grid(), own_positions(), {}, prompts}, t.tokens);
        const Matrix<A> x = config_.first_norm ? first_norm(w, t, kept) : t.tokens;
        observe(Index(-1), Matrix<const A>(x));
        t.head.last = take<A>(w, kept, head_.reads_one_token() ? batch : s.rows(), d);
        TokenLayout<T> layout{s, {}, prompts};
        if (head_.reads_one_token()) layout.selection = Selection{};
        transformer_.forward(w, layout, x, t.head.last, tape ? &t.transformer : nullptr, observe);
        head_.forward(w, s, t.head, kept, features);
    }

    /// features (batch·cells, embed), un-normalised, of the patches of images (batch, 3·height·width), each by its norm
    /// and projection alone: after the last block as `pass` says. `tape` null: inference. `observe(i, x)` as above, and
    /// after the last block, x (batch·tokens, d). Throws Error for a tower whose patches have no features of their own.
    template <class Observer = NoObserver>
    void forward_patches(const Workspace<D>& w, Matrix<const T> images, const PatchPass<T>& pass, Matrix<T> features,
                         VisionTape<D>* tape, const Observer& observe = {}) const {
        require_patch_features(pass.grid);
        const Index cells = pass.grid.cells(), d = config_.width, batch = images.rows;
        require_shape(images, batch, pass.grid.image_values(), "features of patches: the images");
        require_shape(features, batch * cells, config_.embed, "features of patches");
        const WorkspaceScope scope(w);
        const Keep kept = tape ? Keep::yes : Keep::no;
        VisionTape<D> local;
        VisionTape<D>& t = tape ? *tape : local;
        t.images = images;
        t.sequences = {0, batch, config_.class_tokens() + cells + pass.prompts.tokens(), false};
        t.tokens = take<A>(w, kept, t.sequences.rows(), d);
        embed_patches(w, images, pass, t.tokens);
        const Matrix<A> x = config_.first_norm ? first_norm(w, t, kept) : t.tokens;
        observe(Index(-1), Matrix<const A>(x));
        const Matrix<A> last = take<A>(w, kept, x.rows, d);
        TransformerTape<D>* const blocks = tape ? &tape->transformer : nullptr;
        transformer_.forward(w, {t.sequences, {}, pass.prompts, pass.last}, x, last, blocks, observe);
        observe(config_.layers - 1, Matrix<const A>(last));
        t.head.by_itself = true;
        t.head.last = take<A>(w, kept, batch * cells, d);
        gather_patch_rows(w.device, last, t.sequences.tokens(), config_.class_tokens(), t.head.last);
        head_.forward(w, t.sequences, t.head, kept, features);
    }

    /// Throws Error for a tower whose patches have no features of their own in a grid.
    void require_patch_features(const PatchGrid& grid) const {
        const bool own = grid.rows == config_.grid && grid.columns == config_.grid;
        const char* part = config_.pooling == Pooling::attention                   ? "pooling by attention"
                           : config_.stem                                          ? "convolutional stem"
                           : config_.rotation.order != RotationOrder::none && !own ? "rotary positions at another size"
                                                                                   : nullptr;
        require(!part, "features of patches do not exist for this image tower: ", part ? part : "");
    }

    /// (class token's, where it has one, + cells, d): the model's own positions.
    Matrix<const T> own_positions() const { return {positions_.values, config_.positions(), config_.width}; }

    /// Adds to the gradients of `prompts` (if there are any) what d_features (batch, embed) implies. Nothing below the
    /// prompts is computed, unless weights there are trained; then the images of forward() must still be where they
    /// were.
    void backward(const Workspace<D>& w, Matrix<const T> d_features, const PlacedPrompts<T>& prompts,
                  const VisionTape<D>& t) const {
        const WorkspaceScope scope(w);
        const Matrix<A> d_last = scratch<A>(w, t.head.last.rows, config_.width);
        head_.backward(w, t.sequences, d_features, t.head, d_last);
        const PatchPass<T> pass{patch_grid(), own_positions(), {}, prompts};
        backward_tokens(w, d_last, pass, t, {positions_.gradient, config_.positions(), config_.width});
    }

    /// The same behind forward_patches() of the same pass, from d_features (batch·cells, embed). Positions stay as they
    /// are: they have no gradient here.
    void backward_patches(const Workspace<D>& w, Matrix<const T> d_features, const PatchPass<T>& pass,
                          const VisionTape<D>& t) const {
        const WorkspaceScope scope(w);
        const Matrix<A> d_patches = scratch<A>(w, t.head.last.rows, config_.width);
        head_.backward(w, t.sequences, d_features, t.head, d_patches);
        const Matrix<A> d_last = scratch<A>(w, t.tokens.rows, config_.width);
        scatter_patch_rows(w.device, d_patches, t.sequences.tokens(), config_.class_tokens(), d_last);
        const Matrix<T> unused = scratch<T>(w, pass.positions.rows, config_.width);
        zero(w.device, unused);
        backward_tokens(w, d_last, pass, t, unused);
    }

    /// Calls visit(name, tensor, gradient, shape) for every weight under OpenAI's names; `tensor` is a reference to a
    /// WeightMatrix or to a pointer, in the form and shape in which it is computed with: the projection is (embed, d)
    /// here, the transpose of what files hold. `gradient` is a reference to the pointer that its layer has for it.
    template <class Visit>
    void visit_weights(const Visit& visit) {
        TensorVisitor<T, Visit> visitor(schema::vision_transformer, sizes_of(config_), visit);
        visit_layers(visitor);
    }

    /// Its blocks, for policies of their weights (clip/lora.hpp).
    Transformer<D>& transformer() { return transformer_; }

    /// Throws Error unless all weights can be trained: not those of a pooling by attention and of a convolutional stem,
    /// which are computed with in another form than they are stored in.
    void require_trainable() const {
        const char* part = config_.pooling == Pooling::attention ? "pooling by attention"
                           : config_.stem                        ? "convolutional stem"
                           : !config_.class_position             ? "class token without a position"
                           : config_.reads_one_token() && config_.pool_norm == NormPlace::before
                               ? "norm in front of the class token"
                               : nullptr;
        require(!part, "full fine-tuning does not know this image tower's ", part ? part : "",
                "; train its prompts and projector");
    }

private:
    /// The weights by their roles, in the order of the parameters of a trainable encoder.
    template <class Visitor>
    void visit_layers(Visitor& visitor) {
        if (!config_.stem) visitor.matrix(schema::Role::patch_embedding, patch_embedding_);
        if (config_.class_token) visitor.vector(schema::Role::class_token, class_embedding_);
        visitor.vector(schema::Role::positions, positions_);
        if (config_.first_norm) visitor.norm(schema::Role::first_norm, ln_pre_);
        head_.visit_norm(visitor);
        detail::visit_blocks(visitor, transformer_);
        head_.visit_projection(visitor);
    }

    /// Whether something below the first block is trained.
    bool is_trained() const { return patch_embedding_.needs_input() || ln_pre_.training.needs_input(); }

    PatchGrid patch_grid() const { return {config_.grid, config_.patch, config_.resolution()}; }

    /// What the blocks read: ln_pre of the tokens, in their memory unless they are kept.
    Matrix<A> first_norm(const Workspace<D>& w, VisionTape<D>& t, Keep kept) const {
        if (kept == Keep::yes) t.moments_pre = keep_moments<T>(w, t.tokens.rows);
        const Matrix<A> x = kept == Keep::yes ? keep<A>(w, t.tokens.rows, t.tokens.columns) : t.tokens;
        layer_norm_forward(w.device, t.tokens, ln_pre_, x, t.moments_pre);
        return x;
    }

    void embed_patches(const Workspace<D>& w, Matrix<const T> images, const PatchPass<T>& pass,
                       Matrix<A> tokens) const {
        const WorkspaceScope scope(w);
        const PatchGrid& grid = pass.grid;
        const PromptLayers<T>* const prompts = pass.prompts.layers;
        const Index cells = images.rows * grid.cells();
        Matrix<A> patches;
        if (!config_.stem) patches = scratch<A>(w, cells, grid.patch_values());
        const Matrix<A> embedded = scratch<A>(w, cells, config_.width);
        if (config_.stem) {
            stem_.forward(w, images, embedded);
        } else {
            extract_patches(w.device, images, grid, patches);
            linear_forward(w, patch_embedding_, patches, embedded);
        }
        TokenParts<T> parts{class_embedding_.values, pass.positions, {}};
        if (prompts && !prompts->empty()) parts.prompts = prompts->values(0);
        assemble_tokens(w.device, embedded, grid.cells(), parts, tokens);
    }

    /// What follows from d_last, the gradient of what the last block wrote.
    void backward_tokens(const Workspace<D>& w, Matrix<const A> d_last, const PatchPass<T>& pass,
                         const VisionTape<D>& t, Matrix<T> d_positions) const {
        const WorkspaceScope scope(w);
        const Matrix<A> dx = scratch<A>(w, t.tokens.rows, config_.width);
        transformer_.backward(w, pass.prompts, t.transformer, d_last, dx);
        const PlacedPrompts<T>& prompts = pass.prompts;
        const bool shallow = prompts.layers && !prompts.layers->empty() && prompts.layers->layers[0]->grad;
        if (!shallow && !is_trained()) return;
        if (config_.first_norm) {
            add_norm_gradients(w.device, ln_pre_, t.ln_pre(), dx);
            layer_norm_backward(w.device, ln_pre_, t.ln_pre(), dx, dx);
        }
        if (shallow) collect_prompt_gradients(w.device, prompts.place, dx, prompts.layers->gradients(0));
        if (patch_embedding_.needs_input()) embedding_gradients(w, dx, t, pass.grid, d_positions);
    }

    /// Gradients of class token, positions and patch embedding from dx, that of the assembled tokens.
    void embedding_gradients(const Workspace<D>& w, Matrix<const A> dx, const VisionTape<D>& t, const PatchGrid& grid,
                             Matrix<T> d_positions) const {
        const WorkspaceScope scope(w);
        const Index cells = t.images.rows * grid.cells();
        const Matrix<A> d_patches = scratch<A>(w, cells, config_.width);
        disassemble_token_gradients(w.device, dx, class_embedding_.gradient, d_positions, d_patches,
                                    config_.class_tokens());
        const Matrix<A> patches = scratch<A>(w, cells, grid.patch_values());
        extract_patches(w.device, t.images, grid, patches);
        add_linear_gradients(w, patch_embedding_, patches, d_patches);
    }

    VisionConfig config_;
    Linear<T> patch_embedding_;
    PatchStem<D> stem_;
    WeightVector<T> class_embedding_, positions_;
    Norm<T> ln_pre_;
    Transformer<D> transformer_;
    VisionHead<D> head_;
};

}  // namespace promptkd
