// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models.hpp"

#include <promptkd/data/few_shot_file.hpp>
#include <promptkd/evaluate/learner.hpp>
#include <promptkd/learner/conditional_trainer.hpp>
#include <promptkd/learner/coop.hpp>
#include <promptkd/learner/ivlp.hpp>
#include <promptkd/learner/maple.hpp>
#include <promptkd/learner/recipes.hpp>
#include <promptkd/learner/run.hpp>
#include <promptkd/learner/templates.hpp>
#include <promptkd/train/selection.hpp>

namespace promptkd::cli {

/// A whole few-shot training of a prompt learner as a user describes it.
struct TrainJob {
    WeightsOptions weights_options;  ///< what the weight file does not tell
    LearnerKind kind = LearnerKind::promptsrc;
    std::string weights, vocab, data, class_names, evaluation, classes = "base", context_words = "a photo of a",
                                                               position = "end";
    Recipe recipe;
    bool class_specific = false, allow_fewer = false, fresh = false, clean = false;
    Index shots = 16, images = 0, class_chunk = 0, micro_batches = 1, evaluation_batch = 50;
    double text_weight = 25, image_weight = 10;
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
        learner_ = make_learner(train_.classes());
        learner_->initialize(job.loop.seed, initial_context());
        trainer_ = make_trainer(train_.class_names, true);
    }

    const Dataset& training_data() const { return train_; }
    PromptLearner<D>& learner() { return *learner_; }
    const ClipModel<D>& model() const { return model_; }

    TrainingResult train() {
        TrainingLoopConfig loop = job_.loop;
        loop.resolution = model_.vision().resolution();
        const Index steps = loop.schedule.max_epoch * (train_.size() / std::max<Index>(1, loop.batch));
        std::vector<double> gaussian;
        if (job_.recipe.gaussian_deviation > 0)
            gaussian =
                gaussian_weights(loop.schedule.max_epoch, job_.recipe.gaussian_mean, job_.recipe.gaussian_deviation);
        LearnerTarget<D> target(device_, *trainer_, loop.batch, loop.resolution, job_.micro_batches, gaussian);
        ProgressLine line(name_of(job_.kind), "steps", steps);
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
        if (!job_.clean) {
            const TrainingResult result = TrainingLoop(target, train_, loop).run();
            target.finish();
            return result;
        }
        BestEpoch best(target, [&] {
            return evaluate_learner(device_, *trainer_, validation_, loop.resolution, job_.evaluation_batch).accuracy;
        });
        const TrainingResult result = TrainingLoop(best, train_, loop).run();
        target.finish();
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
        const auto trainer = make_trainer(data.class_names, false);
        return evaluate_learner(device_, *trainer, data, model_.vision().resolution(), job_.evaluation_batch);
    }

    /// The learned prompts under the published checkpoint's names.
    void write_prompts(const std::string& path) const {
        TensorMap out;
        learner_->params().save(out);
        out.metadata["format"] = "promptkd.prompts";
        out.metadata["learner"] = name_of(job_.kind);
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

    std::unique_ptr<PromptLearner<D>> make_learner(Index classes) {
        const Recipe& r = job_.recipe;
        switch (job_.kind) {
            case LearnerKind::coop:
                return std::make_unique<CoOp<D>>(device_, model_, r.text, job_.class_specific ? classes : 0);
            case LearnerKind::cocoop:
                return std::make_unique<CoCoOp<D>>(device_, model_, r.text);
            case LearnerKind::maple:
                return std::make_unique<MaPLe<D>>(device_, model_, r.text, r.depth);
            default:
                return std::make_unique<Ivlp<D>>(device_, model_,
                                                 IndependentPrompts{r.visual, r.depth, r.text, r.depth});
        }
    }

    std::vector<std::int32_t> word_ids() const { return tokenizer_.encode(job_.context_words); }

    /// Embeddings of the first words of the context; empty for a random one.
    std::vector<T> initial_context() const {
        if (job_.context_words.empty() || job_.recipe.text == 0) return {};
        std::vector<std::int32_t> ids = word_ids();
        const auto n = static_cast<std::size_t>(job_.recipe.text);
        require(ids.size() >= n, "the context words '", job_.context_words, "' are ", ids.size(),
                " tokens, fewer than the ", n,
                " context vectors; give more words, or --context-words \"\" for random vectors");
        ids.resize(n);
        return model_.text().embed_tokens(ids);
    }

    /// "<context> <name>." for each class, with places for the learnable vectors.
    ContextTexts texts(const std::vector<std::string>& names) const {
        const Index n = job_.recipe.text;
        std::string words = job_.context_words;
        if (words.empty() && n > 0) {
            words = "X";
            for (Index i = 1; i < n; ++i) words += " X";
        }
        if (n == 0 && words.empty()) words = "a photo of a";
        ContextTexts out;
        out.tokens = tokenize_classes(tokenizer_, model_.text().config(), job_.weights, names, words + " {}.");
        if (n == 0) return out;
        const ContextPosition position = parse_context_position(job_.position);
        std::vector<Index> lengths;
        for (const std::string& name : names)
            lengths.push_back(static_cast<Index>(tokenizer_.encode(readable_name(name)).size()));
        return arrange_context(std::move(out.tokens), n, lengths, position, job_.class_specific);
    }

    std::unique_ptr<LearnerTrainer<D>> make_trainer(const std::vector<std::string>& names, bool training) {
        const ContextTexts t = texts(names);
        const Index batch = std::max(job_.loop.batch, job_.evaluation_batch);
        if (job_.kind == LearnerKind::cocoop)
            return std::make_unique<ConditionalTrainer<D>>(device_, model_, static_cast<CoCoOp<D>&>(*learner_),
                                                           t.tokens, t.layout, job_.optimizer, batch, job_.class_chunk);
        SelfRegulation<T> regulation;
        if (training && job_.kind == LearnerKind::promptsrc) regulation.frozen_text = frozen_text(names);
        regulation.text_weight = job_.text_weight, regulation.image_weight = job_.image_weight;
        return std::make_unique<PromptTrainer<D>>(device_, model_, *learner_, t.tokens, t.layout, job_.optimizer,
                                                  regulation, batch, job_.class_chunk);
    }

    /// PromptSRC's w_frozen: raw features averaged over its templates, then normalised.
    std::vector<T> frozen_text(const std::vector<std::string>& names) {
        std::vector<T> all;
        Index count = 0;
        for (const char* pattern : promptsrc_templates) {
            const std::vector<T> part = encode_texts(
                device_, model_, tokenize_classes(tokenizer_, model_.text().config(), job_.weights, names, pattern));
            all.insert(all.end(), part.begin(), part.end());
            ++count;
        }
        std::vector<T> mean = average_rows(all, count, static_cast<Index>(all.size()) / count);
        normalize_rows(mean, model_.text().embed());
        return mean;
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
