// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/aggregation.hpp>
#include <promptkd/learner/trainer.hpp>
#include <promptkd/train/accumulation.hpp>
#include <promptkd/train/image_feed.hpp>
#include <promptkd/train/loop.hpp>

#include <optional>

namespace promptkd {

/// A prompt learner as a TrainingLoop trains it: labelled batches, micro-batches where asked for, PromptSRC's
/// aggregation.
template <Device D>
class LearnerTarget final : public TrainingTarget {
public:
    using T = typename D::Scalar;

    /// `micro_batches` ≥ 1: a batch is worked through in so many parts whose gradients add up to the whole batch's.
    /// `aggregation`: weights of the epochs, empty for none.
    LearnerTarget(D& device, LearnerTrainer<D>& trainer, Index batch, Index resolution, Index micro_batches = 1,
                  std::vector<double> aggregation = {})
        : device_(device),
          trainer_(trainer),
          feed_(device, batch, resolution),
          labels_(device, batch),
          parts_(micro_batches),
          image_values_(3 * resolution * resolution) {
        require_parts(batch, micro_batches);
        if (!aggregation.empty()) aggregation_.emplace(trainer.learner().params(), std::move(aggregation));
    }

    double step(const Batch& batch, double rate) override {
        const T* images = feed_.upload(batch);
        staged_.assign(batch.labels.begin(), batch.labels.end());
        for (const std::int32_t label : staged_)
            require(label >= 0 && label < trainer_.classes(), "a training image has no label among the ",
                    trainer_.classes(), " classes");
        device_.upload(labels_.data(), staged_.data(), staged_.size() * sizeof(std::int32_t));
        const double loss =
            accumulate_parts(trainer_.learner().params(), batch.size, parts_, [&](Index first, Index n) {
                trainer_.accumulate(images + first * image_values_, labels_.data() + first, n, first == 0);
                return trainer_.loss();
            });
        trainer_.update(rate);
        return loss;
    }

    void end_epoch(Index epoch) override {
        if (aggregation_) aggregation_->add(epoch);
    }

    /// After the last epoch: the aggregated prompts take the place of the last ones.
    void finish() {
        if (aggregation_) aggregation_->apply();
    }

    void save(TensorMap& state) const override {
        trainer_.learner().params().save(state);
        trainer_.save(state);
        if (aggregation_) aggregation_->save(state);
    }
    void restore(const TensorMap& state) override {
        trainer_.learner().params().load_all(state);
        trainer_.load(state);
        if (aggregation_) aggregation_->load(state);
    }

private:
    D& device_;
    LearnerTrainer<D>& trainer_;
    ImageFeed<D> feed_;
    Buffer<D, std::int32_t> labels_;
    std::vector<std::int32_t> staged_;
    Index parts_, image_values_;
    std::optional<PromptAggregation<D>> aggregation_;
};

}  // namespace promptkd
