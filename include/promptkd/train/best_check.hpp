// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/train/trainable.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// One look at a model in training.
struct Check {
    Index step = 0;    ///< steps done before it
    double score = 0;  ///< what it found; less is better
};

/// Early stopping without stopping: at some steps, evenly spaced over a run, the model of another Trainable is judged,
/// and the best one kept (of equal ones the first).
class BestCheck final : public Trainable {
public:
    /// How a model is judged and kept.
    struct Model {
        std::function<double(Index)> score;          ///< of the model as it is after so many steps; less is better
        std::function<void(TensorMap&)> save;        ///< what is to be kept of it
        std::function<void(const TensorMap&)> load;  ///< brings back what save() kept
    };

    /// `checks` looks in a run of `steps` steps, the last one behind the last step. `trained` must outlive this.
    BestCheck(Trainable& trained, Model model, Index steps, Index checks)
        : trained_(trained), model_(std::move(model)), steps_(steps), checks_(checks) {}

    void begin_epoch(Index epoch) override { trained_.begin_epoch(epoch); }
    void begin_step(const Batch& batch, double rate) override {
        trained_.begin_step(batch, rate);
        ++begun_;
        if (is_due(begun_)) look();
    }
    double end_step() override { return trained_.end_step(); }
    void end_epoch(Index epoch) override { trained_.end_epoch(epoch); }
    void finish() override { trained_.finish(); }

    /// The state, with the model kept and all checks so far.
    void save(TensorMap& state) const override {
        trained_.save(state);
        for (const auto& [name, tensor] : best_.tensors) state.tensors[prefix + name] = tensor;
        std::vector<double> rows;
        for (const Check& c : found_) rows.insert(rows.end(), {static_cast<double>(c.step), c.score});
        state.tensors["checks"] = make_tensor(rows, {static_cast<Index>(found_.size()), 2});
        state.tensors["checked_steps"] = make_tensor(std::vector<std::int64_t>{begun_}, {});
    }

    /// What save() wrote.
    void load(const TensorMap& state) override {
        trained_.load(state);
        best_.tensors = tensors_under(state, prefix);
        best_.source = state.source;
        const std::vector<double> rows = state.at("checks").to<double>();
        require(rows.size() % 2 == 0, state.source, ": 'checks' are not pairs of step and score");
        found_.clear();
        for (std::size_t i = 0; i < rows.size(); i += 2) found_.push_back({static_cast<Index>(rows[i]), rows[i + 1]});
        begun_ = state.at("checked_steps").to<std::int64_t>().at(0);
        best_at_ = best_of(found_);
    }

    /// After the run, which may have ended before its time: judges a model that has gone on since the last check, and
    /// goes back to the best one.
    void select() {
        if (found_.empty() || found_.back().step != begun_) look();
        model_.load(best_);
    }

    /// All looks so far.
    const std::vector<Check>& checks() const { return found_; }
    /// The one whose model is kept; only once there is one.
    const Check& best() const { return found_.at(static_cast<std::size_t>(best_at_)); }

private:
    static constexpr const char* prefix = "best.";

    /// Whether a check stands behind so many steps.
    bool is_due(Index step) const {
        const double share = static_cast<double>(steps_) / static_cast<double>(checks_);
        const double number = std::round(static_cast<double>(step) / share);
        return number >= 1 && std::llround(number * share) == step;
    }

    static Index best_of(const std::vector<Check>& found) {
        Index best = -1;
        for (std::size_t i = 0; i < found.size(); ++i)
            if (best < 0 || found[i].score < found[static_cast<std::size_t>(best)].score) best = static_cast<Index>(i);
        return best;
    }

    void look() {
        found_.push_back({begun_, model_.score(begun_)});
        const Index best = best_of(found_);
        if (best == best_at_) return;
        best_at_ = best;
        best_.tensors.clear();
        model_.save(best_);
    }

    Trainable& trained_;
    Model model_;
    Index steps_, checks_, begun_ = 0, best_at_ = -1;
    std::vector<Check> found_;
    TensorMap best_;
};

}  // namespace promptkd
