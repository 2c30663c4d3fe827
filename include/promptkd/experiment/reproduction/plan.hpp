// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/utf8.hpp>
#include <promptkd/experiment/reproduction/data.hpp>
#include <promptkd/experiment/reproduction/files.hpp>
#include <promptkd/experiment/reproduction/settings.hpp>
#include <promptkd/experiment/reproduction/stage.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// The work of a reproduction in stages, in the order in which they run.
struct ReproductionPlan {
    ReproductionSpec spec;                  ///< with every data set by its name
    std::vector<TestSet> targets;           ///< what is evaluated on
    TestSet source;                         ///< what prompts are learned on, where the protocol has a source
    std::vector<ReproductionStage> stages;  ///< in the order in which they run
    std::vector<InputFile> files;           ///< weights and checkpoints that are read
    std::string learner;                    ///< the name of the learned prompts in the report
};

namespace detail {

/// Divides a reproduction into stages.
class Planner {
public:
    explicit Planner(const ReproductionSpec& spec)
        : plan_{spec, {}, {}, {}, {}, learner_row(spec)}, spec_(plan_.spec), data_(spec_) {}

    ReproductionPlan plan() {
        name_targets();
        plan_.files = input_files(spec_);
        for (const TestSet& target : plan_.targets) add_zero_shot(target);
        if (has_source(spec_.protocol))
            add_source_stages();
        else
            for (const TestSet& target : plan_.targets) add_stages(target);
        return std::move(plan_);
    }

private:
    /// What a student needs to know of its teacher's prompts.
    struct TeacherPrompts {
        nlohmann::json identity = "none";
        std::string file;  ///< empty: none
    };

    /// A run of a learner and a student: where it lies and what is drawn.
    struct Draw {
        std::string folder;
        std::uint64_t seed = 0;
        Index shots = 0;
    };

    static std::string learner_row(const ReproductionSpec& spec) {
        const std::string& learner = spec.learner.name;
        const std::string name = !spec.teacher_prompts.empty() ? "given"
                                 : learner == "none"           ? "CLIP"
                                                               : find_learner(learner).title;
        return spec.distils() ? name + " teacher" : name;
    }

    /// A short name for each data set; of equal names the later ones have a number.
    void name_targets() {
        std::map<std::string, Index> used;
        for (const std::string& source : spec_.data) {
            const std::string key = data_key(source);
            const Index before = used[key]++;
            plan_.targets.push_back({before > 0 ? concat(key, "-", before + 1) : key, source, problem_of(source)});
        }
    }

    /// Why a benchmark is not the published one. Throws Error unless incomplete ones are allowed.
    std::string problem_of(const std::string& source) const {
        const DataSpec spec = parse_data_spec(source);
        const BenchmarkInfo* published = find_benchmark(spec.name);
        if (published == nullptr) return "";
        const std::vector<std::string> problems = check_benchmark(*published, spec.root).problems;
        if (problems.empty()) return "";
        require(spec_.allow_incomplete, source, ": not the published data set: ", problems.front(),
                "; figures of it are not the protocol's unless incomplete data sets are allowed, which marks them");
        return problems.front();
    }

    const std::string& sum(const std::string& path) const {
        static const std::string none;
        for (const InputFile& file : plan_.files)
            if (file.path == path) return file.sha256;
        return none;
    }

    std::string context_pattern() const { return spec_.learner.context_words + " {}."; }

    std::vector<Index> shot_list() const {
        if (!spec_.shots.empty()) return spec_.shots;
        if (spec_.protocol == Protocol::few_shot) return {1, 2, 4, 8, 16};
        return {16};
    }

    /// The file of given prompts for a run.
    std::string given_prompts(const std::string& key, const Draw& draw) const {
        const std::pair<std::string, std::string> places[] = {
            {"{data}", key}, {"{seed}", std::to_string(draw.seed)}, {"{shots}", std::to_string(draw.shots)}};
        std::string path = spec_.teacher_prompts;
        for (const auto& [from, to] : places)
            for (std::size_t at; (at = path.find(from)) != std::string::npos;) path.replace(at, from.size(), to);
        return path;
    }

    void add_inputs(ReproductionStage& stage, const std::string& source, Split part) {
        stage.inputs[escape_bytes(concat(source, " (", name_of(part), ")"))] = data_.identity(source, part);
    }

    void add(ReproductionStage stage) {
        for (const TestSet& test : stage.tests) {
            stage.test_images += data_.open(test.spec, Split::test).size();
            add_inputs(stage, test.spec, Split::test);
        }
        plan_.stages.push_back(std::move(stage));
    }

    /// What the results of every kind of stage depend on.
    nlohmann::json common_identity(const ReproductionStage& stage) const {
        nlohmann::json id = {{"weights", sum(stage.weights)},
                             {"vocab", sum(spec_.vocabulary)},
                             {"data", stage.data},
                             {"images", spec_.images},
                             {"test-images", spec_.test_images},
                             {"activation", spec_.activation},
                             {"template", stage.pattern},
                             {"seed", stage.seed},
                             {"protocol", name_of(spec_.protocol)}};
        for (const InputFile& file : plan_.files)
            if (!file.images.empty()) id["images of the " + file.role] = file.images;
        if (!stage.prompts.empty() && !spec_.learns() && std::filesystem::exists(stage.prompts))
            id["prompts"] = fingerprint(stage.prompts);
        return id;
    }

    /// The models as they are, with the data set's own prompt.
    void add_zero_shot(const TestSet& target) {
        add_zero_shot(target, spec_.distils() ? "CLIP student" : "CLIP", "/zero-shot",
                      spec_.distils() ? spec_.student : spec_.weights);
        if (spec_.distils()) add_zero_shot(target, "CLIP teacher", "/zero-shot-teacher", spec_.teacher);
    }
    void add_zero_shot(const TestSet& target, const char* row, const char* folder, const std::string& weights) {
        ReproductionStage stage;
        stage.row = row;
        stage.folder = target.key + folder;
        stage.key = target.key;
        stage.data = target.spec;
        stage.weights = weights;
        stage.tests = {target};
        stage.pattern = default_template(target.spec);
        stage.identity = common_identity(stage);
        add(std::move(stage));
    }

    /// Base-to-novel and few-shot: everything on the data set itself.
    void add_stages(const TestSet& target) {
        for (const Index shots : shot_list())
            for (const std::uint64_t seed : spec_.seeds) {
                const std::string of_shots = spec_.protocol == Protocol::few_shot ? concat("/shots", shots) : "";
                const Draw draw{concat(target.key, of_shots, "/seed", seed), seed, shots};
                const TeacherPrompts teacher = add_teacher(target, {target}, draw);
                if (spec_.distils()) add_students(target, draw, teacher);
            }
    }

    /// Cross-dataset and domain generalisation: prompts learned on the source, tested on every target.
    void add_source_stages() {
        plan_.source = {data_key(spec_.source), spec_.source, problem_of(spec_.source)};
        const TestSet source = plan_.source;
        for (const Index shots : shot_list())
            for (const std::uint64_t seed : spec_.seeds) {
                const Draw learned{concat("source-", source.key, "/seed", seed), seed, shots};
                const TeacherPrompts teacher = add_teacher(source, plan_.targets, learned);
                if (!spec_.distils()) continue;
                for (const TestSet& target : plan_.targets)
                    add_students(target, {concat(target.key, "/seed", seed), seed, shots}, teacher);
            }
    }

    /// The stage of the teacher's (or the lone learner's) prompts: learned, or given and only tested.
    TeacherPrompts add_teacher(const TestSet& on, const std::vector<TestSet>& tests, const Draw& draw) {
        if (spec_.learner.name == "none" && spec_.teacher_prompts.empty()) return {};
        ReproductionStage stage;
        stage.row = plan_.learner;
        stage.folder = draw.folder + (spec_.distils() ? "/teacher" : "/learner");
        stage.key = on.key;
        stage.data = on.spec;
        stage.weights = spec_.prompted_model();
        stage.tests = tests;
        stage.seed = draw.seed;
        stage.shots = draw.shots;
        stage.pattern = context_pattern();
        TeacherPrompts prompts;
        if (spec_.learns()) {
            make_learner(stage);
            prompts.file = spec_.out + "/" + stage.folder + "/prompts.safetensors";
        } else {
            stage.prompts = given_prompts(on.key, draw);
            stage.identity = common_identity(stage);
            prompts.file = stage.prompts;
        }
        prompts.identity = stage.identity;
        add(std::move(stage));
        return prompts;
    }

    /// Batches of an epoch; a set smaller than a batch is one.
    static Index whole_batches(Index images, Index batch) { return std::max<Index>(1, images / batch); }
    /// Of all trainings of a best fit.
    static Index best_fit_steps(const DistillationRecipe& r, Index images) {
        const Index out = adapted_held_out(images, AdaptedRecipe().most_held_out);
        const Index part = r.epochs * whole_batches(images - out, r.batch), folds = adapted_folds(images, out);
        return folds == 1 ? part : folds * part + r.epochs * whole_batches(images, r.batch);
    }

    void make_learner(ReproductionStage& stage) {
        stage.kind = StageKind::learner;
        stage.learner = learner_settings_of(spec_, stage.key, stage.shots);
        const Recipe& r = stage.learner;
        const ClassSubset classes = spec_.protocol == Protocol::base_to_novel ? ClassSubset::base : ClassSubset::all;
        stage.images = data_.drawn(stage.data, stage.shots, classes);
        add_inputs(stage, stage.data, Split::train);
        stage.steps =
            fixed_steps(spec_.learner.name, stage.shots).value_or(r.epochs * whole_batches(stage.images, r.batch));
        stage.identity = common_identity(stage);
        stage.identity.update({{"learner", spec_.learner.name},
                               {"shots", stage.shots},
                               {"classes", name_of(classes)},
                               {"lr", r.lr},
                               {"epochs", r.epochs},
                               {"batch", r.batch},
                               {"text-prompts", r.text},
                               {"visual-prompts", r.visual},
                               {"depth", r.depth},
                               {"gaussian-mean", r.option("gaussian-mean")},
                               {"gaussian-deviation", r.option("gaussian-deviation")},
                               {"augment", to_string(spec_.learner.augmentation)}});
    }

    /// The student, and those beside it.
    void add_students(const TestSet& target, const Draw& draw, const TeacherPrompts& teacher) {
        add_student(target, {draw.folder + "/student", draw.seed, draw.shots}, teacher, spec_.distillation.fit);
        for (const DistillationFit fit : spec_.distillation.beside)
            add_student(target, {concat(draw.folder, "/student-", name_of(fit)), draw.seed, draw.shots}, teacher, fit);
    }

    void add_student(const TestSet& target, const Draw& draw, const TeacherPrompts& teacher, DistillationFit fit) {
        ReproductionStage stage;
        stage.kind = StageKind::student;
        stage.fit = fit;
        stage.row = student_row(fit);
        stage.folder = draw.folder;
        stage.key = target.key;
        stage.data = target.spec;
        stage.weights = spec_.student;
        stage.tests = {target};
        stage.seed = draw.seed;
        stage.shots = draw.shots;
        stage.prompts = teacher.file;
        stage.pattern = stage.prompts.empty() ? default_template(target.spec) : context_pattern();
        stage.student = student_settings_of(spec_, target.key);
        const Split part = unlabelled_part(target.spec);
        stage.images = data_.open(target.spec, part).size();
        add_inputs(stage, target.spec, part);
        if (spec_.images > 0) stage.images = std::min(stage.images, spec_.images);
        const bool best = fit == DistillationFit::best;
        if (best) use_adapted_recipe(stage.student, stage.images);
        const DistillationRecipe& r = stage.student;
        if (fit != DistillationFit::closed_form)
            stage.steps = best ? best_fit_steps(r, stage.images) : r.epochs * whole_batches(stage.images, r.batch);
        stage.identity = student_identity(stage, part, teacher);
        add(std::move(stage));
    }

    /// What the student is called in the tables: the published one, or another that is not its like.
    std::string student_row(DistillationFit fit) const {
        const ReproducedStudent& student = spec_.distillation;
        if (fit == DistillationFit::closed_form) return "student in closed form";
        if (fit == DistillationFit::best) return "best of three students";
        if (!student.mix && !student.guard) return "PromptKD";
        return concat("PromptKD", student.mix ? " + mixing" : "", student.guard ? " + guard" : "");
    }

    nlohmann::json student_identity(const ReproductionStage& stage, Split part, const TeacherPrompts& teacher) const {
        const DistillationRecipe& r = stage.student;
        nlohmann::json id = common_identity(stage);
        if (stage.fit != DistillationFit::sgd) {
            id.update({{"teacher", sum(spec_.teacher)},
                       {"teacher-prompts", teacher.identity},
                       {"part", name_of(part)},
                       {"fit", name_of(stage.fit)}});
            return id;
        }
        if (spec_.distillation.mix) id["mix"] = true;
        if (spec_.distillation.guard) id["guard"] = true;
        id.update({{"teacher", sum(spec_.teacher)},
                   {"teacher-prompts", teacher.identity},
                   {"part", name_of(part)},
                   {"lr", r.lr},
                   {"epochs", r.epochs},
                   {"batch", r.batch},
                   {"visual-prompts", r.prompts},
                   {"depth", r.depth},
                   {"kd-weight", r.kd_weight},
                   {"temperature", r.temperature},
                   {"augment", to_string(spec_.distillation.augmentation)}});
        return id;
    }

    ReproductionPlan plan_;
    const ReproductionSpec& spec_;
    CountedData data_;
};

}  // namespace detail

/// The stages of a reproduction. Opens every data set and reads every file of weights once; writes nothing.
/// Throws Error for settings that contradict each other, and for what is missing.
inline ReproductionPlan plan(const ReproductionSpec& spec) {
    const ReproductionSpec expanded = expand_benchmarks(spec);
    validate(expanded);
    return detail::Planner(expanded).plan();
}

}  // namespace promptkd
