// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/trainer.hpp>
#include <promptkd/nn/linear.hpp>
#include <promptkd/op/elementwise.hpp>

namespace promptkd {

/// MaPLe (Khattak et al., CVPR 2023): deep text prompts, and for each a Linear(d_t → d) that makes the visual prompt of
/// the same depth from it. Parameters `prompt_learner.{ctx, proj.*, compound_prompts_text.i,
/// compound_prompt_projections.i.*}`.
template <Device D>
class MaPLe : public PromptLearner<D> {
public:
    using T = typename D::Scalar;

    /// `vectors` in each of `depth` blocks. Throws Error when they do not fit the model.
    MaPLe(D& device, const ClipModel<D>& model, Index vectors, Index depth)
        : PromptLearner<D>(device),
          vectors_(vectors),
          text_width_(model.text().config().width),
          width_(model.vision().width()) {
        require(vectors > 0 && depth > 0, "MaPLe needs at least one prompt vector and a depth of at least 1");
        require_depth("visual", depth, model.vision().layers());
        require_depth("text", depth, model.text().config().layers);
        this->text_.tokens = vectors;
        this->visual_.tokens = vectors;
        this->context_ = &this->params_.add(context_name, {vectors, text_width_});
        this->text_.layers.push_back(this->context_);
        add_projection("prompt_learner.proj");
        for (Index i = 0; i + 1 < depth; ++i) {
            this->text_.layers.push_back(&this->params_.add("prompt_learner.compound_prompts_text." + std::to_string(i),
                                                            {vectors, text_width_}));
            add_projection("prompt_learner.compound_prompt_projections." + std::to_string(i));
        }
        this->params_.bind();
        made_ = Buffer<D, T>(device, 2 * depth * vectors * width_);
        scratch_ = Buffer<D, T>(device, vectors * text_width_);
        visual_params_.resize(static_cast<std::size_t>(depth));
        for (Index i = 0; i < depth; ++i) {
            Param<T>& p = visual_params_[static_cast<std::size_t>(i)];
            p.shape = {vectors, width_};
            p.value = made_.data() + i * vectors * width_;
            p.grad = made_.data() + (depth + i) * vectors * width_;
            this->visual_.layers.push_back(&p);
        }
    }

    void make_prompts() override {
        D& device = this->params_.device();
        const Index half = made_.size() / 2;
        device.zero(made_.data() + half, static_cast<std::size_t>(half) * sizeof(T));
        for (std::size_t i = 0; i < projections_.size(); ++i)
            linear_forward(device, projections_[i].layer(), this->text_.values(i), visual_values(i));
    }

    void backward_prompts() override {
        D& device = this->params_.device();
        for (std::size_t i = 0; i < projections_.size(); ++i) {
            const Param<T>& from = *this->text_.layers[i];
            const Linear<T> projection = projections_[i].layer();
            const Matrix<T> dy = this->visual_.gradients(i);
            add_linear_gradients(device, projection, this->text_.values(i), dy);
            linear_backward(device, projection, dy, scratch_.matrix(vectors_, text_width_));
            add_scaled(device, 1, scratch_.data(), from.grad, from.count());
        }
    }

    void initialize(std::uint64_t seed, const std::vector<T>& context) override {
        initialize_normal(this->params_, context_name, seed);
        initialize_linear(this->params_, "prompt_learner.proj", seed);
        const std::string first = "prompt_learner.compound_prompt_projections.0";
        for (std::size_t i = 0; i + 1 < projections_.size(); ++i) {
            const std::string number = std::to_string(i);
            const std::string projection = "prompt_learner.compound_prompt_projections." + number;
            initialize_normal(this->params_, "prompt_learner.compound_prompts_text." + number, seed);
            initialize_linear(this->params_, projection, seed);
            for (const char* part : {".weight", ".bias"})
                this->params_.set(projection + part, this->params_.values_of(first + part));  // copies of one
        }
        this->set_context(context);
    }

private:
    Matrix<T> visual_values(std::size_t i) { return {visual_params_[i].value, vectors_, width_}; }

    void add_projection(const std::string& name) {
        projections_.push_back({&this->params_.add(name + ".weight", {width_, text_width_}),
                                &this->params_.add(name + ".bias", {width_})});
    }

    Index vectors_, text_width_, width_;
    std::vector<LinearParams<T>> projections_;
    std::vector<Param<T>> visual_params_;
    Buffer<D, T> made_, scratch_;
};

namespace detail {

/// y = x·Wᵀ + b in double, for the rows of x (n, in), W (out, in): MaPLe's Linears, applied once to frozen prompts.
inline HostTensor apply_linear(const TensorMap& map, const std::string& linear, const HostTensor& x,
                               const std::string& x_name) {
    const HostTensor& weight = map.at(linear + ".weight");
    require(weight.shape.size() == 2 && x.shape.size() == 2 && x.shape[1] == weight.shape[1], map.source, ": '", linear,
            ".weight' ", to_string(weight.shape), " does not fit '", x_name, "' ", to_string(x.shape));
    const Index n = x.shape[0];
    const Index out = weight.shape[0];
    const Index in = weight.shape[1];
    const std::vector<double> w = weight.to<double>();
    const std::vector<double> b = map.at(linear + ".bias", {out}).to<double>();
    const std::vector<double> v = x.to<double>();
    std::vector<float> y(static_cast<std::size_t>(n * out));
    for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < out; ++j) {
            double sum = b[static_cast<std::size_t>(j)];
            for (Index k = 0; k < in; ++k)
                sum += w[static_cast<std::size_t>(j * in + k)] * v[static_cast<std::size_t>(i * in + k)];
            y[static_cast<std::size_t>(i * out + j)] = static_cast<float>(sum);
        }
    return make_tensor(std::move(y), {n, out});
}

}  // namespace detail

/// MaPLe's learned parameters (Khattak et al., CVPR 2023) as prompts of two independent branches, which is what they
/// are once training is over: visual prompts proj(ctx) in front of block 0 and
/// compound_prompt_projections[i−1](compound_prompts_text[i−1]) at block i; text prompts ctx and
/// compound_prompts_text[i−1]. Names as IVLP's: `prompt_learner.ctx`, `image_encoder.VPT`,
/// `{image,text}_encoder.transformer.resblocks.{i}.VPT_shallow`. Throws Error where a Linear is missing or does not
/// fit.
inline TensorMap expand_maple(const TensorMap& map) {
    TensorMap out;
    out.metadata = map.metadata;
    out.source = map.source;
    const HostTensor& context = map.at(context_name);
    out.tensors[context_name] = context;
    out.tensors[visual_prompt_name] = detail::apply_linear(map, "prompt_learner.proj", context, context_name);
    for (Index i = 1;; ++i) {
        const std::string number = std::to_string(i - 1);
        const std::string text = "prompt_learner.compound_prompts_text." + number;
        const std::string projection = "prompt_learner.compound_prompt_projections." + number;
        if (!map.contains(text)) {
            require(!map.contains(projection + ".weight"), map.source, ": tensor '", text, "' is missing");
            return out;
        }
        out.tensors[detail::deep_name(text_encoder_prefix, i)] = map.at(text);
        out.tensors[detail::deep_name(image_encoder_prefix, i)] =
            detail::apply_linear(map, projection, map.at(text), text);
    }
}

/// Its line in the registry.
struct MapleMethod : PlainMethod {
    /// See LearnerInfo.
    static Recipe published(Index) { return {0.0035, 5, 4, 2, 2, 9, {}}; }

    /// See LearnerInfo.
    static bool recognises(const TensorMap& map) {
        return detail::holds_any(map, "prompt_learner.proj.") || detail::holds_any(map, "prompt_learner.compound_");
    }

    /// The registry's entry.
    static LearnerInfo info() {
        LearnerInfo info;
        info.name = "maple";
        info.title = "MaPLe";
        info.paper = "Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023";
        info.summary = "deep text prompts, and the visual prompts that linear maps make of them";
        info.ties_branches = true;
        info.published = &published;
        info.recognises = &recognises;
        info.fixed_prompts = &expand_maple;
        return info;
    }

    /// See make_learner().
    template <Device D>
    static std::unique_ptr<PromptLearner<D>> make(D& device, const ClipModel<D>& model, const Recipe& recipe, Index) {
        return std::make_unique<MaPLe<D>>(device, model, recipe.text, recipe.depth);
    }
};

}  // namespace promptkd
