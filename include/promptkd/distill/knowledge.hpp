// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/teachers.hpp>
#include <promptkd/learner/trainer.hpp>
#include <promptkd/op/broadcast.hpp>
#include <promptkd/op/elementwise.hpp>
#include <promptkd/op/formulas.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

namespace promptkd {

/// How a teacher's logits become the targets of a prompt learner.
struct KnowledgeOptions {
    Index max_batch = 1;  ///< images of a step
    double factor = 1;    ///< the student's logit scale divided by the teacher's
    Index top = 0;        ///< classes that count in a batch: its most probable ones; 0: all
};

/// KDPL's teacher (Mistretta et al., ECCV 2024): live teachers whose logits are on the student's scale. Class-agnostic
/// (section 3.3), with a vocabulary in the place of the class names: only the K names that the teacher finds most
/// probable on average over the batch have a part in it.
template <Device D>
class KnowledgeTeacher final : public TeacherSource<D> {
public:
    using T = typename D::Scalar;

    /// Throws Error for more names than there are.
    KnowledgeTeacher(D& device, std::unique_ptr<LiveTeachers<D>> teachers, const KnowledgeOptions& options)
        : device_(device),
          teachers_(std::move(teachers)),
          options_(options),
          logits_(device, options.max_batch * teachers_->size()),
          mask_(device, teachers_->size()) {
        require(options.top >= 0 && options.top <= size(), "the ", options.top, " most probable names of ", size());
    }

    Index size() const override { return teachers_->size(); }
    std::vector<Preprocessing> further_inputs(const Preprocessing& shared) override {
        return teachers_->further_inputs(shared);
    }
    void prepare(const Batch& batch, Index epoch) override { teachers_->prepare(batch, epoch); }
    bool recordable() const override { return options_.top == 0 && teachers_->recordable(); }

    const T* targets(const T* images, Index n) override {
        const T* q = teachers_->targets(images, n);
        device_.copy(logits_.data(), q, static_cast<std::size_t>(n * size()) * sizeof(T));
        scale(device_, options_.factor, logits_.data(), n * size());
        if (options_.top > 0 && options_.top < size()) leave_out_others(n);
        return logits_.data();
    }

private:
    void leave_out_others(Index n) {
        std::vector<T> q(static_cast<std::size_t>(n * size()));
        device_.download(q.data(), logits_.data(), q.size() * sizeof(T));
        const std::vector<double> probability = mean_probabilities(q);
        std::vector<Index> order(probability.size());
        std::iota(order.begin(), order.end(), Index{0});
        std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
            return probability[static_cast<std::size_t>(a)] > probability[static_cast<std::size_t>(b)];
        });
        std::vector<T> mask(probability.size(), static_cast<T>(leave_out));
        for (Index k = 0; k < options_.top; ++k) mask[static_cast<std::size_t>(order[static_cast<std::size_t>(k)])] = 0;
        device_.upload(mask_.data(), mask.data(), mask.size() * sizeof(T));
        add_row(device_, ConstMatrix<T>(logits_.matrix(n, size())), static_cast<const T*>(mask_.data()),
                logits_.matrix(n, size()));
        device_.synchronize();  // the mask's host memory ends here
    }

    /// Over the batch.
    std::vector<double> mean_probabilities(const std::vector<T>& q) const {
        std::vector<double> mean(static_cast<std::size_t>(size()), 0.0);
        for (auto row = q.begin(); row != q.end(); row += size()) {
            std::vector<double> p(row, row + size());
            softmax_on_host(p.data(), size());
            for (std::size_t k = 0; k < p.size(); ++k) mean[k] += p[k];
        }
        return mean;
    }

    D& device_;
    std::unique_ptr<LiveTeachers<D>> teachers_;
    KnowledgeOptions options_;
    Buffer<D, T> logits_, mask_;
};

/// A learner's trainer as one that learns from a teacher's logits: no label is read. A Trainer (train/trainer.hpp).
template <Device D>
class ImitatingTrainer {
public:
    /// See Trainer.
    ///@{
    using DeviceType = D;
    using T = typename D::Scalar;
    using Supervision = T;

    explicit ImitatingTrainer(LearnerTrainer<D>& trainer) : trainer_(trainer) {}

    ParamSet<D>& params() { return trainer_.params(); }
    void accumulate(const T* images, const T* teacher, Index batch) {
        trainer_.accumulate(images, LearnerTargets<T>{nullptr, teacher}, batch);
    }
    void update(double rate) { trainer_.update(rate); }
    const T* loss_on_device() const { return trainer_.loss_on_device(); }
    void replayed() { trainer_.replayed(); }
    void end_epoch(Index epoch) { trainer_.end_epoch(epoch); }
    void finish() { trainer_.finish(); }
    void save(TensorMap& state) const { trainer_.save(state); }
    void load(const TensorMap& state) { trainer_.load(state); }
    ///@}

private:
    LearnerTrainer<D>& trainer_;
};

}  // namespace promptkd
