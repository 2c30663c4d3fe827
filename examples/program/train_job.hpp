// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models.hpp"

#include <promptkd/data/few_shot_file.hpp>
#include <promptkd/evaluate/learner.hpp>
#include <promptkd/learner/registry.hpp>
#include <promptkd/learner/run.hpp>
#include <promptkd/train/selection.hpp>

namespace promptkd::cli {

/// A whole few-shot training of a prompt learner as a user describes it.
struct TrainJob {
    WeightsOptions weights_options;  ///< what the weight file does not tell
    std::string learner = "promptsrc";
    std::string weights, vocab, data, class_names, evaluation, classes = "base", context_words = "a photo of a",
                                                               position = "end";
    Recipe recipe;
    bool class_specific = false, allow_fewer = false, fresh = false, clean = false;
    Index shots = 16, images = 0, class_chunk = 0, micro_batches = 1, evaluation_batch = 50;
    OptimizerConfig optimizer;
    TrainingLoopConfig loop;
    nlohmann::json config;
    const Output* output = nullptr;
};

/// One training of a learner on a device: construct, train(), evaluate(), save().
template <Device D>
class TrainSession {
public:
    using T = typename D::Scalar;

    TrainSession(D& device, const TrainJob& job)
        : device_(device),
          job_(job),
          tokenizer_(Tokenizer::from_file(job.vocab)),
          map_(load_weights(job.weights, job.weights_options)),
          model_(device, map_) {
        std::vector<std::string> names;
        if (!job.class_names.empty()) names = read_class_names(job.class_names);
        all_ = open_dataset(job.data, Split::train, names, FolderLabels::required);
        if (job.images > 0) all_ = take(all_, job.images);
        train_ = draw_images();
        if (job.clean) hold_out();
        learner_ = make_learner(job.learner, clip(), job.recipe, context(), train_.classes());
        learner_->initialize(job.loop.seed, initial_context(clip(), job.recipe.text, context()));
        trainer_ = trainer_of(training_texts(job.learner, clip(), job.recipe, context(), train_.class_names));
    }

    const Dataset& training_data() const { return train_; }
    PromptLearner<D>& learner() { return *learner_; }
    const ClipModel<D>& model() const { return model_; }

    TrainingResult train() {
        TrainingLoopConfig loop = job_.loop;
        loop.resolution = model_.vision().resolution();
        const Index steps = loop.schedule.max_epoch * (train_.size() / std::max<Index>(1, loop.batch));
        StepOptions how;
        how.batch = loop.batch;
        how.micro_batches = job_.micro_batches;
        LabelFeed<D> labels(device_, loop.batch, trainer_->classes());
        LearnerPipeline<D> pipeline(*trainer_, labels, loop.resolution, how);
        ProgressLine line(job_.learner.c_str(), "steps", steps);
        Index first = -1;
        loop.on_step = [&](const StepRecord& r) {
            if (first < 0) first = r.step;
            char note[64];
            std::snprintf(note, sizeof note, "epoch %lld, loss %.4f", static_cast<long long>(r.epoch + 1), r.loss);
            line.update(r.step + 1, note, first);
        };
        loop.warn = [&](const std::string& text) {
            line.finish(), std::fprintf(stderr, "warning: skipped: %s\n", text.c_str());
        };
        loop.resume = !job_.fresh;
        if (!job_.clean) return TrainingLoop(pipeline, train_, loop).run();
        BestEpoch best(pipeline, [&] {
            return evaluate_learner(device_, *trainer_, validation_, loop.resolution, job_.evaluation_batch).accuracy;
        });
        const TrainingResult result = TrainingLoop(best, train_, loop).run();
        const bool back = best.select();
        selection_ = {{"epoch", back ? best.best_epoch() + 1 : loop.schedule.max_epoch},
                      {"epochs", loop.schedule.max_epoch},
                      {"accuracy", best.best_score()},
                      {"images", validation_.size()}};
        return result;
    }

    /// Which epoch was chosen, on what; empty for the protocol "published".
    const nlohmann::json& selection() const { return selection_; }

    /// Base, new and harmonic mean on the test images (the trained half alone for class-specific contexts).
    nlohmann::json evaluate() {
        const std::string where = job_.evaluation.empty() ? job_.data : job_.evaluation;
        const Dataset test = open_dataset(where, Split::test, all_.class_names, FolderLabels::required);
        nlohmann::json result;
        if (job_.class_specific || test.classes() < 2) {
            const Dataset own = select_subset(test, parse_class_subset(job_.classes));
            result = to_json(evaluate_on(own), own.class_names);
            result["classes"] = job_.classes;
            return result;
        }
        const Dataset base = select_subset(test, ClassSubset::base), novel = select_subset(test, ClassSubset::novel);
        result = to_json(evaluate_on(test), test.class_names);
        result["all"] = result["accuracy"];
        result["base"] = evaluate_on(base).accuracy;
        result["new"] = evaluate_on(novel).accuracy;
        result["harmonic_mean"] = harmonic_mean(result["base"].get<double>(), result["new"].get<double>());
        return result;
    }

    /// Results on labelled images of any classes, which need not be those of the training.
    Metrics evaluate_on(const Dataset& data) {
        const auto trainer = trainer_of(evaluation_texts(clip(), job_.recipe, context(), data.class_names));
        return evaluate_learner(device_, *trainer, data, model_.vision().resolution(), job_.evaluation_batch);
    }

    /// The learned prompts under the published checkpoint's names.
    void write_prompts(const std::string& path) const {
        TensorMap out;
        learner_->params().save(out);
        out.metadata["format"] = "promptkd.prompts";
        out.metadata["learner"] = job_.learner;
        out.metadata["ctx_init"] = job_.context_words;
        out.metadata["config"] = job_.loop.identity.dump();
        write_safetensors(path, out);
    }

private:
    /// The half's images, or a few of each class: the published draw of a benchmark where its file is there, else our
    /// own.
    Dataset draw_images() const {
        const ClassSubset half = parse_class_subset(job_.classes);
        if (job_.shots == 0) return select_subset(all_, half);
        const DataSpec spec = parse_data_spec(job_.data);
        if (const auto path = published_draw(spec.name, spec.root, job_.shots, job_.loop.seed))
            return select_subset(read_few_shot(*find_benchmark(spec.name), *path, all_), half);
        return draw_few_shot(select_subset(all_, half), job_.shots, job_.loop.seed, job_.allow_fewer);
    }

    /// The protocol "clean": up to four images of each class, out of those that are not trained on (of all images when
    /// all are trained on).
    void hold_out() {
        const Dataset half = select_subset(all_, parse_class_subset(job_.classes));
        const Index n = job_.shots > 0 ? std::min<Index>(job_.shots, 4) : 4;
        validation_ = draw_few_shot(job_.shots > 0 ? without(half, train_) : half, n, job_.loop.seed, job_.allow_fewer);
        if (job_.shots == 0) train_ = without(train_, validation_);
    }

    FrozenClip<D> clip() { return {device_, model_, &tokenizer_}; }

    ContextOptions context() const {
        ContextOptions options;
        options.words = job_.context_words;
        options.position = parse_context_position(job_.position);
        options.class_specific = job_.class_specific;
        return options;
    }

    std::unique_ptr<LearnerTrainer<D>> trainer_of(const LearnerTexts<T>& texts) {
        TrainerOptions<D> options;
        options.optimizer = job_.optimizer;
        options.max_batch = std::max(job_.loop.batch, job_.evaluation_batch);
        options.class_chunk = job_.class_chunk;
        return make_trainer(job_.learner, clip(), *learner_, texts, job_.recipe, options);
    }

    D& device_;
    const TrainJob& job_;
    Tokenizer tokenizer_;
    TensorMap map_;
    ClipModel<D> model_;
    Dataset all_, train_, validation_;
    nlohmann::json selection_ = nlohmann::json::object();
    std::unique_ptr<PromptLearner<D>> learner_;
    std::unique_ptr<LearnerTrainer<D>> trainer_;
};

}  // namespace promptkd::cli
