// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/peft.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/distill/run.hpp>
#include <promptkd/experiment/adapted/best_stage.hpp>
#include <promptkd/experiment/adapted/budget.hpp>
#include <promptkd/experiment/closed_form/mixture_stage.hpp>
#include <promptkd/experiment/evaluation.hpp>
#include <promptkd/experiment/finished_student.hpp>
#include <promptkd/experiment/student_encoder.hpp>
#include <promptkd/format/folder_lock.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/train/selection.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace promptkd {

/// One distillation on a device, step by step: construct, train(), then evaluate() what is to be evaluated and
/// write_bundle(). run() does all of it.
template <Device D>
class DistillationRun {
public:
    using T = typename D::Scalar;

    /// Loads models and data. With several `ranks` each trains and evaluates on its share of the images, and rank 0
    /// writes. Device and observer must outlive this. Throws Error for what does not fit together.
    DistillationRun(D& device, const DistillationSpec& spec, Observer& observer = silent_observer(),
                    const Ranks<D>& ranks = {})
        : setup_(device, spec, observer, ranks),
          mixture_(setup_),
          adapted_(setup_),
          crossed_(setup_, adapted_),
          best_(setup_, adapted_, crossed_) {
        build_student();
        if (!spec.loop.out.empty() && !spec.in_closed_form()) setup_.spec.loop.inputs = setup_.inputs();
    }

    DistillationRun(const DistillationRun&) = delete;
    DistillationRun& operator=(const DistillationRun&) = delete;

    /// The classes, in label order.
    const std::vector<std::string>& class_names() const { return setup_.images.train.class_names; }
    /// What the student's features are compared with.
    const std::vector<T>& class_vectors() const { return setup_.vectors; }
    /// What the student learns from.
    const Dataset& training_data() const { return setup_.images.train; }
    /// The labelled images to evaluate on, where there are any.
    const std::optional<Dataset>& evaluation_data() const { return setup_.evaluation; }
    /// The first teacher's model.
    const ClipModel<D>& teacher_model() const { return setup_.teachers.model(); }
    /// What is trained.
    Student<D>& student() { return *student_; }

    /// Throws Error where the output folder holds another run's student, see promptkd::require_own_folder().
    void require_own_folder() const { promptkd::require_own_folder(setup_.spec, setup_.fingerprint); }

    /// The whole training, or the fit in closed form.
    TrainingOutcome train() {
        if (setup_.spec.in_closed_form()) {
            write_settings();
            return mixture_.fit(*student_);
        }
        TrainingOutcome outcome;
        if (!setup_.spec.is_mixed() && !setup_.spec.is_best())
            warn_of_few_images(setup_.images.train.size(), adapted_.is_used(), setup_.observer);
        outcome.images = setup_.images.train.size();
        outcome.classes = setup_.images.train.classes();
        TrainingLoopConfig loop = setup_.spec.loop;
        const bool chooses = chooses_steps(loop);
        Index steps = count_steps(loop, outcome.images);
        setup_.observer.on_start({outcome.images, outcome.classes, student_->params().size(), steps});
        TrainingStage stage("distil", steps, setup_.observer);
        loop = stage.connect(loop, outcome.images, setup_.spec.fresh);
        write_settings();
        if (setup_.spec.is_best()) best_.prepare();
        if (adapted_.is_used()) adapted_.encode();
        if (setup_.spec.is_best()) best_.fit_others();
        const std::unique_ptr<TeacherSource<D>> source = target_source();
        require_fits(*distiller_, *source);
        share(loop, *source);
        StepOptions how;
        how.batch = own_batch();
        how.micro_batches = setup_.spec.micro_batches;
        how.record = setup_.spec.graph;
        outcome.training.interrupted = crossed_.is_used() && !crossed_.run(*distiller_, loop, how);
        if (outcome.training.interrupted) return outcome;
        DistillationPipeline<D> pipeline(*distiller_, *source, loop.preprocessing, how);
        if (chooses) stage.shorten(loop.max_steps = steps_of_budget(pipeline, loop));
        stage.begin();
        run_loop(pipeline, loop, outcome);
        if (outcome.training.interrupted) return outcome;
        stage.end();
        compare();
        return outcome;
    }

    /// Normalised features of `data` by the student in evaluation mode; `stage` is the observer's name for it.
    FeatureSet<T> features(const Dataset& data, const std::string& stage = "evaluate") {
        detail::StudentEncoder<D> encoder(setup_.device, *student_, setup_.spec.evaluation_batch);
        return encode_images(setup_.device, encoder, data, {stage, setup_.spec.evaluation_batch, setup_.observer},
                             setup_.ranks);
    }

    /// The student's results on labelled images of its classes: of one half, or where `subset` is empty of all classes
    /// and both halves.
    EvaluationResult evaluate(const Dataset& data, const std::string& stage = "evaluate",
                              std::optional<ClassSubset> subset = {}) {
        require(data.classes() == setup_.images.train.classes(), data.name, " has ", data.classes(),
                " classes, the student ", setup_.images.train.classes());
        if (mixture_.mixture()) return mixture_.evaluate(*student_, data, stage, subset);
        if (best_.mixture()) return best_.evaluate(*student_, {data, stage, subset});
        return evaluate_features(setup_.device, features(data, stage), setup_.vectors,
                                 distinct_names(data.class_names, data.class_ids), subset);
    }

    /// How the student was fitted in closed form, once it is.
    const std::optional<ClosedFormSummary>& closed_form() const { return mixture_.closed_form(); }
    /// How far the student is trusted beside its zero-shot self, once that is known.
    const std::optional<MixtureSummary>& mixture() const { return mixture_.summary(); }

    /// The file of sums that a fit in closed form left in the place of a student; empty: there is a student.
    const std::string& sums() const { return mixture_.sums(); }
    /// What the three students of a best fit are worth, once they are fitted.
    const std::optional<BestFitSummary>& best() const { return best_.summary(); }

    /// Writes the student's bundle (rank 0 alone).
    void write_bundle(const std::string& path) const {
        if (!setup_.ranks.is_root()) return;
        BundleParts parts = bundle_parts(*student_, setup_.student_map, setup_.vectors, class_names(),
                                         {{"targets", setup_.fingerprint},
                                          {"data", setup_.spec.data.source},
                                          {"config", student_recipe(setup_.spec.loop.identity)}});
        if (mixture_.mixture()) parts.mixture = *mixture_.mixture();
        if (best_.mixture()) parts.mixture = *best_.mixture();
        if (setup_.spec.adapted.merge_lora) merge_lora(parts);
        write_safetensors(path, make_bundle(parts));
    }

private:
    /// Images of a step in this process.
    Index own_batch() const { return slice_of(setup_.spec.loop.batch, setup_.ranks.rank(), setup_.ranks.size()).count; }

    /// What every training ends with: the student is mixed with others or compared with its frozen self, and the
    /// observer told what there is to be warned of.
    void compare() {
        if (setup_.spec.is_mixed()) return mixture_.add(*student_);
        if (!adapted_.is_used()) return mixture_.compare(*student_);
        const Index all = static_cast<Index>(adapted_.pairs().images.size());
        if (setup_.spec.is_best()) {
            best_.fit(*student_);
            return mixture_.tell_of_teacher(best_.look(), {all, all}, best_.student_text());
        }
        const std::vector<double> text = mixture_.text_to_compare();
        if (!text.empty()) mixture_.tell_alone(adapted_.compare(*student_, text), {all, all}, text);
    }

    void build_student() {
        require(setup_.spec.loop.batch >= setup_.ranks.size(), "a batch of ", setup_.spec.loop.batch,
                " is too small for ", setup_.ranks.size(), " processes: each must get an image of every batch");
        require(setup_.ranks.alone() || setup_.spec.micro_batches == 1,
                "several processes divide a batch already: it cannot be worked through in parts too");
        StudentConfig shape = setup_.spec.shape;
        shape.embed = static_cast<Index>(setup_.vectors.size() / class_names().size());
        const std::optional<TensorMap> start = starting_values(shape);
        student_.emplace(setup_.device, setup_.student_model, shape,
                         std::max(own_batch(), setup_.spec.evaluation_batch));
        if (setup_.spec.in_closed_form()) return;
        initialize_student(start);
        const bool close = setup_.spec.loss.stay_close > 0;
        const bool to_logits = setup_.spec.loss.stay_close_to == StayCloseTo::logits;
        require(!close || to_logits || shape.prompts > 0 || shape.training != EncoderTraining::frozen,
                "staying close to the encoder's features has no effect without prompts: that encoder never changes");
        require_parts(own_batch(), setup_.spec.micro_batches);
        ClassVectors<T> vectors{setup_.vectors, {}};
        if (close && to_logits) vectors.own = setup_.own_text_features();
        DistillerOptions<D> options;
        options.max_batch = own_batch() / setup_.spec.micro_batches;
        options.parallel = DataParallel<D>{setup_.ranks, setup_.spec.loop.batch, setup_.spec.local_batch_norm};
        distiller_.emplace(*student_, vectors, setup_.spec.loss, options);
    }

    /// Initial values from a file, where there is one; low-rank updates have its form.
    std::optional<TensorMap> starting_values(StudentConfig& shape) {
        if (setup_.spec.init.empty()) return std::nullopt;
        TensorMap start = load_tensors(setup_.spec.init, setup_.observer);
        if (is_peft_adapter(start)) start = read_peft_adapter(start);
        if (is_bundle(start) && has_trained_encoder(start) && !lora_config(start)) take_encoder(start, shape);
        require(classify_weights(start) != WeightsKind::clip, start.source,
                ": a CLIP model, not initial prompts and projector of a student");
        if (const std::optional<LoraConfig> lora = lora_config(start)) {
            require(shape.training == EncoderTraining::lora, start.source,
                    ": holds low-rank updates (LoRA), which only a student adapted with LoRA has");
            shape.lora = *lora;
        }
        return start;
    }

    /// The encoder of a student that had it trained, without which its prompts and projector are of no use.
    static void take_encoder(TensorMap& start, const StudentConfig& shape) {
        require(shape.training == EncoderTraining::full, start.source,
                ": a student whose image encoder was trained too; only one whose whole encoder is trained can begin "
                "with it");
        const BundleParts parts = read_bundle(start);
        for (const TensorMap* from : {&parts.clip, &parts.learned})  // that of a mixture's adapted student comes last
            for (const auto& [name, tensor] : from->tensors)
                if (schema::is_image_weight(name)) start.tensors[name] = tensor;
    }

    void initialize_student(const std::optional<TensorMap>& start) {
        student_->initialize(setup_.spec.loop.seed);
        if (!start) return;
        if (lora_config(*start) && !start->contains(projector_name(0, "weight"))) return student_->load_updates(*start);
        student_->load(*start, start->contains("init." + projector_name(0, "weight")) ? "init." : "");
    }

    std::unique_ptr<TeacherSource<D>> target_source() const {
        if (adapted_.is_used())
            if (auto asked = adapted_.targets(adapted_.learned(), setup_.spec.loop.batch)) return asked;
        const Index batch = setup_.spec.loop.batch;
        if (setup_.stored) return std::make_unique<StoredTargets<D>>(setup_.device, setup_.stored->table, batch);
        if (setup_.spec.loop.fixed_views)  // one view of each image: the teacher is asked once
            return std::make_unique<StoredTargets<D>>(
                setup_.device,
                teacher_targets(setup_.device, setup_.spec, setup_.spec.loop, setup_.images.train, setup_.teachers,
                                {setup_.observer}),
                batch);
        return setup_.teachers.live(setup_.device, given_by_teachers(setup_.spec.loss.kd), batch);
    }

    /// What concerns this process among the others.
    void share(TrainingLoopConfig& loop, TeacherSource<D>& source) {
        loop.rank = setup_.ranks.rank();
        loop.ranks = setup_.ranks.size();
        loop.meet = [this](Index step) { meet(step); };
        loop.interrupted = [this, asked = Index{0}]() mutable { return is_interrupted(asked++); };
        loop.should_stop = [this](const Progress&) { return of_rank_0(setup_.observer.wants_stop() ? 1 : 0) != 0; };
        loop.further = source.further_inputs(loop.preprocessing);
    }

    /// Trains, and goes back to the best epoch or check where there was a choice.
    void run_loop(DistillationPipeline<D>& pipeline, const TrainingLoopConfig& loop, TrainingOutcome& outcome) {
        const Dataset& images = setup_.images.train;
        if (adapted_.is_used()) {
            const Index steps = count_steps(loop, outcome.images);
            BestCheck best(pipeline,
                           crossed_.is_used() ? crossed_.judged(*student_, steps) : adapted_.judged(*student_), steps,
                           setup_.spec.adapted.checks);
            outcome.training = TrainingLoop(best, images, loop).run();
            if (outcome.training.interrupted) return;
            best.select();
            outcome.check = chosen_check(best);
            explain(*outcome.check, setup_.observer);
        } else if (setup_.spec.data.validation == 0) {
            outcome.training = TrainingLoop(pipeline, images, loop).run();
        } else {
            BestEpoch best(pipeline, [this] { return validation_accuracy(); });
            outcome.training = TrainingLoop(best, images, loop).run();
            if (outcome.training.interrupted) return;
            best.select();
            outcome.selection = EpochSelection{best.best_epoch() + 1, loop.schedule.max_epoch, best.best_score(),
                                               setup_.images.validation.size()};
        }
    }

    /// Which check is kept, and what students like it are worth.
    CheckSelection chosen_check(const BestCheck& best) const {
        CheckSelection check{best.best(), static_cast<Index>(best.checks().size()),
                             static_cast<Index>(adapted_.held_rows().size()),
                             static_cast<Index>(adapted_.folds().size())};
        if (crossed_.is_used()) check.best.score = crossed_.divergence();
        return check;
    }

    /// Whether the number of steps is still to be chosen for a budget; an interrupted run has chosen it.
    bool chooses_steps(TrainingLoopConfig& loop) const {
        if (setup_.spec.adapted.budget_seconds <= 0) return false;
        if (const auto chosen = setup_.spec.fresh ? std::nullopt : detail::chosen_steps(loop.out)) {
            loop.max_steps = *chosen;
            return false;
        }
        return true;
    }

    /// The number of steps that fits the budget, after some timed ones.
    Index steps_of_budget(DistillationPipeline<D>& pipeline, const TrainingLoopConfig& loop) {
        const Dataset& images = setup_.images.train;
        const double each = detail::seconds_of_step(pipeline, images, loop);
        const double budget = setup_.spec.adapted.budget_seconds;
        const double left = budget - std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
        const Index steps = of_rank_0(steps_within(budget, left, each, count_steps(loop, images.size())));
        if (setup_.ranks.is_root()) detail::keep_steps(loop.out, steps);
        setup_.observer.on_note(concat("a step takes ", each, " s: ", steps, " steps fit the budget"));
        return steps;
    }

    /// Accuracy among all classes on the images held out.
    double validation_accuracy() {
        detail::StudentEncoder<D> encoder(setup_.device, *student_, setup_.spec.evaluation_batch);
        EvaluationOptions options;
        options.batch = setup_.spec.evaluation_batch;
        const FeatureSet<T> set = collect_features(setup_.device, encoder, setup_.images.validation, options);
        return evaluate_subset(setup_.device, set, setup_.vectors, setup_.images.train.classes(), ClassSubset::all)
            .accuracy;
    }

    /// `value` as rank 0 has it.
    std::int64_t of_rank_0(std::int64_t value) {
        if (setup_.ranks.alone()) return value;
        Buffer<D, std::int64_t> shared(setup_.device, std::vector<std::int64_t>{value});
        setup_.ranks.broadcast(setup_.device, shared.data(), sizeof(std::int64_t));
        return shared.to_host().front();
    }

    /// Whether any rank is interrupted, on all of them at once. To ask a GPU costs the wait for it: now and then is
    /// often enough.
    bool is_interrupted(Index asked) {
        const bool mine = setup_.observer.is_interrupted();
        if (setup_.ranks.alone()) return mine;
        constexpr bool on_host = requires { requires D::host_memory; };
        if (!on_host && asked % 16 != 0) return false;
        Buffer<D, T> count(setup_.device, std::vector<T>{mine ? T{1} : T{0}});
        setup_.ranks.all_reduce_sum(setup_.device, count.data(), 1);
        return count.to_host().front() > 0;
    }

    /// Waits until every rank has read the checkpoint, and makes sure that all have read the same.
    void meet(Index step) {
        const Index leaders = of_rank_0(step);
        require(leaders == step, "process ", setup_.ranks.rank(), " would begin at step ", step, ", process 0 at step ",
                leaders, ": they see different files in ", setup_.spec.loop.out);
        setup_.ranks.barrier(setup_.device);
    }

    /// The settings beside the results, once it is known that the output folder is this run's.
    void write_settings() const {
        const std::string out = setup_.spec.folder();
        if (out.empty() || !setup_.ranks.is_root()) return;
        make_directories(out);
        write_atomically(out + "/config.json", json_text(setup_.spec.settings, 2) + "\n");
    }

    DistillationSetup<D> setup_;
    MixtureStage<D> mixture_;
    AdaptedStage<D> adapted_;
    CrossFitting<D> crossed_;
    BestStage<D> best_;
    std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
    std::optional<Student<D>> student_;
    std::optional<Distiller<D>> distiller_;
};

/// Removes the features that a fit in closed form kept in its folder: once there is a student, and in a fresh start,
/// they are of no use. Those of a cache stay, and those of shards that are merged.
inline void remove_features(const DistillationSpec& spec) {
    if (!spec.in_closed_form() || spec.scale.merge || !spec.scale.features_cache.empty()) return;
    std::error_code code;
    if (!spec.folder().empty()) std::filesystem::remove_all(spec.folder() + "/features", code);
}

/// Distils as `spec` says: into its output folder log.jsonl, log.csv, checkpoint/, config.json and bundle.safetensors,
/// and results where there are labelled images to test on. An interrupted run leaves log and checkpoint alone.
template <Device D>
DistillationOutcome run(D& device, const DistillationSpec& spec, Observer& observer = silent_observer(),
                        const Ranks<D>& ranks = {}) {
    const std::string out = spec.folder();
    std::shared_ptr<const FolderLock> lock;  // before the long part: a folder that cannot be written is an early error
    if (!out.empty() && ranks.is_root()) {
        lock = FolderLock::acquire(out);
        require_writable(out + "/bundle.safetensors");
    }
    DistillationRun<D> session(device, spec, observer, ranks);
    session.require_own_folder();
    if (spec.fresh && ranks.is_root()) remove_features(spec);
    ranks.barrier(device);
    DistillationOutcome outcome;
    static_cast<TrainingOutcome&>(outcome) = session.train();
    if (outcome.training.interrupted) return outcome;
    outcome.closed_form = session.closed_form();
    outcome.mixture = session.mixture();
    outcome.best = session.best();
    outcome.sums = session.sums();
    if (!outcome.sums.empty()) return outcome;
    if (!out.empty()) {
        outcome.bundle = out + "/bundle.safetensors";
        session.write_bundle(outcome.bundle);
        if (ranks.is_root()) remove_features(spec);
    }
    if (session.evaluation_data()) outcome.evaluation = session.evaluate(*session.evaluation_data());
    return outcome;
}

PROMPTKD_COMPILED_FUNCTION(DistillationOutcome run(Cpu<float>&, const DistillationSpec&, Observer&,
                                                   const Ranks<Cpu<float>>&));

}  // namespace promptkd
