// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/distill/run.hpp>
#include <promptkd/evaluate/bundle.hpp>
#include <promptkd/experiment/evaluation.hpp>
#include <promptkd/experiment/teacher_targets.hpp>
#include <promptkd/train/selection.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// A student in evaluation mode, planned for `batch` images.
template <Device D>
class StudentEncoder {
public:
    using T = typename D::Scalar;

    StudentEncoder(D& device, Student<D>& student, Index batch)
        : student_(student), features_(device, batch * student.config().embed), arena_(device) {
        arena_.plan([&] { student.forward_inference(arena_, nullptr, batch, features_.data()); });
    }

    Index resolution() const { return student_.model().vision().resolution(); }
    Index embed() const { return student_.config().embed; }
    /// Normalised features (n, embed) of device images, valid until the next call.
    const T* encode(const T* images, Index n) {
        arena_.reset();
        student_.forward_inference(arena_, images, n, features_.data());
        return features_.data();
    }

private:
    Student<D>& student_;
    Buffer<D, T> features_;
    Arena<D> arena_;
};

}  // namespace detail

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
        : device_(device),
          observer_(observer),
          ranks_(ranks),
          spec_(spec),
          images_(spec.data, spec.loop, observer),
          texts_(spec.texts(images_.train.class_names)),
          student_map_(load_weights(spec.student, observer)),
          student_model_(device, detail::image_branch(student_map_)),
          teachers_(device, spec.teacher, texts_, resolution(), observer) {
        if (spec_.loop.identity.empty()) spec_.loop.identity = derived_identity(spec);
        if (spec_.settings.is_null()) spec_.settings = spec_.loop.identity;
        spec_.loop.resolution = resolution();
        spec_.loop.batch = whole_batch(spec_.loop, images_.train.size(), observer);
        warn_of_warm_up(spec_.loop, images_.train.size(), observer);
        evaluation_ = open_evaluation(spec.data, images_, observer);
        open_stored_targets();
        choose_vectors();
        build_student();
    }

    /// The classes, in label order.
    const std::vector<std::string>& class_names() const { return images_.train.class_names; }
    /// What the student's features are compared with.
    const std::vector<T>& class_vectors() const { return vectors_; }
    /// What the student learns from.
    const Dataset& training_data() const { return images_.train; }
    /// The labelled images to evaluate on, where there are any.
    const std::optional<Dataset>& evaluation_data() const { return evaluation_; }
    /// The first teacher's model.
    const ClipModel<D>& teacher_model() const { return teachers_.model(); }
    /// What is trained.
    Student<D>& student() { return *student_; }

    /// The whole training.
    TrainingOutcome train() {
        TrainingOutcome outcome;
        outcome.images = images_.train.size();
        outcome.classes = images_.train.classes();
        const Index steps = count_steps(spec_.loop, outcome.images);
        observer_.on_start({outcome.images, outcome.classes, student_->params().size(), steps});
        TrainingStage stage("distil", steps, observer_);
        TrainingLoopConfig loop = stage.connect(spec_.loop, spec_.fresh);
        write_settings();
        loop.rank = ranks_.rank();
        loop.ranks = ranks_.size();
        loop.meet = [this](Index step) { meet(step); };
        loop.should_stop = [this](const Progress&) { return of_rank_0(observer_.wants_stop() ? 1 : 0) != 0; };
        const std::unique_ptr<TeacherSource<D>> source = target_source();
        require_fits(*distiller_, *source);
        StepOptions how;
        how.batch = own_batch();
        how.micro_batches = spec_.micro_batches;
        how.record = spec_.graph;
        DistillationPipeline<D> pipeline(*distiller_, *source, loop.resolution, how);
        if (spec_.data.validation == 0) {
            outcome.training = TrainingLoop(pipeline, images_.train, loop).run();
        } else {
            BestEpoch best(pipeline, [this] { return validation_accuracy(); });
            outcome.training = TrainingLoop(best, images_.train, loop).run();
            best.select();
            outcome.selection = EpochSelection{best.best_epoch() + 1, loop.schedule.max_epoch, best.best_score(),
                                               images_.validation.size()};
        }
        stage.end();
        return outcome;
    }

    /// Normalised features of `data` by the student in evaluation mode; `stage` is the observer's name for it.
    FeatureSet<T> features(const Dataset& data, const std::string& stage = "evaluate") {
        detail::StudentEncoder<D> encoder(device_, *student_, spec_.evaluation_batch);
        return encode_images(device_, encoder, data, {stage, spec_.evaluation_batch, observer_}, ranks_);
    }

    /// The student's results on labelled images of its classes: of one half, or where `subset` is empty of all classes
    /// and both halves.
    EvaluationResult evaluate(const Dataset& data, const std::string& stage = "evaluate",
                              std::optional<ClassSubset> subset = {}) {
        require(data.classes() == images_.train.classes(), data.name, " has ", data.classes(), " classes, the student ",
                images_.train.classes());
        return evaluate_features(device_, features(data, stage), vectors_,
                                 distinct_names(data.class_names, data.class_ids), subset);
    }

    /// Writes the student's bundle (rank 0 alone).
    void write_bundle(const std::string& path) const {
        if (!ranks_.is_root()) return;
        promptkd::write_bundle(
            path, *student_, student_map_, vectors_, class_names(),
            {{"targets", fingerprint_}, {"data", spec_.data.source}, {"config", student_recipe(spec_.loop.identity)}});
    }

private:
    Index resolution() const { return student_model_.vision().resolution(); }
    /// Images of a step in this process.
    Index own_batch() const { return slice_of(spec_.loop.batch, ranks_.rank(), ranks_.size()).count; }

    std::vector<T> own_text_features() const {
        return text_features(device_, ClipModel<D>(device_, student_map_), texts_, nullptr);
    }

    /// Says what the targets belong to; stored ones must be this run's.
    void open_stored_targets() {
        fingerprint_ = fingerprint_of(spec_, spec_.loop, images_.train, teachers_);
        const std::string& path = spec_.stored_targets;
        if (path.empty()) {
            require(!teachers_.empty(), "a distillation needs a teacher, or stored targets of one");
            return;
        }
        stored_ = read_targets(path);
        require_same_names(*stored_, class_names(), path);
        require_same_fingerprint(stored_->fingerprint, fingerprint_, path);
        const bool features = spec_.loss.kd != KdLoss::logits;
        require(stored_->features == features, path, ": holds the teacher's ",
                stored_->features ? "features" : "logits", ", but this loss needs its ",
                features ? "features" : "logits", "; write the targets anew for it");
        require(stored_->table.views >= count_views(spec_.loop), path, ": holds the views of ", stored_->table.views,
                " epochs, this run has ", count_views(spec_.loop));
        fingerprint_ = stored_->fingerprint;
    }

    /// Decides what the student is compared with.
    void choose_vectors() {
        const Index classes = images_.train.classes();
        if (spec_.own_text)
            vectors_ = own_text_features();
        else if (!spec_.teacher.class_vectors.empty())
            vectors_ = load_class_vectors(spec_.teacher.class_vectors, classes, 0, observer_).template to<T>();
        else
            vectors_ = stored_ ? stored_->class_vectors.template to<T>() : teachers_.class_vectors();
        require(vectors_.size() % class_names().size() == 0, "class vectors: ", vectors_.size(), " values for ",
                classes, " classes");
    }

    void build_student() {
        require(spec_.loop.batch >= ranks_.size(), "a batch of ", spec_.loop.batch, " is too small for ", ranks_.size(),
                " processes: each must get an image of every batch");
        require(ranks_.alone() || spec_.micro_batches == 1,
                "several processes divide a batch already: it cannot be worked through in parts too");
        StudentConfig shape = spec_.shape;
        shape.embed = static_cast<Index>(vectors_.size() / class_names().size());
        student_.emplace(device_, student_model_, shape, std::max(own_batch(), spec_.evaluation_batch));
        initialize_student();
        const bool close = spec_.loss.stay_close > 0;
        const bool to_logits = spec_.loss.stay_close_to == StayCloseTo::logits;
        require(!close || to_logits || shape.prompts > 0 || shape.train_encoder,
                "staying close to the encoder's features has no effect without prompts: that encoder never changes");
        require_parts(own_batch(), spec_.micro_batches);
        ClassVectors<T> vectors{vectors_, {}};
        if (close && to_logits) vectors.own = own_text_features();
        DistillerOptions<D> options;
        options.max_batch = own_batch() / spec_.micro_batches;
        options.parallel = DataParallel<D>{ranks_, spec_.loop.batch, spec_.local_batch_norm};
        distiller_.emplace(*student_, vectors, spec_.loss, options);
    }

    void initialize_student() {
        if (spec_.init.empty()) return student_->initialize(spec_.loop.seed);
        const TensorMap start = load_tensors(spec_.init, observer_);
        student_->load(start, start.contains("init." + projector_name(0, "weight")) ? "init." : "");
    }

    std::unique_ptr<TeacherSource<D>> target_source() const {
        const Index batch = spec_.loop.batch;
        if (stored_) return std::make_unique<StoredTargets<D>>(device_, stored_->table, batch);
        if (spec_.loop.fixed_views)  // one view of each image: the teacher is asked once
            return std::make_unique<StoredTargets<D>>(
                device_, teacher_targets(device_, spec_, spec_.loop, images_.train, teachers_, observer_), batch);
        auto live = std::make_unique<LiveTeachers<D>>(device_, given_by_teachers(spec_.loss.kd), batch);
        teachers_.add_to(*live);
        return live;
    }

    /// Accuracy among all classes on the images held out.
    double validation_accuracy() {
        detail::StudentEncoder<D> encoder(device_, *student_, spec_.evaluation_batch);
        EvaluationOptions options;
        options.batch = spec_.evaluation_batch;
        const FeatureSet<T> set = collect_features(device_, encoder, images_.validation, options);
        return evaluate_subset(device_, set, vectors_, images_.train.classes(), ClassSubset::all).accuracy;
    }

    /// `value` as rank 0 has it.
    std::int64_t of_rank_0(std::int64_t value) {
        if (ranks_.alone()) return value;
        Buffer<D, std::int64_t> shared(device_, std::vector<std::int64_t>{value});
        ranks_.broadcast(device_, shared.data(), sizeof(std::int64_t));
        return shared.to_host().front();
    }

    /// Waits until every rank has read the checkpoint, and makes sure that all have read the same.
    void meet(Index step) {
        const Index leaders = of_rank_0(step);
        require(leaders == step, "process ", ranks_.rank(), " would begin at step ", step, ", process 0 at step ",
                leaders, ": they see different files in ", spec_.loop.out);
        ranks_.barrier(device_);
    }

    /// The settings beside the results, once it is known that the output folder is this run's.
    void write_settings() const {
        if (spec_.loop.out.empty() || !ranks_.is_root()) return;
        make_directories(spec_.loop.out);
        write_atomically(spec_.loop.out + "/config.json", spec_.settings.dump(2) + "\n");
    }

    D& device_;
    Observer& observer_;
    Ranks<D> ranks_;
    DistillationSpec spec_;
    DistillationImages images_;
    ClassTexts texts_;
    TensorMap student_map_;
    ClipModel<D> student_model_;
    TeacherSet<D> teachers_;
    std::optional<StoredTargetsFile> stored_;
    std::optional<Dataset> evaluation_;
    Fingerprint fingerprint_;  ///< what the targets belong to
    std::vector<T> vectors_;
    std::optional<Student<D>> student_;
    std::optional<Distiller<D>> distiller_;
};

/// Distils as `spec` says: into its output folder log.jsonl, log.csv, checkpoint/, config.json and bundle.safetensors,
/// and results where there are labelled images to test on.
template <Device D>
DistillationOutcome run(D& device, const DistillationSpec& spec, Observer& observer = silent_observer(),
                        const Ranks<D>& ranks = {}) {
    const std::string& out = spec.loop.out;
    if (!out.empty()) make_directories(out);  // before the long part: a folder that cannot be written is an early error
    DistillationRun<D> session(device, spec, observer, ranks);
    DistillationOutcome outcome;
    static_cast<TrainingOutcome&>(outcome) = session.train();
    if (!out.empty()) {
        outcome.bundle = out + "/bundle.safetensors";
        session.write_bundle(outcome.bundle);
    }
    if (session.evaluation_data()) outcome.evaluation = session.evaluate(*session.evaluation_data());
    return outcome;
}

PROMPTKD_COMPILED_FUNCTION(DistillationOutcome run(Cpu<float>&, const DistillationSpec&, Observer&,
                                                   const Ranks<Cpu<float>>&));

}  // namespace promptkd
