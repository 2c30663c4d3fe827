// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "distill_session.hpp"
#include "reproduce_plan.hpp"
#include "train_job.hpp"

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

    WeightsOptions weights_options(const std::string& config) const {
        WeightsOptions options;
        options.activation = o_.activation, options.config = config;
        return options;
    }
    const std::string& config_of(const Stage& stage) const {
        return stage.weights == o_.student ? o_.student_config : o_.teacher_config;
    }

    /// Keeps base, new and their mean, or the figures of all classes.
    Result figures(const Result& evaluation) const {
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
        const TensorMap weights = load_weights(stage.weights, weights_options(config_of(stage)));
        const ClipModel<D> model(device_, weights);
        const TensorMap learned = stage.prompts.empty() ? TensorMap{} : load_prompts(stage.prompts);
        const TensorMap* prompts = stage.prompts.empty() ? nullptr : &learned;
        const Tokenizer tokenizer = Tokenizer::from_file(o_.vocab);
        FrozenImageTower<D> tower(device_, model, prompts, o_.evaluation_batch);
        for (const StageTest& test : stage.tests) {
            if (result["tests"].contains(test.key)) continue;
            const Dataset data = test_data(test);
            const TokenRows tokens =
                tokenize_classes(tokenizer, model.text().config(), stage.weights, data.class_names, stage.pattern);
            const auto vectors = promptkd::class_vectors(device_, model, tokens, prompts);
            const auto set =
                features_with_progress(device_, data, tower.resolution(), tower.embed(), o_.evaluation_batch, stage.row,
                                       [&](const auto* x, Index n) { return tower.encode(x, n); });
            finish_test(stage, test, figures(evaluation_json(device_, set, vectors, data.class_names, classes())),
                        result, file);
        }
    }

    const char* classes() const { return halves() ? "" : "all"; }

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
        TrainJob job;
        job.weights_options = weights_options(config_of(stage)), job.learner = o_.learner;
        job.weights = stage.weights, job.vocab = o_.vocab, job.data = stage.data;
        job.classes = halves() ? "base" : "all", job.context_words = o_.context_words, job.recipe = stage.recipe;
        job.shots = stage.shots, job.images = o_.images, job.allow_fewer = true, job.fresh = o_.fresh;
        job.evaluation_batch = o_.evaluation_batch, job.output = &output_;
        job.loop = loop(stage, stage.recipe.lr, stage.recipe.epochs, stage.recipe.batch, o_.learner_augment);
        TrainSession<D> session(device_, job);
        const TrainingResult trained = session.train();
        session.write_prompts(file.folder() + "/prompts.safetensors");
        result["training"] = training_json(trained, session.training_data());
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
                found = figures(to_json(session.evaluate_on(data), data.class_names));
            }
            finish_test(stage, test, found, result, file);
        }
    }

    void distil(const Stage& stage, Result& result, const StageResult& file) {
        DistillJob job;
        job.teacher.weights = {o_.teacher}, job.student = stage.weights, job.vocab = o_.vocab;
        if (!stage.prompts.empty()) job.teacher.prompts = {stage.prompts};
        job.data = stage.data, job.part = unlabelled_part(stage.data), job.images = o_.images;
        job.activation = job.teacher.activation = o_.activation, job.teacher.config = o_.teacher_config,
        job.student_config = o_.student_config;
        job.pattern = stage.pattern, job.fresh = o_.fresh, job.output = &output_;
        job.evaluation_batch = o_.evaluation_batch, job.config = stage.identity;
        const DistillationRecipe& r = stage.distil;
        job.shape.prompts = r.prompts, job.shape.depth = r.prompts > 0 ? r.depth : 0;
        job.loss.kd_weight = r.kd_weight, job.loss.temperature = r.temperature;
        job.run = loop(stage, r.lr, r.epochs, r.batch, o_.augment);
        DistillSession<D> session(device_, job);
        const TrainingResult trained = session.train();
        session.write_student(file.folder() + "/bundle.safetensors");
        result["training"] = training_json(trained, session.training_data());
        for (const StageTest& test : stage.tests) {
            const Dataset data = test_data(test);
            const auto set = session.features(data, stage.row);
            finish_test(stage, test,
                        figures(evaluation_json(device_, set, session.class_vectors(), data.class_names, classes())),
                        result, file);
        }
    }

    D& device_;
    const ReproduceOptions& o_;
    const Output& output_;
};

}  // namespace promptkd::cli
