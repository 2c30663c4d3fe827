// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/distill/knowledge.hpp>
#include <promptkd/evaluate/learner.hpp>
#include <promptkd/experiment/few_shot_images.hpp>
#include <promptkd/experiment/inputs.hpp>
#include <promptkd/experiment/stage.hpp>
#include <promptkd/format/folder_lock.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/learner/run.hpp>
#include <promptkd/train/selection.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// One training of a prompt learner on a device, step by step: construct, train(), then evaluate() or evaluate_on() and
/// write_prompts(). run() does all of it.
template <Device D>
class TrainingRun {
public:
    using T = typename D::Scalar;

    /// Loads model and data. Device and observer must outlive this. Throws Error for what does not fit together.
    TrainingRun(D& device, const TrainingSpec& spec, Observer& observer = silent_observer())
        : device_(device),
          observer_(observer),
          spec_(spec),
          tokenizer_(load_tokenizer(spec.vocabulary, spec.model.path, spec.truncate)),
          map_(load_model(spec.model, observer)),
          model_(device, map_),
          images_(spec.data, spec.loop.seed, observer) {
        if (spec_.loop.identity.empty()) spec_.loop.identity = derived_identity(spec);
        spec_.loop.preprocessing = model_.preprocessing();
        spec_.context.from_template = find_learner(spec.learner).takes_template;
        spec_.loop.batch = whole_batch(spec_.loop, images_.train.size(), observer);
        complete_epochs();
        warn_of_warm_up(spec_.loop, images_.train.size(), observer);
        require_blocks();
        spec_.recipe.epochs = spec_.loop.schedule.max_epoch;
        if (spec_.context.hand_written.empty()) spec_.context.hand_written = default_template(spec.data.source);
        const Dataset& train = images_.train;
        const Recipe& recipe = spec_.recipe;
        if (spec_.knowledge.is_used()) load_teacher();
        learner_ = make_learner(spec_.learner, clip(), recipe, spec_.context, train.classes());
        learner_->initialize(spec_.loop.seed, initial_context(clip(), recipe.text, spec_.context));
        trainer_ = trainer_of(training_texts(spec_.learner, clip(), recipe, spec_.context, learned_names()));
        if (!spec.loop.out.empty()) spec_.loop.inputs = inputs();
    }

    /// What the learner learns from.
    const Dataset& training_data() const { return images_.train; }
    /// What is trained.
    PromptLearner<D>& learner() { return *learner_; }
    /// The model that is prompted.
    const ClipModel<D>& model() const { return model_; }

    /// The whole training.
    TrainingOutcome train() {
        TrainingOutcome outcome;
        outcome.images = images_.train.size();
        outcome.classes = images_.train.classes();
        const Index steps = count_steps(spec_.loop, outcome.images);
        observer_.on_start({outcome.images, outcome.classes, learner_->params().size(), steps});
        TrainingStage stage(spec_.learner, steps, observer_);
        TrainingLoopConfig loop = stage.connect(spec_.loop, outcome.images, spec_.fresh);
        stage.begin();
        StepOptions how;
        how.batch = loop.batch;
        how.micro_batches = spec_.micro_batches;
        if (teachers_) {
            KnowledgeTeacher<D> teacher(device_, teachers_->live(device_, TeacherGives::logits, loop.batch),
                                        knowledge());
            loop.further = teacher.further_inputs(loop.preprocessing);
            ImitatingTrainer<D> imitating(*trainer_);
            StepPipeline<ImitatingTrainer<D>, KnowledgeTeacher<D>> pipeline(imitating, teacher, loop.preprocessing,
                                                                            how);
            run_loop(pipeline, loop, outcome);
        } else {
            LabelFeed<D> labels(device_, loop.batch, trainer_->classes());
            LearnerPipeline<D> pipeline(*trainer_, labels, loop.preprocessing, how);
            run_loop(pipeline, loop, outcome);
        }
        if (!outcome.training.interrupted) stage.end();
        return outcome;
    }

    /// The images to test on, see FewShotImages::open_test(). Before the training: what is missing is then said early.
    std::optional<Dataset> open_test() { return images_.open_test(spec_.data, observer_); }

    /// Results on labelled images of the classes of spec.data: of all classes and both halves; of the learned classes
    /// alone where contexts belong to classes.
    EvaluationResult evaluate(const Dataset& test) {
        EvaluationResult result;
        if (spec_.context.class_specific) {
            const Dataset own = select_subset(test, images_.classes);
            result.metrics = evaluate_on(own);
            result.class_names = distinct_names(own.class_names, own.class_ids);
            result.subset = images_.classes;
            return result;
        }
        result.metrics = evaluate_on(test);
        result.class_names = distinct_names(test.class_names, test.class_ids);
        if (has_both_halves(test)) result.halves = evaluate_halves(test);
        return result;
    }

    /// Accuracy on both halves of labelled images' classes, which need not be those of the training.
    BaseNew evaluate_halves(const Dataset& data) {
        return {evaluate_on(select_subset(data, ClassSubset::base)).accuracy,
                evaluate_on(select_subset(data, ClassSubset::novel)).accuracy};
    }

    /// Results among all classes of labelled images, which need not be those of the training.
    Metrics evaluate_on(const Dataset& data) {
        const auto trainer = trainer_of(evaluation_texts(clip(), spec_.recipe, spec_.context, data.class_names));
        return evaluate_learner(device_, *trainer, data, spec_.loop.preprocessing, spec_.evaluation_batch);
    }

    /// The learned prompts under the published checkpoint's names.
    void write_prompts(const std::string& path) const {
        TensorMap out;
        learner_->params().save(out);
        out.metadata["format"] = "promptkd.prompts";
        out.metadata["learner"] = spec_.learner;
        out.metadata["ctx_init"] = spec_.context.words;
        out.metadata["config"] = json_text(spec_.loop.identity);
        write_safetensors(path, out);
    }

private:
    /// All epochs, and the choice of the best one where images are held out for it.
    void run_loop(Trainable& pipeline, const TrainingLoopConfig& loop, TrainingOutcome& outcome) {
        if (spec_.data.validation == 0) {
            outcome.training = TrainingLoop(pipeline, images_.train, loop).run();
            return;
        }
        BestEpoch best(pipeline, [this] { return validation_accuracy(); });
        outcome.training = TrainingLoop(best, images_.train, loop).run();
        if (outcome.training.interrupted) return;
        const bool back = best.select();
        outcome.selection = EpochSelection{back ? best.best_epoch() + 1 : loop.schedule.max_epoch,
                                           loop.schedule.max_epoch, best.best_score(), images_.validation.size()};
    }

    /// The names that are learned with: those of the classes, or a vocabulary.
    const std::vector<std::string>& learned_names() const {
        return spec_.knowledge.names.empty() ? images_.train.class_names : spec_.knowledge.names;
    }

    void load_teacher() {
        const bool open = !spec_.knowledge.names.empty();
        require(!open || (!spec_.context.class_specific && spec_.data.validation == 0),
                "a vocabulary of names goes with no contexts of single classes, and with no choice of an epoch");
        teachers_.emplace(device_, spec_.knowledge.teacher,
                          ClassTexts{learned_names(), spec_.context.hand_written, spec_.vocabulary}, observer_);
    }

    /// Teacher logits on the student's scale, of the names that count.
    KnowledgeOptions knowledge() const {
        KnowledgeOptions options;
        options.max_batch = spec_.loop.batch;
        options.factor = model_.logit_scale() / teachers_->model().logit_scale();
        options.top = spec_.knowledge.top;
        return options;
    }

    /// Of a training by steps, as many epochs as they take.
    void complete_epochs() {
        TrainingLoopConfig& loop = spec_.loop;
        if (loop.schedule.max_epoch > 0 || loop.max_steps <= 0) return;
        const Index each = std::max<Index>(1, images_.train.size() / std::max<Index>(1, loop.batch));
        loop.schedule.max_epoch = (loop.max_steps + each - 1) / each;
    }

    /// Throws Error naming the learners that fit when visual prompts have no block to stand in.
    void require_blocks() const {
        if (spec_.recipe.visual == 0 || model_.vision().layers() > 0) return;
        std::string fitting;
        for (const LearnerInfo& info : learners())
            if (info.published(16).visual == 0 && info.published(16).text > 0)
                fitting += (fitting.empty() ? "" : ", ") + info.name;
        fail(model_.source(), ": a ModifiedResNet has no transformer blocks for the visual prompts of ",
             find_learner(spec_.learner).title, "; learners that prompt the text branch alone: ", fitting);
    }

    /// Fingerprints of everything that the result is made of.
    nlohmann::json inputs() const {
        const std::string root = parse_data_spec(spec_.data.source).root;
        nlohmann::json all = images_identity(images_.train, root, spec_.data.verify);
        all["weights"] = weights_identity(map_);
        if (!spec_.vocabulary.empty()) all["vocabulary"] = fingerprint(spec_.vocabulary);
        if (teachers_) teachers_->add_inputs(all);
        return all;
    }

    double validation_accuracy() {
        return evaluate_learner(device_, *trainer_, images_.validation, spec_.loop.preprocessing,
                                spec_.evaluation_batch)
            .accuracy;
    }

    FrozenClip<D> clip() { return {device_, model_, &tokenizer_}; }

    std::unique_ptr<LearnerTrainer<D>> trainer_of(const LearnerTexts<T>& texts) {
        TrainerOptions<D> options;
        options.optimizer = spec_.optimizer;
        options.max_batch = std::max(spec_.loop.batch, spec_.evaluation_batch);
        options.class_chunk = spec_.class_chunk;
        return make_trainer(spec_.learner, clip(), *learner_, texts, spec_.recipe, options);
    }

    D& device_;
    Observer& observer_;
    TrainingSpec spec_;
    Tokenizer tokenizer_;
    TensorMap map_;
    ClipModel<D> model_;
    FewShotImages images_;
    std::optional<TeacherSet<D>> teachers_;  ///< whom it imitates
    std::unique_ptr<PromptLearner<D>> learner_;
    std::unique_ptr<LearnerTrainer<D>> trainer_;
};

/// Trains as `spec` says: into its output folder log.jsonl, log.csv, checkpoint/ and prompts.safetensors, and results
/// on the test images. An interrupted run leaves log and checkpoint alone.
template <Device D>
LearnerOutcome run(D& device, const TrainingSpec& spec, Observer& observer = silent_observer()) {
    const std::string& out = spec.loop.out;
    std::shared_ptr<const FolderLock> lock;  // before the long part: a folder that cannot be written is an early error
    if (!out.empty()) {
        lock = FolderLock::acquire(out);
        require_writable(out + "/prompts.safetensors");
    }
    TrainingRun<D> session(device, spec, observer);
    const std::optional<Dataset> test = session.open_test();
    LearnerOutcome outcome;
    static_cast<TrainingOutcome&>(outcome) = session.train();
    if (outcome.training.interrupted) return outcome;
    if (!out.empty()) {
        outcome.prompts = out + "/prompts.safetensors";
        session.write_prompts(outcome.prompts);
    }
    if (test) outcome.evaluation = session.evaluate(*test);
    return outcome;
}

PROMPTKD_COMPILED_FUNCTION(LearnerOutcome run(Cpu<float>&, const TrainingSpec&, Observer&));

}  // namespace promptkd
