// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/optim/adam.hpp>
#include <promptkd/optim/sgd.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// The update rules.
enum class OptimizerKind { sgd, adam, adamw };

/// "sgd", "adam" or "adamw". Throws Error for any other.
inline OptimizerKind parse_optimizer(const std::string& name) {
    if (name == "sgd") return OptimizerKind::sgd;
    if (name == "adam") return OptimizerKind::adam;
    if (name == "adamw") return OptimizerKind::adamw;
    fail("unknown optimizer '", name, "'; known: sgd, adam, adamw");
}

/// Which optimizer, with its settings. The default is the published recipes' SGD.
struct OptimizerConfig {
    OptimizerKind kind = OptimizerKind::sgd;  ///< which of them
    SgdConfig sgd;                            ///< for OptimizerKind::sgd
    AdamConfig adam;                          ///< for OptimizerKind::adam and adamw
    std::vector<RateFactor> rate_factors;     ///< by names; none: one rate for all
    double clip = 0;                          ///< largest norm of all gradients together; 0: not clipped
};

/// An optimizer over a ParamSet, chosen at run time: one virtual call a step.
template <Device D>
class Optimizer {
public:
    virtual ~Optimizer() = default;
    /// `skip`: see LossScale.
    virtual void step(double rate, const typename D::Scalar* skip = nullptr) = 0;
    /// A recorded step was queued again, with the learning rate that it had.
    virtual void replayed() = 0;
    /// State for a checkpoint that resumes bit for bit.
    virtual void save(TensorMap& map) const = 0;
    /// What save() wrote. Throws Error when it does not fit.
    virtual void load(const TensorMap& map) = 0;
};

namespace detail {

template <Device D, class Rule>
class OptimizerOf final : public Optimizer<D> {
public:
    template <class Config>
    OptimizerOf(ParamSet<D>& params, const Config& config, std::vector<RateGroup> groups)
        : rule_(params, config, std::move(groups)) {}
    void step(double rate, const typename D::Scalar* skip) override { rule_.step(rate, skip); }
    void replayed() override { rule_.replayed(); }
    void save(TensorMap& map) const override { rule_.save(map); }
    void load(const TensorMap& map) override { rule_.load(map); }

private:
    Rule rule_;
};

}  // namespace detail

/// The optimizer that `config` names, over the bound `params`.
template <Device D>
std::unique_ptr<Optimizer<D>> make_optimizer(ParamSet<D>& params, const OptimizerConfig& config) {
    std::vector<RateGroup> groups = rate_groups(params, config.rate_factors);
    if (config.kind == OptimizerKind::sgd)
        return std::make_unique<detail::OptimizerOf<D, Sgd<D>>>(params, config.sgd, std::move(groups));
    AdamConfig adam = config.adam;
    adam.decoupled = config.kind == OptimizerKind::adamw;
    return std::make_unique<detail::OptimizerOf<D, Adam<D>>>(params, adam, std::move(groups));
}

}  // namespace promptkd
