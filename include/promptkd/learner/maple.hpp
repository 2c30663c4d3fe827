// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/learner.hpp>
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

    MaPLe(D& device, const ClipModel<D>& model, Index vectors, Index depth)
        : PromptLearner<D>(device),
          vectors_(vectors),
          text_width_(model.text().config().width),
          width_(model.vision().width()) {
        require(vectors > 0 && depth > 0, "MaPLe needs at least one prompt vector and a depth of at least 1");
        require_depth("visual", depth, model.vision().layers());
        require_depth("text", depth, model.text().config().layers);
        this->text_.tokens = this->visual_.tokens = vectors;
        this->text_.layers.push_back(this->context_ = &this->params_.add(context_name, {vectors, text_width_}));
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
            linear_forward(device, projections_[i], static_cast<const T*>(this->text_.layers[i]->value),
                           visual_params_[i].value, vectors_);
    }

    void backward_prompts() override {
        D& device = this->params_.device();
        for (std::size_t i = 0; i < projections_.size(); ++i) {
            const Param<T>& from = *this->text_.layers[i];
            linear_backward(device, projections_[i], static_cast<const T*>(from.value),
                            static_cast<const T*>(visual_params_[i].grad), scratch_.data(), vectors_);
            add_scaled(device, 1, static_cast<const T*>(scratch_.data()), from.grad, from.count());
        }
    }

    void initialize(std::uint64_t seed, const std::vector<T>& context) override {
        initialize_normal(this->params_, context_name, seed);
        initialize_linear(this->params_, "prompt_learner.proj", seed);
        const std::string first = "prompt_learner.compound_prompt_projections.0";
        for (std::size_t i = 0; i + 1 < projections_.size(); ++i) {
            const std::string number = std::to_string(i),
                              projection = "prompt_learner.compound_prompt_projections." + number;
            initialize_normal(this->params_, "prompt_learner.compound_prompts_text." + number, seed);
            initialize_linear(this->params_, projection, seed);
            for (const char* part : {".weight", ".bias"})
                this->params_.set(projection + part, this->params_.values_of(first + part));  // copies of one
        }
        this->set_context(context);
    }

private:
    void add_projection(const std::string& name) {
        projections_.push_back({&this->params_.add(name + ".weight", {width_, text_width_}),
                                &this->params_.add(name + ".bias", {width_})});
    }

    Index vectors_, text_width_, width_;
    std::vector<TrainableLinear<T>> projections_;
    std::vector<Param<T>> visual_params_;
    Buffer<D, T> made_, scratch_;
};

}  // namespace promptkd
