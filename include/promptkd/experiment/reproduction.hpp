// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/experiment/report/html.hpp>
#include <promptkd/experiment/report/json.hpp>
#include <promptkd/experiment/report/make.hpp>
#include <promptkd/experiment/report/markdown.hpp>
#include <promptkd/experiment/reproduction/stage_runner.hpp>
#include <promptkd/format/folder_lock.hpp>
#include <promptkd/format/json_text.hpp>

#include <string>
#include <vector>

namespace promptkd {

/// What a reproduction has found: the result of each stage of the plan, and the report of all.
struct ReproductionResult {
    ReproductionPlan plan;            ///< what was to be done
    std::vector<StageResult> stages;  ///< what each stage gave
    ReproductionReport report;        ///< the tables
};

/// What the output folder of a plan holds already. Throws Error when that are results of other settings.
inline ReproductionResult read_reproduction(const ReproductionPlan& plan) {
    ReproductionResult result;
    result.plan = plan;
    for (const ReproductionStage& stage : plan.stages)
        result.stages.push_back(StageResultFile(plan.spec.out, stage).read());
    result.report = make_report(plan, result.stages);
    return result;
}

/// Writes report.json, report.md and report.html into a folder.
inline void write_report(const std::string& folder, const ReproductionReport& report) {
    make_directories(folder);
    write_atomically(folder + "/report.json", json_text(to_json(report), 2) + "\n");
    write_atomically(folder + "/report.md", to_markdown(report));
    write_atomically(folder + "/report.html", to_html(report));
}

namespace detail {

/// Removes results and checkpoints of all stages, of whatever settings they are.
inline void forget_results(const ReproductionPlan& plan) {
    for (const ReproductionStage& stage : plan.stages) {
        const StageResultFile file(plan.spec.out, stage);
        std::error_code code;
        std::filesystem::remove(file.path(), code);
        std::filesystem::remove_all(file.folder() + "/checkpoint", code);
    }
}

}  // namespace detail

/// Runs the stages of a plan that are not done yet, those that were interrupted from where they stand. Each stage has a
/// folder with its log, checkpoint, prompts or bundle and result.json below plan.spec.out; the report there is written
/// anew after each. Ends early, with an incomplete report, when observer.wants_stop().
/// Throws Error for results of other settings in the folder, and as the runs themselves do.
template <Device D>
ReproductionResult run(D& device, const ReproductionPlan& plan, ReproductionObserver& observer) {
    const ReproductionSpec& spec = plan.spec;
    require(!spec.out.empty(), "reproduction: there is no output folder");
    const auto lock = FolderLock::acquire(spec.out);
    if (spec.fresh) detail::forget_results(plan);
    const Index total = static_cast<Index>(plan.stages.size());
    for (Index i = 0; i < total; ++i) {
        const ReproductionStage& stage = plan.stages[static_cast<std::size_t>(i)];
        const StageResultFile file(spec.out, stage);
        detail::remove_left_by_runs(file.folder());
        file.verify();
        if (file.state() == StageState::done) continue;
        const auto own = FolderLock::acquire(file.folder());
        observer.on_stage(stage, i + 1, total);
        const bool done = detail::StageRunner<D>(device, spec, observer).run(stage);
        write_report(spec.out, read_reproduction(plan).report);
        if (!done || observer.wants_stop()) break;
    }
    ReproductionResult result = read_reproduction(plan);
    write_report(spec.out, result.report);
    return result;
}

/// Plans a reproduction and runs it.
template <Device D>
ReproductionResult run(D& device, const ReproductionSpec& spec, ReproductionObserver& observer) {
    return run(device, plan(spec), observer);
}
/// The same without an observer.
template <Device D>
ReproductionResult run(D& device, const ReproductionSpec& spec) {
    ReproductionObserver silent;
    return run(device, spec, silent);
}

PROMPTKD_COMPILED_FUNCTION(ReproductionResult run(Cpu<float>&, const ReproductionPlan&, ReproductionObserver&));

}  // namespace promptkd
