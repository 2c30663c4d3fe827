// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/distillation.hpp>
#include <promptkd/experiment/reproduction/observer.hpp>
#include <promptkd/experiment/reproduction/plan.hpp>
#include <promptkd/experiment/reproduction/stage_result.hpp>
#include <promptkd/experiment/training.hpp>
#include <promptkd/experiment/zero_shot.hpp>

#include <optional>
#include <string>
#include <utility>

namespace promptkd::detail {

/// Runs stages of a reproduction on a device, each from where it stands.
template <Device D>
class StageRunner {
public:
    /// Device, specification and observer must outlive this.
    StageRunner(D& device, const ReproductionSpec& spec, ReproductionObserver& observer)
        : device_(device), spec_(spec), observer_(observer) {}

    /// Whether the stage is done: false after the observer has stopped a training early, which then goes on in another
    /// run.
    bool run(const ReproductionStage& stage) {
        const StageResultFile file(spec_.out, stage);
        StageResult result = file.read();
        if (stage.kind == StageKind::zero_shot) return zero_shot(stage, result, file);
        return stage.kind == StageKind::learner ? learn(stage, result, file) : distil(stage, result, file);
    }

private:
    bool has_halves() const { return spec_.protocol == Protocol::base_to_novel; }
    std::string folder_of(const ReproductionStage& stage) const { return spec_.out + "/" + stage.folder; }

    ModelFile model_of(const ReproductionStage& stage) const {
        const bool student = stage.weights == spec_.student;
        return {stage.weights, student ? spec_.student_config : spec_.teacher_config, spec_.activation,
                student ? spec_.student_names : spec_.teacher_names, spec_.images_of(stage.weights)};
    }

    Dataset open(const TestSet& test) const {
        Dataset data = open_dataset(test.spec, Split::test, {}, FolderLabels::required);
        require(data.labelled(), test.spec, ": the test images have no labels");
        return limited(test.spec, std::move(data), spec_.test_images, 1);
    }

    /// Both halves and their images, or all classes.
    std::optional<ClassSubset> subset() const {
        return has_halves() ? std::optional<ClassSubset>() : std::optional<ClassSubset>(ClassSubset::all);
    }

    static void add_halves(TestFigures& figures, const BaseNew& halves) {
        figures.base = halves.base;
        figures.novel = halves.novel;
        figures.harmonic_mean = halves.harmonic();
    }

    static TestFigures figures_of(const Metrics& metrics) {
        TestFigures figures;
        figures.accuracy = metrics.accuracy;
        figures.error_rate = metrics.error_rate;
        figures.macro_f1 = metrics.macro_f1;
        figures.images = metrics.n;
        return figures;
    }

    static TestFigures figures_of(const EvaluationResult& evaluation) {
        TestFigures figures = figures_of(evaluation.metrics);
        if (evaluation.halves) add_halves(figures, *evaluation.halves);
        return figures;
    }

    /// Tests on every set that has no figures yet, with evaluate(images); each result is written at once.
    template <class Evaluate>
    bool test(const ReproductionStage& stage, StageResult& result, const StageResultFile& file,
              const Evaluate& evaluate) {
        for (const TestSet& set : stage.tests) {
            if (result.tests.count(set.key) != 0) continue;
            result.tests[set.key] = evaluate(open(set));
            file.write(result);
            observer_.on_test(stage, set, result.tests[set.key]);
        }
        return true;
    }

    bool zero_shot(const ReproductionStage& stage, StageResult& result, const StageResultFile& file) {
        TensorMap weights = load_model(model_of(stage), observer_);
        const std::optional<TensorMap> prompts = adapt_model(weights, stage.prompts, observer_);
        const ClipModel<D> model(device_, weights);
        const Tokenizer tokenizer = load_tokenizer(spec_.vocabulary);
        ZeroShot<D> clip(device_, model, prompts ? &*prompts : nullptr, {stage.row, spec_.evaluation_batch, observer_});
        return test(stage, result, file, [&](const Dataset& data) {
            return figures_of(clip.evaluate(data, tokenizer, stage.pattern, subset()));
        });
    }

    /// What learner and student have in common: cosine schedule, a constant first epoch, the stage's folder.
    TrainingLoopConfig loop_of(const ReproductionStage& stage) const {
        const bool learner = stage.kind == StageKind::learner;
        TrainingLoopConfig loop;
        loop.batch = stage.batch();
        loop.seed = stage.seed;
        loop.out = folder_of(stage);
        loop.identity = stage.identity;
        loop.schedule.lr = learner ? stage.learner.lr : stage.student.lr;
        loop.schedule.max_epoch = learner ? stage.learner.epochs : stage.student.epochs;
        loop.schedule.warmup = Warmup::constant;
        loop.schedule.warmup_epoch = 1;
        loop.schedule.warmup_cons_lr = 1e-5;
        loop.schedule.warmup_min_lr = 1e-5;
        loop.augmentation = learner ? spec_.learner.augmentation : spec_.distillation.augmentation;
        loop.loader_threads = spec_.loader_threads;
        return loop;
    }

    TrainingSpec training_of(const ReproductionStage& stage) const {
        TrainingSpec training;
        training.learner = spec_.learner.name;
        training.model = model_of(stage);
        training.vocabulary = spec_.vocabulary;
        training.data.source = stage.data;
        training.data.classes = has_halves() ? ClassSubset::base : ClassSubset::all;
        training.data.shots = stage.shots;
        training.data.images = spec_.images;
        training.data.verify = spec_.verify_data;
        training.data.allow_fewer = true;
        training.recipe = stage.learner;
        training.context.words = spec_.learner.context_words;
        training.loop = loop_of(stage);
        const LearnerInfo& info = find_learner(training.learner);
        if (info.complete) info.complete(training.loop, training.optimizer, stage.shots);
        training.evaluation_batch = spec_.evaluation_batch;
        training.fresh = spec_.fresh;
        return training;
    }

    bool learn(const ReproductionStage& stage, StageResult& result, const StageResultFile& file) {
        TrainingRun<D> training(device_, training_of(stage), observer_);
        const TrainingOutcome outcome = training.train();
        if (outcome.training.progress.epoch < stage.learner.epochs) return false;
        training.write_prompts(file.folder() + "/prompts.safetensors");
        result.made["prompts.safetensors"] = fingerprint(file.folder() + "/prompts.safetensors");
        result.training = StageTraining{outcome.training, outcome.images};
        file.write(result);
        return test(stage, result, file, [&](const Dataset& data) {
            if (!has_halves()) return figures_of(training.evaluate_on(data));
            const Metrics base = training.evaluate_on(select_subset(data, ClassSubset::base));
            const Metrics novel = training.evaluate_on(select_subset(data, ClassSubset::novel));
            TestFigures figures;
            add_halves(figures, {base.accuracy, novel.accuracy});
            figures.images = base.n + novel.n;
            return figures;
        });
    }

    DistillationSpec distillation_of(const ReproductionStage& stage) const {
        const DistillationRecipe& recipe = stage.student;
        DistillationSpec distillation;
        distillation.teacher.weights = {spec_.teacher};
        if (!stage.prompts.empty()) distillation.teacher.prompts = {stage.prompts};
        distillation.teacher.config = spec_.teacher_config;
        distillation.teacher.activation = spec_.activation;
        distillation.teacher.names = spec_.teacher_names;
        distillation.teacher.images = spec_.teacher_images;
        distillation.student = model_of(stage);
        distillation.vocabulary = spec_.vocabulary;
        distillation.pattern = stage.pattern;
        distillation.data.source = stage.data;
        distillation.data.part = unlabelled_part(stage.data);
        distillation.data.images = spec_.images;
        distillation.data.verify = spec_.verify_data;
        distillation.shape.prompts = recipe.prompts;
        distillation.shape.depth = recipe.prompts > 0 ? recipe.depth : 0;
        distillation.loss.kd_weight = recipe.kd_weight;
        distillation.loss.temperature = recipe.temperature;
        distillation.loop = loop_of(stage);
        distillation.evaluation_batch = spec_.evaluation_batch;
        distillation.fresh = spec_.fresh;
        distillation.fit = stage.fit;
        if (stage.fit == DistillationFit::best) {
            distillation.shape.training = EncoderTraining::lora;
            distillation.loss.temperature = 1;
            use_adapted_recipe(distillation);
        }
        if (stage.fit != DistillationFit::sgd) return distillation;
        if (spec_.distillation.mix) distillation.mixture.mix = true;
        if (spec_.distillation.guard) distillation.mixture.guard = true;
        return distillation;
    }

    bool distil(const ReproductionStage& stage, StageResult& result, const StageResultFile& file) {
        DistillationRun<D> distillation(device_, distillation_of(stage), observer_);
        const TrainingOutcome outcome = distillation.train();
        if (stage.fit == DistillationFit::best && !distillation.best()) return false;
        if (stage.fit != DistillationFit::closed_form && outcome.training.progress.epoch < stage.student.epochs)
            return false;
        distillation.write_bundle(file.folder() + "/bundle.safetensors");
        result.made["bundle.safetensors"] = fingerprint(file.folder() + "/bundle.safetensors");
        if (!stage.prompts.empty()) result.used[stage.prompts] = fingerprint(stage.prompts);
        result.training = StageTraining{outcome.training, outcome.images};
        file.write(result);
        return test(stage, result, file,
                    [&](const Dataset& data) { return figures_of(distillation.evaluate(data, stage.row, subset())); });
    }

    D& device_;
    const ReproductionSpec& spec_;
    ReproductionObserver& observer_;
};

}  // namespace promptkd::detail
