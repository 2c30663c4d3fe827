// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/learner.hpp>
#include <promptkd/nn/linear.hpp>
#include <promptkd/op/elementwise.hpp>

namespace promptkd {

/// CoCoOp (Zhou et al., CVPR 2022): CoOp's generic context plus a meta-net π = Linear(e → e/16), ReLU, Linear(→ d_t) of
/// the normalised image feature that is added to every context vector. Parameters `prompt_learner.{ctx,
/// meta_net.linear1.*, meta_net.linear2.*}`.
template <Device D>
class CoCoOp : public PromptLearner<D> {
public:
    using T = typename D::Scalar;

    CoCoOp(D& device, const ClipModel<D>& model, Index vectors)
        : PromptLearner<D>(device), vectors_(vectors), hidden_(std::max<Index>(1, model.text().embed() / 16)) {
        require(vectors > 0, "CoCoOp needs at least one context vector");
        const Index embed = model.text().embed(), width = model.text().config().width;
        this->context_ = &this->params_.add(context_name, {vectors, width});
        first_ = add_linear("prompt_learner.meta_net.linear1", hidden_, embed);
        second_ = add_linear("prompt_learner.meta_net.linear2", width, hidden_);
        this->params_.bind();
    }

    void initialize(std::uint64_t seed, const std::vector<T>& context) override {
        initialize_normal(this->params_, context_name, seed);
        for (const char* layer : {"prompt_learner.meta_net.linear1", "prompt_learner.meta_net.linear2"})
            initialize_linear(this->params_, layer, seed);
        this->set_context(context);
    }

    Index vectors() const { return vectors_; }
    Index hidden() const { return hidden_; }

    /// shift (batch, d_t) = π(u), u (batch, e); `active` (batch, hidden) is kept for backward.
    void shift(D& device, const T* u, T* active, T* shift, Index batch) const {
        linear_forward(device, first_, u, active, batch);
        relu_forward(device, static_cast<const T*>(active), active, batch * hidden_);
        linear_forward(device, second_, static_cast<const T*>(active), shift, batch);
    }

    /// Adds the meta-net's gradients from d_shift (batch, d_t); d_active is scratch (batch, hidden).
    void shift_backward(D& device, const T* u, const T* active, const T* d_shift, T* d_active, Index batch) const {
        linear_backward(device, second_, active, d_shift, d_active, batch);
        relu_backward(device, active, d_active, batch * hidden_);
        linear_backward(device, first_, u, static_cast<const T*>(d_active), static_cast<T*>(nullptr), batch);
    }

private:
    TrainableLinear<T> add_linear(const std::string& name, Index out, Index in) {
        return {&this->params_.add(name + ".weight", {out, in}), &this->params_.add(name + ".bias", {out})};
    }

    Index vectors_, hidden_;
    TrainableLinear<T> first_, second_;
};

}  // namespace promptkd
