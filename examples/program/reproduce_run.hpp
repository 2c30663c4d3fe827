// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "progress.hpp"
#include "reproduce_plan.hpp"
#include "results_json.hpp"

#include <promptkd/experiment/distillation.hpp>
#include <promptkd/experiment/training.hpp>
#include <promptkd/experiment/zero_shot.hpp>

#include <filesystem>

namespace promptkd::cli {

/// How far a stage is.
enum class StageState { missing, interrupted, done };

/// A stage's result.json: {"identity", "training", "tests": {key: results}}.
class StageResult {
public:
    StageResult(const std::string& out, const Stage& stage)
        : stage_(stage), folder_(out + "/" + stage.folder), path_(folder_ + "/result.json") {}

    const std::string& folder() const { return folder_; }

    /// What is there. Throws Error when the folder holds a result of other settings.
    nlohmann::json read() const {
        if (!std::filesystem::exists(path_)) return nlohmann::json::object();
        nlohmann::json result = nlohmann::json::parse(read_file(path_), nullptr, false);
        require(result.is_object() && result.contains("identity") && result.contains("tests") &&
                    result["identity"].is_object() && result["tests"].is_object(),
                path_, ": not a result of reproduce; delete it or choose another --out");
        require(result["identity"] == stage_.identity, path_, ": the result of a run with other settings: ",
                detail::first_difference(result["identity"], stage_.identity),
                "; use another --out, the same settings, or --fresh");
        return result;
    }

    StageState state() const {
        const nlohmann::json result = read();
        bool complete = result.contains("tests");
        for (const StageTest& test : stage_.tests) complete = complete && result["tests"].contains(test.key);
        if (complete) return StageState::done;
        return has_checkpoint(folder_) || result.contains("tests") ? StageState::interrupted : StageState::missing;
    }

    void write(const nlohmann::json& result) const {
        make_directories(folder_);
        write_atomically(path_, result.dump(2) + "\n");
    }

private:
    const Stage& stage_;
    std::string folder_, path_;
};

/// Runs the stages of a plan on a device, each from where it stands.
template <Device D>
class StageRunner {
public:
    StageRunner(D& device, const ReproduceOptions& options, const Output& output)
        : device_(device), o_(options), output_(output) {}

    void run(const Stage& stage) {
        const StageResult file(o_.out, stage);
        if (o_.fresh) {
            std::error_code code;
            std::filesystem::remove(file.folder() + "/result.json", code);
        }
        nlohmann::json result = file.read();
        result["identity"] = stage.identity;
        if (!result.contains("tests")) result["tests"] = nlohmann::json::object();
        if (stage.kind == StageKind::zero_shot)
            zero_shot(stage, result, file);
        else if (stage.kind == StageKind::learner)
            learn(stage, result, file);
        else
            distil(stage, result, file);
    }

private:
    using Result = nlohmann::json;

    bool halves() const { return o_.protocol == Protocol::base_to_novel; }

    Dataset test_data(const StageTest& test) const {
        Dataset data = open_dataset(test.spec, Split::test, {}, FolderLabels::required);
        require(data.labelled(), test.spec, ": the test images have no labels");
        return o_.test_images > 0 ? take(std::move(data), o_.test_images) : data;
    }

    const std::string& config_of(const Stage& stage) const {
        return stage.weights == o_.student ? o_.student_config : o_.teacher_config;
    }

    /// Keeps base, new and their mean, or the figures of all classes.
    Result figures(const EvaluationResult& found) const {
        const Result evaluation = evaluation_json(found);
        Result kept = Result::object();
        for (const char* key : {"base", "new", "harmonic_mean"})
            if (halves()) kept[key] = evaluation.at(key);
        for (const char* key : {"accuracy", "error_rate", "macro_f1", "n"}) kept[key] = evaluation.at(key);
        return kept;
    }

    void finish_test(const Stage& stage, const StageTest& test, const Result& found, Result& result,
                     const StageResult& file) const {
        result["tests"][test.key] = found;
        file.write(result);
        char text[120];
        if (halves())
            std::snprintf(text, sizeof text, "base %.2f   new %.2f   harmonic mean %.2f", found["base"].get<double>(),
                          found["new"].get<double>(), found["harmonic_mean"].get<double>());
        else
            std::snprintf(text, sizeof text, "accuracy %.2f", found["accuracy"].get<double>());
        output_.text() << "    " << stage.row << " on " << test.key << ": " << text << std::endl;
    }

    void zero_shot(const Stage& stage, Result& result, const StageResult& file) {
        ProgramObserver observer(output_);
        const TensorMap weights = load_weights({stage.weights, config_of(stage), o_.activation}, observer);
        const ClipModel<D> model(device_, weights);
        std::optional<TensorMap> prompts;
        if (!stage.prompts.empty()) prompts = load_prompts(stage.prompts, observer);
        const Tokenizer tokenizer = Tokenizer::from_file(o_.vocab);
        ZeroShot<D> clip(device_, model, prompts ? &*prompts : nullptr, {stage.row, o_.evaluation_batch, observer});
        for (const StageTest& test : stage.tests) {
            if (result["tests"].contains(test.key)) continue;
            const Dataset data = test_data(test);
            finish_test(stage, test, figures(clip.evaluate(data, tokenizer, stage.pattern, classes())), result, file);
        }
    }

    std::optional<ClassSubset> classes() const {
        return halves() ? std::nullopt : std::optional<ClassSubset>(ClassSubset::all);
    }

    TrainingLoopConfig loop(const Stage& stage, double lr, Index epochs, Index batch,
                            const std::string& augment) const {
        TrainingLoopConfig c;
        c.batch = batch, c.seed = stage.seed, c.out = o_.out + "/" + stage.folder, c.identity = stage.identity;
        c.schedule.lr = lr, c.schedule.max_epoch = epochs;
        c.schedule.warmup = Warmup::constant, c.schedule.warmup_epoch = 1;
        c.schedule.warmup_cons_lr = c.schedule.warmup_min_lr = 1e-5;
        c.augmentation = parse_augmentation(augment), c.loader_threads = o_.loader_threads;
        return c;
    }

    void learn(const Stage& stage, Result& result, const StageResult& file) {
        TrainingSpec spec;
        spec.learner = o_.learner;
        spec.model = {stage.weights, config_of(stage), o_.activation};
        spec.vocabulary = o_.vocab;
        spec.data.source = stage.data;
        spec.data.classes = halves() ? ClassSubset::base : ClassSubset::all;
        spec.data.shots = stage.shots;
        spec.data.images = o_.images;
        spec.data.allow_fewer = true;
        spec.context.words = o_.context_words;
        spec.recipe = stage.recipe;
        spec.fresh = o_.fresh;
        spec.evaluation_batch = o_.evaluation_batch;
        spec.loop = loop(stage, stage.recipe.lr, stage.recipe.epochs, stage.recipe.batch, o_.learner_augment);
        ProgramObserver observer(output_);
        TrainingRun<D> session(device_, spec, observer);
        const TrainingOutcome trained = session.train();
        session.write_prompts(file.folder() + "/prompts.safetensors");
        result["training"] = training_json(trained);
        for (const StageTest& test : stage.tests) {
            if (result["tests"].contains(test.key)) continue;
            const Dataset data = test_data(test);
            Result found;
            if (halves()) {
                const Metrics base = session.evaluate_on(select_subset(data, ClassSubset::base)),
                              novel = session.evaluate_on(select_subset(data, ClassSubset::novel));
                found = {{"base", base.accuracy},
                         {"new", novel.accuracy},
                         {"harmonic_mean", harmonic_mean(base.accuracy, novel.accuracy)},
                         {"n", base.n + novel.n}};
            } else {
                EvaluationResult all;
                all.metrics = session.evaluate_on(data);
                all.class_names = data.class_names;
                found = figures(all);
            }
            finish_test(stage, test, found, result, file);
        }
    }

    void distil(const Stage& stage, Result& result, const StageResult& file) {
        DistillationSpec spec;
        spec.teacher.weights = {o_.teacher};
        if (!stage.prompts.empty()) spec.teacher.prompts = {stage.prompts};
        spec.teacher.activation = o_.activation;
        spec.teacher.config = o_.teacher_config;
        spec.student = {stage.weights, o_.student_config, o_.activation};
        spec.vocabulary = o_.vocab;
        spec.data.source = stage.data;
        spec.data.part = unlabelled_part(stage.data);
        spec.data.images = o_.images;
        spec.pattern = stage.pattern;
        spec.fresh = o_.fresh;
        spec.evaluation_batch = o_.evaluation_batch;
        spec.settings = stage.identity;
        const DistillationRecipe& r = stage.distil;
        spec.shape.prompts = r.prompts;
        spec.shape.depth = r.prompts > 0 ? r.depth : 0;
        spec.loss.kd_weight = r.kd_weight;
        spec.loss.temperature = r.temperature;
        spec.loop = loop(stage, r.lr, r.epochs, r.batch, o_.augment);
        ProgramObserver observer(output_);
        DistillationRun<D> session(device_, spec, observer);
        const TrainingOutcome trained = session.train();
        session.write_bundle(file.folder() + "/bundle.safetensors");
        result["training"] = training_json(trained);
        for (const StageTest& test : stage.tests) {
            const Dataset data = test_data(test);
            finish_test(stage, test, figures(session.evaluate(data, stage.row, classes())), result, file);
        }
    }

    D& device_;
    const ReproduceOptions& o_;
    const Output& output_;
};

}  // namespace promptkd::cli
