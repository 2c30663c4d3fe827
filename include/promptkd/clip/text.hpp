// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/weights.hpp>
#include <promptkd/text/token_rows.hpp>

#include <memory>

namespace promptkd {

/// Saved activations of a TextTransformer's forward pass.
template <Device D>
struct TextTape {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    TransformerTape<D> transformer;  ///< of the blocks
    Matrix<A> last;                  ///< EOT rows after the last block (count, d)
    RowMoments<T> moments_final;     ///< of ln_final

    /// Of the last LayerNorm.
    LayerNormTape<A, T> ln_final() const { return {last, moments_final}; }
};

/// What is learnable about a text branch: context vectors and deep prompts. Both may be absent (null).
template <class T>
struct TextPrompts {
    const T* context = nullptr;             ///< (vectors, d), times the number of texts when class-specific
    const PromptLayers<T>* deep = nullptr;  ///< its layers[0] is not read here (it is the context)
};

/// A fixed set of texts, laid out for the device: embeddings of the fixed tokens, where the context vectors and deep
/// prompts stand, which rows are shared, where each text ends. Made once by TextTransformer::prepare.
template <Device D>
struct TextBatch {
    Sequences sequences;  ///< what is in the rows
    /// (rows, d): token embedding + position; position alone under a context vector.
    Buffer<D, typename D::Scalar> base;
    Buffer<D, std::int32_t> end_positions;  ///< the row of each text that is read, counted from the start of its run
    PlacementTable<D> context;              ///< rows of the shallow context vectors
    PlacementTable<D> deep;                 ///< rows 1…n of the deep prompts
    Buffer<D, std::int32_t> class_keys;     ///< of a class token behind the texts: how many tokens it sees

    /// Number of texts.
    Index count() const { return sequences.count; }
};

/// A text encoder, CLIP's or another that its TextConfig describes, with frozen weights, optional context vectors and
/// deep prompts.
template <Device D>
class TextTransformer {
public:
    using T = typename D::Scalar;
    using A = typename D::Activation;

    /// Reads the text branch (OpenAI's key names) from `map` into `store`. The token embedding stays where `map` holds
    /// it.
    TextTransformer(FrozenStore<D>& store, const TensorMap& map)
        : config_(text_config(map)),
          transformer_(detail::empty_blocks<D>(config_.layers, config_.width, config_.heads, config_.blocks)) {
        ln_final_.epsilon = config_.blocks.epsilon;
        WeightReader<D> reader(store, map, schema::text_transformer, sizes_of(config_));
        embedding_ = reader.tensor(schema::Role::token_table);
        positions_ = reader.tensor(schema::Role::positions).template to<T>();
        if (config_.pooling == TextPooling::class_token)
            class_token_ = reader.tensor(schema::Role::class_token).template to<T>();
        detail::visit_blocks(reader, transformer_);
        reader.norm(schema::Role::last_norm, ln_final_);
        if (config_.projection) reader.matrix(schema::Role::projection, projection_);
    }

    /// Its sizes.
    const TextConfig& config() const { return config_; }
    /// Size e of the features.
    Index embed() const { return config_.embed; }

    /// Lays out the texts `given` for forward(). `context`: where learnable vectors replace token embeddings (before
    /// the position is added); `deep_prompts`: how many positions from 1 on are overwritten in the prompted blocks.
    /// Throws Error for ids outside the vocabulary and for prompts that reach a text's end.
    TextBatch<D> prepare(D& device, const TokenRows& given, const ContextLayout& context = {}, Index deep_prompts = 0,
                         TextSavings savings = {}) const {
        TokenRows tokens = given;
        tokens.end_id = config_.end_id;
        check(tokens, context, deep_prompts);
        TextBatch<D> batch;
        savings = valid_savings(savings);
        Index longest = 0;
        for (Index i = 0; i < tokens.count; ++i) longest = std::max(longest, end_of(tokens, i) + 1);
        const Index length = savings.cut_after_end ? longest : sequence_of(tokens);
        const Index prefix = savings.share_prefix ? shared_prefix(tokens, context) : 0;
        batch.sequences = {prefix, tokens.count, length - prefix, config_.causal};
        if (config_.pooling == TextPooling::class_token) {
            batch.class_keys = Buffer<D, std::int32_t>(device, class_keys(tokens));
            batch.sequences.last_row_keys = batch.class_keys.data();
        }
        batch.base = Buffer<D, T>(device, fixed_rows(tokens, context, batch.sequences));
        std::vector<std::int32_t> ends;
        for (Index i = 0; i < tokens.count; ++i)
            ends.push_back(static_cast<std::int32_t>(feature_row(tokens, i) - prefix));
        batch.end_positions = Buffer<D, std::int32_t>(device, ends);
        batch.context = place(device, context, batch.sequences);
        if (deep_prompts > 0)
            batch.deep = place(device, ContextLayout::after_start(tokens.count, deep_prompts), batch.sequences);
        return batch;
    }

    /// features (count, embed), un-normalised. `tape` null: inference. `observe(i, x)`: after each block but the last.
    template <class Observer = NoObserver>
    void forward(const Workspace<D>& w, const TextBatch<D>& batch, const TextPrompts<T>& prompts, Matrix<T> features,
                 TextTape<D>* tape, const Observer& observe = {}) const {
        const Sequences& s = batch.sequences;
        require_shape(features, s.count, config_.embed, "text encoder: the features");
        const WorkspaceScope scope(w);
        const Keep keep = tape ? Keep::yes : Keep::no;
        const Index d = config_.width;
        TextTape<D> local;
        TextTape<D>& t = tape ? *tape : local;
        const Matrix<A> x = take<A>(w, keep, s.rows(), d);
        convert(w.device, batch.base.matrix(s.rows(), d), x);
        if (prompts.context) {
            const Placement place = batch.context.view();
            add_prompts(w.device, place, Matrix<const T>(prompts.context, place.prompts, d), x);
        }
        t.last = take<A>(w, keep, s.count, d);
        const TokenLayout<T> layout{s, Selection{batch.end_positions.data()}, {prompts.deep, batch.deep.view()}};
        transformer_.forward(w, layout, x, t.last, tape ? &t.transformer : nullptr, observe);
        if (tape) t.moments_final = keep_moments<T>(w, s.count);
        const Matrix<A> norm = scratch<A>(w, s.count, d);
        layer_norm_forward(w.device, t.last, ln_final_, norm, t.moments_final);
        if (config_.projection)
            linear_forward(w, projection_, norm, features);
        else
            convert(w.device, norm, features);
    }

    /// Adds to d_context (or not, when null) and to the gradients of the deep prompts what d_features (count, embed)
    /// implies; and the gradients of weights that are trained.
    void backward(const Workspace<D>& w, const TextBatch<D>& batch, Matrix<const T> d_features, T* d_context,
                  const PromptLayers<T>* deep, const TextTape<D>& t) const {
        const Sequences& s = batch.sequences;
        require_shape(d_features, s.count, config_.embed, "gradient of the text encoder: d_features");
        const WorkspaceScope scope(w);
        const Index d = config_.width;
        const Matrix<A> d_out = scratch<A>(w, s.count, config_.embed);
        convert(w.device, d_features, d_out);
        const Matrix<A> d_last = scratch<A>(w, s.count, d);
        if (projection_.needs_input()) {  // its input again, in the memory of its gradient
            layer_norm_forward(w.device, t.last, ln_final_, d_last);
            add_linear_gradients(w, projection_, d_last, d_out);
        }
        if (config_.projection)
            linear_backward(w, projection_, d_out, d_last);
        else
            copy(w.device, d_out, d_last);
        add_norm_gradients(w.device, ln_final_, t.ln_final(), d_last);
        layer_norm_backward(w.device, ln_final_, t.ln_final(), d_last, d_last);
        const Matrix<A> dx = scratch<A>(w, s.rows(), d);
        transformer_.backward(w, {deep, batch.deep.view()}, t.transformer, d_last, dx);
        if (!d_context) return;
        const Placement place = batch.context.view();
        collect_prompt_gradients(w.device, place, dx, Matrix<T>(d_context, place.prompts, d));
    }

    /// Its blocks, for policies of their weights (clip/lora.hpp).
    Transformer<D>& transformer() { return transformer_; }

    /// Calls visit(name, tensor, gradient, shape) for the weights of blocks, last norm and projection, see
    /// VisionTransformer::visit_weights(). Token table and positions are constants of a TextBatch.
    template <class Visit>
    void visit_weights(const Visit& visit) {
        TensorVisitor<T, Visit> visitor(schema::text_transformer, sizes_of(config_), visit);
        detail::visit_blocks(visitor, transformer_);
        visitor.norm(schema::Role::last_norm, ln_final_);
        if (config_.projection) visitor.matrix(schema::Role::projection, projection_);
    }

    /// Token embeddings of `ids`, one row of width d each: what a context is initialised from.
    std::vector<T> embed_tokens(const std::vector<std::int32_t>& ids) const {
        std::vector<T> rows(ids.size() * static_cast<std::size_t>(config_.width));
        for (std::size_t i = 0; i < ids.size(); ++i) {
            require(ids[i] >= 0 && ids[i] < config_.vocabulary, "token id ", ids[i],
                    " is outside the model's vocabulary of ", config_.vocabulary,
                    "; the vocabulary file does not belong to this model");
            embedding_.copy_to(rows.data() + i * static_cast<std::size_t>(config_.width), ids[i] * config_.width,
                               config_.width);
        }
        return rows;
    }

    /// The savings that leave this encoder's features unchanged: without a causal mask none; where the last position is
    /// read the shared prefix alone.
    TextSavings valid_savings(TextSavings wanted) const {
        wanted.share_prefix = wanted.share_prefix && config_.causal;
        wanted.cut_after_end = wanted.cut_after_end && config_.causal && config_.pooling == TextPooling::end;
        return wanted;
    }

private:
    /// Where a text ends: prompts must stand before.
    Index end_of(const TokenRows& tokens, Index text) const {
        return config_.pooling == TextPooling::last ? tokens.context_length - 1 : tokens.end_of_text(text);
    }
    /// Tokens of each sequence.
    Index sequence_of(const TokenRows& tokens) const {
        return tokens.context_length + (config_.pooling == TextPooling::class_token ? 1 : 0);
    }
    /// Where the features of a text are taken.
    Index feature_row(const TokenRows& tokens, Index text) const {
        if (config_.pooling == TextPooling::first) return 0;
        return config_.pooling == TextPooling::class_token ? tokens.context_length : end_of(tokens, text);
    }
    /// How many tokens each text's class token sees: key j is open where j = 0 or token j − 1 is none of the padding
    /// (id 0) behind the text, so that the first token of the padding is (open_clip's CoCa).
    static std::vector<std::int32_t> class_keys(const TokenRows& tokens) {
        std::vector<std::int32_t> keys;
        for (Index i = 0; i < tokens.count; ++i) {
            Index length = tokens.context_length;
            while (length > 0 && tokens.at(i, length - 1) == 0) --length;
            for (Index t = 0; t < length; ++t)
                require(tokens.at(i, t) != 0, "text ", i, " has the padding's id 0 inside (token ", t,
                        "), which this model's class token would not see; leave it out");
            keys.push_back(static_cast<std::int32_t>(length + 1));
        }
        return keys;
    }

    void check(const TokenRows& tokens, const ContextLayout& context, Index deep_prompts) const {
        require(tokens.count > 0, "no texts to encode");
        require(tokens.context_length <= config_.context_length, "texts of ", tokens.context_length,
                " tokens, but the model's context length is ", config_.context_length);
        require(config_.pooling == TextPooling::end || tokens.context_length == config_.context_length, "texts of ",
                tokens.context_length, " tokens, but this model reads the last of its ", config_.context_length);
        for (Index i = 0; i < tokens.count; ++i) {
            const Index end = end_of(tokens, i);
            require(tokens.end_id < 0 || end > 0, "text ", i, " has no end token (id ", tokens.end_id, ")");
            require(deep_prompts < end, "text ", i, " ends at token ", end, ", inside its ", deep_prompts,
                    " deep prompts");
            for (Index k = 0; k < context.vectors; ++k)
                require(context.position(i, k) > 0 && context.position(i, k) < end, "text ", i, ": context vector ", k,
                        " at token ", context.position(i, k), " is not between its start and its end (token ", end,
                        ")");
        }
    }

    static Index row_of(const Sequences& s, Index text, Index t) {
        return t < s.prefix ? t : s.prefix + text * s.length + t - s.prefix;
    }

    std::vector<T> fixed_rows(const TokenRows& tokens, const ContextLayout& context, const Sequences& s) const {
        const Index d = config_.width;
        std::vector<T> rows(static_cast<std::size_t>(s.rows() * d));
        std::vector<char> learnable(static_cast<std::size_t>(s.tokens()));
        for (Index i = 0; i < tokens.count; ++i) {
            std::fill(learnable.begin(), learnable.end(), char{0});
            for (Index k = 0; k < context.vectors; ++k) learnable[static_cast<std::size_t>(context.position(i, k))] = 1;
            for (Index t = i == 0 ? 0 : s.prefix; t < s.tokens(); ++t) {
                T* row = rows.data() + row_of(s, i, t) * d;
                if (t == tokens.context_length) {
                    std::copy(class_token_.begin(), class_token_.end(), row);
                } else if (!learnable[static_cast<std::size_t>(t)]) {
                    const std::vector<T> embedded = embed_tokens({tokens.at(i, t)});
                    std::copy(embedded.begin(), embedded.end(), row);
                }
                for (Index j = 0; j < d; ++j) row[j] += positions_[static_cast<std::size_t>(t * d + j)];
            }
        }
        return rows;
    }

    /// A vector inside the shared prefix stands in one row, whatever the number of texts.
    PlacementTable<D> place(D& device, const ContextLayout& layout, const Sequences& s) const {
        if (layout.vectors == 0) return {};
        const Index sets = layout.class_specific ? s.count : 1, uses = layout.class_specific ? 1 : s.count;
        std::vector<std::int32_t> rows;
        for (Index set = 0; set < sets; ++set)
            for (Index k = 0; k < layout.vectors; ++k)
                for (Index use = 0; use < uses; ++use) {
                    const Index text = set + use, t = layout.position(text, k);
                    rows.push_back(static_cast<std::int32_t>(t < s.prefix && text > 0 ? -1 : row_of(s, text, t)));
                }
        return PlacementTable<D>(device, sets * layout.vectors, uses, rows);
    }

    TextConfig config_;
    HostTensor embedding_;
    std::vector<T> positions_, class_token_;
    Transformer<D> transformer_;
    Norm<T> ln_final_;
    Linear<T> projection_;
};

}  // namespace promptkd
