// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/train/trainable.hpp>

#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Model selection on validation images: after each epoch of another Trainable `score()` is asked, and the state of the
/// best epoch is kept (of the later one, where two are equal).
class BestEpoch final : public Trainable {
public:
    /// `trained` must outlive this.
    BestEpoch(Trainable& trained, std::function<double()> score) : trained_(trained), score_(std::move(score)) {}

    void begin_epoch(Index epoch) override { trained_.begin_epoch(epoch); }
    void begin_step(const Batch& batch, double rate) override { trained_.begin_step(batch, rate); }
    double end_step() override { return trained_.end_step(); }

    void end_epoch(Index epoch) override {
        trained_.end_epoch(epoch);
        const double now = score_();
        if (now < best_score_) return;
        best_score_ = now;
        best_epoch_ = epoch;
        best_.tensors.clear();
        trained_.save(best_);
    }

    void finish() override { trained_.finish(); }

    /// The state with that of the best epoch.
    void save(TensorMap& state) const override {
        trained_.save(state);
        for (const auto& [name, tensor] : best_.tensors) state.tensors[prefix + name] = tensor;
        state.tensors["best_epoch"] =
            make_tensor(std::vector<double>{best_score_, static_cast<double>(best_epoch_)}, {2});
    }

    /// What save() wrote.
    void load(const TensorMap& state) override {
        trained_.load(state);
        best_.tensors = tensors_under(state, prefix);
        best_.source = state.source;
        const std::vector<double> best = state.at("best_epoch", {2}).to<double>();
        best_score_ = best[0];
        best_epoch_ = static_cast<Index>(best[1]);
    }

    /// After the run: goes back to the best epoch, unless the model as it is now (say, with aggregated prompts) is as
    /// good. Returns whether it went back.
    bool select() {
        const double now = score_();
        if (best_.tensors.empty() || now >= best_score_) {
            best_score_ = now;
            return false;
        }
        trained_.load(best_);
        return true;
    }

    /// Of the best epoch; −∞ before the first.
    double best_score() const { return best_score_; }
    /// From 0; −1 before the first epoch.
    Index best_epoch() const { return best_epoch_; }

private:
    static constexpr const char* prefix = "best.";

    Trainable& trained_;
    std::function<double()> score_;
    TensorMap best_;
    double best_score_ = -std::numeric_limits<double>::infinity();
    Index best_epoch_ = -1;
};

}  // namespace promptkd
