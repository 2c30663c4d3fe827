// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/run.hpp>
#include <promptkd/experiment/adapted/adapted_stage.hpp>
#include <promptkd/experiment/stage.hpp>
#include <promptkd/train/checkpoint.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Cross-fitting (Stone 1974): where one part of the images is too small to judge students by, several parts are held
/// out in turn, each of a training by the same recipe. What the students of these say of the images that they have not
/// learned from chooses the check whose student is kept and weighs the three students; the student itself learns from
/// all images, and is kept after the same share of its steps.
template <Device D>
class CrossFitting {
public:
    /// Both must outlive this.
    CrossFitting(DistillationSetup<D>& setup, AdaptedStage<D>& adapted) : setup_(setup), adapted_(adapted) {}

    /// Whether several parts are held out.
    bool is_used() const { return adapted_.folds().size() > 1; }

    /// Trains `distiller`'s student once for each part, as `loop` and `how` say, and leaves it as it was. Parts that an
    /// interrupted run has finished are read from the output folder. False: interrupted.
    bool run(Distiller<D>& distiller, TrainingLoopConfig loop, const StepOptions& how) {
        const std::string folder = loop.out.empty() ? "" : loop.out + "/checkpoint/folds";
        const RunIdentity identity{loop.identity, loop.inputs, static_cast<Index>(adapted_.folds().size()), 1};
        if (!folder.empty() && !setup_.spec.fresh) read(folder, identity);
        detach(loop);
        TensorMap start;
        distiller.save(start);
        while (looks_.size() < adapted_.folds().size()) {
            const bool complete = train(distiller, loop, how);
            distiller.load(start);
            if (!complete) return false;
            if (!folder.empty() && setup_.ranks.is_root()) write(folder, identity);
        }
        choose();
        return true;
    }

    /// How checks keep the student of a training of `steps` steps: the one at the share of the steps that was best.
    BestCheck::Model judged(Student<D>& student, Index steps) const {
        const double goal = share_ * static_cast<double>(steps);
        return AdaptedStage<D>::kept(student,
                                     [goal](Index step) { return std::abs(static_cast<double>(step) - goal); });
    }

    /// p_d of the images held out at the check that was best, (H, K).
    const std::vector<double>& predictions() const { return predictions_; }
    /// Their mean KL to the teachers'.
    double divergence() const { return divergence_; }

private:
    /// What a student said of the images held out after some steps.
    struct Look {
        Index step = 0;
        std::vector<double> predictions;
    };

    /// A training of its own: no log, no checkpoint, nobody told of its steps and epochs.
    void detach(TrainingLoopConfig& loop) const {
        loop.out.clear();
        loop.resume = false;
        loop.should_stop = {};
        loop.on_epoch = {};
    }

    /// The next part. False: interrupted.
    bool train(Distiller<D>& distiller, TrainingLoopConfig loop, const StepOptions& how) {
        const std::size_t number = looks_.size();
        const Fold& fold = adapted_.folds()[number];
        const Dataset images = adapted_.kept_images(fold);
        const Index steps = count_steps(loop, images.size());
        Stage stage(concat("part ", number + 1, " of ", adapted_.folds().size()), "steps", steps, setup_.observer);
        loop.on_step = [&stage](const StepRecord& record) { stage.update(record.step + 1); };
        const auto targets = adapted_.targets(fold, setup_.spec.loop.batch);
        DistillationPipeline<D> pipeline(distiller, *targets, loop.preprocessing, how);
        std::vector<Look> looks;
        const auto look = [&](Index step) {
            looks.push_back({step, adapted_.predictions(distiller.student(), fold)});
            return 0.0;
        };
        BestCheck checks(pipeline, {look, [](TensorMap&) {}, [](const TensorMap&) {}}, steps,
                         setup_.spec.adapted.checks);
        if (TrainingLoop(checks, images, loop).run().interrupted) return false;
        if (looks.empty()) look(steps);
        stage.end();
        looks_.push_back(std::move(looks));
        steps_ = steps;
        return true;
    }

    /// The check of the least KL over all parts.
    void choose() {
        std::size_t checks = looks_.front().size();
        for (const std::vector<Look>& looks : looks_) checks = std::min(checks, looks.size());
        for (std::size_t check = 0; check < checks; ++check) {
            std::vector<double> all;
            for (const std::vector<Look>& looks : looks_)
                all.insert(all.end(), looks[check].predictions.begin(), looks[check].predictions.end());
            const double divergence = adapted_.divergence(all);
            if (check > 0 && divergence >= divergence_) continue;
            divergence_ = divergence;
            predictions_ = std::move(all);
            share_ = static_cast<double>(looks_.front()[check].step) / static_cast<double>(steps_);
        }
    }

    static std::string name_of(std::size_t part, const char* what) { return concat("part.", part, ".", what); }

    /// Keeps the parts that are finished for a run that goes on.
    void write(const std::string& folder, const RunIdentity& identity) const {
        TensorMap state;
        for (std::size_t k = 0; k < looks_.size(); ++k) {
            std::vector<std::int64_t> steps;
            std::vector<double> all;
            for (const Look& look : looks_[k]) {
                steps.push_back(look.step);
                all.insert(all.end(), look.predictions.begin(), look.predictions.end());
            }
            const Index looks = static_cast<Index>(steps.size());
            const Index each = static_cast<Index>(all.size()) / looks;
            state.tensors[name_of(k, "steps")] = make_tensor(std::move(steps), {looks});
            state.tensors[name_of(k, "predictions")] = make_tensor(std::move(all), {looks, each});
        }
        Progress at;
        at.epoch = at.step = static_cast<Index>(looks_.size());
        write_checkpoint(folder, std::move(state), identity, at);
    }

    void read(const std::string& folder, const RunIdentity& identity) {
        if (!has_checkpoint(folder)) return;
        Progress at;
        const TensorMap state = read_checkpoint(folder, identity, at);
        for (std::size_t k = 0; k < static_cast<std::size_t>(at.epoch); ++k) {
            const auto steps = state.at(name_of(k, "steps")).template to<std::int64_t>();
            const auto all = state.at(name_of(k, "predictions")).template to<double>();
            const std::size_t each = adapted_.folds()[k].held_rows.size() * static_cast<std::size_t>(setup_.classes());
            require(!steps.empty() && all.size() == steps.size() * each, state.source, ": damaged; start again");
            std::vector<Look> looks;
            auto next = all.begin();
            for (const Index step : steps) {
                const auto first = std::exchange(next, next + static_cast<std::ptrdiff_t>(each));
                looks.push_back({step, {first, next}});
            }
            looks_.push_back(std::move(looks));
            steps_ = count_steps(setup_.spec.loop, static_cast<Index>(adapted_.folds()[k].kept.size()));
        }
    }

    DistillationSetup<D>& setup_;
    AdaptedStage<D>& adapted_;
    std::vector<std::vector<Look>> looks_;  ///< of the parts that are finished
    Index steps_ = 0;                       ///< of each of their trainings
    std::vector<double> predictions_;
    double divergence_ = 0, share_ = 1;
};

}  // namespace promptkd
