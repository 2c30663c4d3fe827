// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "distill_job.hpp"

#include <promptkd/distill/run.hpp>
#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/train/selection.hpp>

#include <filesystem>

namespace promptkd::cli {

/// One distillation on a device: the models, the data and the run. Steps: construct, train(), then features() of what
/// is to be evaluated and write_student().
template <Device D>
class DistillSession {
public:
    using T = typename D::Scalar;

    /// With several `ranks` each trains and evaluates on its share of the images, and rank 0 writes.
    DistillSession(D& device, const DistillJob& job, const Ranks<D>& ranks = {})
        : device_(device),
          ranks_(ranks),
          job_(job),
          images_(job),
          student_map_(load_weights(job.student, weights_options())),
          student_model_(device, detail::image_branch(student_map_)),
          run_(job.run),
          teachers_(device, job.teacher, images_.train.class_names, job.pattern, job.vocab,
                    student_model_.vision().resolution()) {
        run_.resolution = student_model_.vision().resolution();
        open_evaluation();
        choose_vectors();
        build();
    }

    const std::vector<std::string>& class_names() const { return images_.train.class_names; }
    /// What the student's features are compared with.
    const std::vector<T>& class_vectors() const { return vectors_; }
    const ClipModel<D>& teacher_model() const { return teachers_.model(); }
    Student<D>& student() { return *student_; }
    const Dataset& training_data() const { return images_.train; }
    const TrainingLoopConfig& run_config() const { return run_; }

    /// Trains with progress on standard error.
    TrainingResult train(const std::function<void(const StepRecord&)>& on_step = {},
                         const std::function<void(const Progress&)>& on_epoch = {}) {
        TrainingLoopConfig run = run_;
        const Index batches = images_.train.size() / run.batch;
        const Index steps = run.max_steps > 0 ? std::min(run.max_steps, batches * run.schedule.max_epoch)
                                              : batches * run.schedule.max_epoch;
        run.resume = wants_resume(steps);
        if (ranks_.is_root()) write_config();
        run.rank = ranks_.rank(), run.ranks = ranks_.size();
        run.meet = [&](Index step) { meet(step); };
        ProgressLine line("distil", "steps", steps);
        Index first = -1;
        run.on_step = [&](const StepRecord& r) {
            if (first < 0) first = r.step;
            char note[64];
            std::snprintf(note, sizeof note, "epoch %lld, loss %.4f", static_cast<long long>(r.epoch + 1), r.loss);
            line.update(r.step + 1, note, first);
            if (on_step) on_step(r);
        };
        run.on_epoch = on_epoch;
        run.warn = [&](const std::string& text) {
            line.finish(), std::fprintf(stderr, "warning: skipped: %s\n", text.c_str());
        };
        const std::unique_ptr<TeacherSource<D>> source = target_source();
        require_fits(*distiller_, *source);
        StepOptions how;
        how.batch = own_batch();
        how.micro_batches = job_.micro_batches;
        how.record = job_.graph;
        DistillationPipeline<D> pipeline(*distiller_, *source, run.resolution, how);
        if (!job_.clean) return TrainingLoop(pipeline, images_.train, run).run();
        BestEpoch best(pipeline, [this] { return validation_accuracy(); });
        const TrainingResult result = TrainingLoop(best, images_.train, run).run();
        best.select();
        selection_ = {{"epoch", best.best_epoch() + 1},
                      {"epochs", run.schedule.max_epoch},
                      {"accuracy", best.best_score()},
                      {"images", images_.validation.size()}};
        return result;
    }

    /// Which epoch was chosen, on what; empty for the protocol "published".
    const nlohmann::json& selection() const { return selection_; }

    /// Normalised student features of `data` in evaluation mode.
    FeatureSet<T> features(const Dataset& data, const std::string& what) {
        return with_student([&](const auto& encode) {
            return features_with_progress(device_, ranks_, data, run_.resolution, student_->config().embed,
                                          job_.evaluation_batch, what, encode);
        });
    }

    /// The labelled images to evaluate on: --evaluate, else the test part of --data where it is labelled.
    const std::optional<Dataset>& evaluation_data() const { return evaluation_; }

    void write_student(const std::string& path) const {
        if (!ranks_.is_root()) return;
        nlohmann::json recipe = run_.identity;  // the files that the targets came through do not change a student
        for (const char* key : {"teacher", "teacher-prompts", "teacher-config", "teacher-logits", "class-vectors",
                                "int8-teacher", "vocab"})
            recipe.erase(key);
        write_bundle(path, *student_, student_map_, vectors_, class_names(),
                     {{"targets", targets_fingerprint_}, {"data", job_.data}, {"config", recipe}});
    }

private:
    WeightsOptions weights_options() const {
        WeightsOptions options;
        options.activation = job_.activation, options.config = job_.student_config;
        return options;
    }

    /// Before the training, so that a wrong --evaluate is not found out after it.
    void open_evaluation() {
        if (!job_.evaluation.empty()) {
            evaluation_ = open_dataset(job_.evaluation, Split::test, class_names(), FolderLabels::required);
            require(evaluation_->labelled(), job_.evaluation, ": --evaluate needs labelled images");
            return;
        }
        try {
            Dataset data = open_dataset(job_.data, Split::test, class_names());
            if (data.labelled()) evaluation_ = std::move(data);
        } catch (const Error& error) {  // nobody asked for an evaluation
            if (job_.output) job_.output->text() << "the student will not be evaluated: " << error.what() << std::endl;
        }
    }

    std::vector<T> own_text_features() const {
        return text_features(device_, ClipModel<D>(device_, student_map_), job_.student, nullptr, class_names(),
                             job_.pattern, job_.vocab);
    }

    /// Opens the stored targets, says what the targets belong to, and decides what the student is compared with.
    void choose_vectors() {
        const Index classes = static_cast<Index>(class_names().size());
        targets_fingerprint_ = fingerprint_of(job_, run_, images_.train, teachers_);
        if (!job_.stored.empty()) {
            stored_ = read_targets(job_.stored);
            require_same_names(*stored_, class_names(), job_.stored);
            require_same_fingerprint(stored_->fingerprint, targets_fingerprint_, job_.stored);
            const bool features = job_.loss.kd != KdLoss::logits;
            require(stored_->features == features, job_.stored, ": holds the teacher's ",
                    stored_->features ? "features" : "logits", ", but --kd needs its ",
                    features ? "features" : "logits", "; write them with promptkd teacher-logits --kd ",
                    features ? "mse" : "logits");
            require(stored_->table.views >= count_views(run_), job_.stored, ": holds the views of ",
                    stored_->table.views, " epochs, this run has ", count_views(run_));
            targets_fingerprint_ = stored_->fingerprint;
        }
        if (job_.own_text)
            vectors_ = own_text_features();
        else if (!job_.teacher.class_vectors.empty())
            vectors_ = read_class_vectors(job_.teacher.class_vectors, classes).template to<T>();
        else
            vectors_ = stored_ ? stored_->class_vectors.template to<T>() : teachers_.class_vectors();
        require(vectors_.size() % class_names().size() == 0, "class vectors: ", vectors_.size(), " values for ",
                classes, " classes");
    }

    /// Images of a step in this process.
    Index own_batch() const { return slice_of(run_.batch, ranks_.rank(), ranks_.size()).count; }

    /// Waits until every rank has read the checkpoint, and makes sure that all have read the same.
    void meet(Index step) {
        std::vector<std::int64_t> first{step};
        Buffer<D, std::int64_t> shared(device_, first);
        ranks_.broadcast(device_, shared.data(), sizeof(std::int64_t));
        const Index leaders = shared.to_host().front();
        require(leaders == step, "process ", ranks_.rank(), " would begin at step ", step, ", process 0 at step ",
                leaders, ": they see different files in ", run_.out);
        ranks_.barrier(device_);
    }

    void build() {
        require(run_.batch >= ranks_.size(), "--batch ", run_.batch, " is too small for ", ranks_.size(),
                " processes: each must get an image of every batch");
        require(ranks_.alone() || job_.micro_batches == 1,
                "under mpirun a batch is divided among the processes already: "
                "leave out --accumulate");
        StudentConfig shape = job_.shape;
        shape.embed = static_cast<Index>(vectors_.size() / class_names().size());
        student_.emplace(device_, student_model_, shape, std::max(own_batch(), job_.evaluation_batch));
        if (job_.init.empty()) {
            student_->initialize(run_.seed);
        } else {
            const TensorMap start = read_weights(job_.init);
            student_->load(start, start.contains("init.VPT_image_trans.conv1.0.weight") ? "init." : "");
        }
        const bool close = job_.loss.stay_close > 0, to_logits = job_.loss.stay_close_to == StayCloseTo::logits;
        require(!close || to_logits || shape.prompts > 0 || shape.train_encoder,
                "--stay-close-to features has no effect with --prompts 0: that encoder never changes");
        require_parts(own_batch(), job_.micro_batches);
        ClassVectors<T> vectors{vectors_, {}};
        if (close && to_logits) vectors.own = own_text_features();
        DistillerOptions<D> options;
        options.max_batch = own_batch() / job_.micro_batches;
        options.parallel = DataParallel<D>{ranks_, run_.batch, job_.local_batch_norm};
        distiller_.emplace(*student_, vectors, job_.loss, options);
    }

    std::unique_ptr<TeacherSource<D>> target_source() const {
        if (stored_) return std::make_unique<StoredTargets<D>>(device_, stored_->table, run_.batch);
        if (run_.fixed_views)  // one view of each image: the teacher is asked once
            return std::make_unique<StoredTargets<D>>(
                device_, make_targets(device_, job_, run_, images_.train, teachers_), run_.batch);
        auto live = std::make_unique<LiveTeachers<D>>(device_, given_by_teachers<D>(job_.loss.kd), run_.batch);
        teachers_.add_to(*live);
        return live;
    }

    /// use(encode), where encode(images, n) gives the student's features in evaluation mode.
    template <class Use>
    auto with_student(const Use& use) {
        Buffer<D, T> out(device_, job_.evaluation_batch * student_->config().embed);
        Arena<D> arena(device_);
        {
            PlanningScope<D> planning(device_);
            student_->forward_inference(arena, nullptr, job_.evaluation_batch, out.data());
        }
        arena.bind();
        return use([&](const T* x, Index n) {
            arena.reset();
            student_->forward_inference(arena, x, n, out.data());
            return static_cast<const T*>(out.data());
        });
    }

    /// Accuracy among all classes on the images held out.
    double validation_accuracy() {
        EvaluationOptions options;
        options.batch = job_.evaluation_batch;
        const FeatureSet<T> set = with_student([&](const auto& encode) {
            return collect_features(device_, images_.validation, run_.resolution, student_->config().embed, options,
                                    encode);
        });
        return evaluate_subset(device_, set, vectors_, static_cast<Index>(class_names().size()), ClassSubset::all)
            .accuracy;
    }

    /// The options beside the results, once it is known that the output folder is this run's.
    void write_config() const {
        if (run_.out.empty()) return;
        make_directories(run_.out);
        write_atomically(run_.out + "/config.json", job_.config.dump(2) + "\n");
    }

    /// A run with the same settings is continued, a complete one is not repeated; another run's checkpoint is an error
    /// unless --fresh.
    bool wants_resume(Index steps) const {
        if (job_.fresh || run_.out.empty() || !has_checkpoint(run_.out)) return false;
        Progress at;
        read_checkpoint(run_.out, run_.identity, at);
        if (!job_.output) return true;
        const bool complete = at.step >= steps || at.epoch >= run_.schedule.max_epoch;
        if (complete)
            job_.output->text() << "already trained for " << at.step << " steps; --fresh trains again" << std::endl;
        else
            job_.output->text() << "continuing after epoch " << at.epoch << " (step " << at.step << " of " << steps
                                << ")" << std::endl;
        return true;
    }

    D& device_;
    Ranks<D> ranks_;
    const DistillJob& job_;
    DistillImages images_;
    TensorMap student_map_;
    ClipModel<D> student_model_;
    TrainingLoopConfig run_;
    TeacherSet<D> teachers_;
    std::optional<StoredTargetsFile> stored_;
    std::optional<Dataset> evaluation_;
    Fingerprint targets_fingerprint_;
    nlohmann::json selection_ = nlohmann::json::object();
    std::vector<T> vectors_;
    std::optional<Student<D>> student_;
    std::optional<Distiller<D>> distiller_;
};

/// What a run's result.json says about the training.
inline nlohmann::json training_json(const TrainingResult& r, const Dataset& data) {
    return {{"steps", r.progress.step},
            {"epochs", r.progress.epoch},
            {"seconds", r.progress.seconds},
            {"first_loss", r.progress.first_loss},
            {"last_loss", r.progress.last_loss},
            {"images", data.size()},
            {"unreadable", r.progress.unreadable},
            {"loader_wait_seconds", r.wait_seconds}};
}

}  // namespace promptkd::cli
