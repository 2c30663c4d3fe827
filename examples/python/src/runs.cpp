// SPDX-License-Identifier: Apache-2.0
#include "runs.hpp"

#include "specs.hpp"

#include <promptkd/device/cpu.hpp>
#include <promptkd/experiment/distillation.hpp>
#include <promptkd/experiment/reproduction.hpp>
#include <promptkd/experiment/training.hpp>

#include <nanobind/stl/string.h>

#include <optional>
#include <string>
#include <utility>

namespace nb = nanobind;
using namespace nb::literals;

namespace promptkd::python {

namespace {

using D = Cpu<float>;

/// Functions of Python that a run tells what happens; None: nobody hears it. An exception of one of them, and Ctrl-C,
/// end the run after the step at hand, with a checkpoint; raise() then raises it.
class PythonObserver final : public ReproductionObserver {
public:
    PythonObserver(nb::object on_step, nb::object on_epoch, nb::object on_warning)
        : on_step_(std::move(on_step)), on_epoch_(std::move(on_epoch)), on_warning_(std::move(on_warning)) {}

    void on_step(const StepRecord& at) override {
        if (!on_step_.is_none()) call([&] { on_step_(at.step, at.loss, at.lr, at.epoch); });
    }
    void on_epoch(const Progress& at) override {
        if (on_epoch_.is_none()) return;
        call([&] {
            const nb::object answer = on_epoch_(at.epoch, at.last_loss);
            stop_ = stop_ || (nb::isinstance<nb::bool_>(answer) && !nb::cast<bool>(answer));
        });
    }
    void on_warning(const std::string& text) override {
        if (!on_warning_.is_none()) call([&] { on_warning_(text); });
    }
    bool wants_stop() override { return stop_ || is_interrupted(); }
    bool is_interrupted() override {
        call([] {
            if (PyErr_CheckSignals() != 0) throw nb::python_error();
        });
        return raised_.has_value();
    }

    /// With the interpreter's lock.
    void raise() {
        if (raised_) throw std::move(*raised_);
    }

private:
    template <class F>
    void call(const F& f) {
        if (raised_) return;  // the run is about to end
        const nb::gil_scoped_acquire lock;
        try {
            f();
        } catch (nb::python_error& error) {
            raised_.emplace(std::move(error));
        }
    }

    nb::object on_step_, on_epoch_, on_warning_;
    std::optional<nb::python_error> raised_;
    bool stop_ = false;
};

/// What happens while a run is at work.
struct Callbacks {
    nb::object on_step, on_epoch, on_warning;
};

/// What run(device, observer) says, without the interpreter's lock.
template <class Run>
auto run_silently(int threads, const Callbacks& callbacks, const Run& run) {
    PythonObserver observer(callbacks.on_step, callbacks.on_epoch, callbacks.on_warning);
    using Outcome = decltype(run(std::declval<D&>(), std::declval<PythonObserver&>()));
    std::optional<Outcome> outcome;
    try {
        const nb::gil_scoped_release released;
        D device(threads);
        outcome.emplace(run(device, observer));
    } catch (const std::exception&) {
        observer.raise();  // of two errors the first
        throw;
    }
    observer.raise();
    return std::move(*outcome);
}

nlohmann::json figures(const std::optional<EvaluationResult>& found) {
    nlohmann::json out = nlohmann::json::object();
    if (!found) return out;
    out["accuracy"] = found->metrics.accuracy;
    out["test_images"] = found->metrics.n;
    if (!found->halves) return out;
    out["base"] = found->halves->base;
    out["new"] = found->halves->novel;
    out["harmonic_mean"] = found->halves->harmonic();
    return out;
}

nlohmann::json trained(const TrainingOutcome& outcome, const std::optional<EvaluationResult>& evaluation) {
    nlohmann::json out = figures(evaluation);
    const Progress& at = outcome.training.progress;
    out["images"] = outcome.images;
    out["classes"] = outcome.classes;
    out["epochs"] = at.epoch;
    out["steps"] = at.step;
    out["first_loss"] = at.first_loss;
    out["last_loss"] = at.last_loss;
    return out;
}

std::string distill(const std::string& settings, int threads, const Callbacks& callbacks) {
    const DistillationSpec spec = distillation_spec(settings);
    const DistillationOutcome outcome = run_silently(
        threads, callbacks, [&](D& device, Observer& observer) { return promptkd::run(device, spec, observer); });
    nlohmann::json out = trained(outcome, outcome.evaluation);
    out["file"] = outcome.bundle;
    return json_text(out);
}

std::string train(const std::string& settings, int threads, const Callbacks& callbacks) {
    const TrainingSpec spec = training_spec(settings);
    const LearnerOutcome outcome = run_silently(
        threads, callbacks, [&](D& device, Observer& observer) { return promptkd::run(device, spec, observer); });
    nlohmann::json out = trained(outcome, outcome.evaluation);
    out["file"] = outcome.prompts;
    return json_text(out);
}

/// report.json of the run.
std::string reproduce(const std::string& settings, int threads, const Callbacks& callbacks) {
    const ReproductionSpec spec = reproduction_spec(settings);
    const ReproductionResult result = run_silently(threads, callbacks, [&](D& device, ReproductionObserver& observer) {
        return promptkd::run(device, spec, observer);
    });
    return json_text(to_json(result.report));
}

/// Adds `run` under `name`.
template <class Run>
void add(nb::module_& m, const char* name, const Run& run) {
    m.def(
        name,
        [run](const std::string& settings, int threads, nb::object on_step, nb::object on_epoch,
              nb::object on_warning) {
            return run(settings, threads, Callbacks{std::move(on_step), std::move(on_epoch), std::move(on_warning)});
        },
        "settings"_a, "threads"_a, "on_step"_a.none(), "on_epoch"_a.none(), "on_warning"_a.none());
}

}  // namespace

void add_runs(nb::module_& m) {
    add(m, "distill", distill);
    add(m, "train", train);
    add(m, "reproduce", reproduce);
}

}  // namespace promptkd::python
