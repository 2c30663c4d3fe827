// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models.hpp"

#include <promptkd/train/bundle.hpp>
#include <promptkd/train/distillation_run.hpp>

#include <filesystem>
#include <optional>

namespace promptkd::cli {

/// A whole distillation as a user describes it: files in, bundle and results out.
struct DistillJob {
    std::string teacher, teacher_prompts, class_vectors, student, init, vocab, data, evaluation, class_names,
        activation, teacher_config, student_config, pattern;
    StudentConfig shape;
    DistillationConfig loss;
    TrainingLoopConfig run;
    Index images = 0;
    bool fresh = false;
    nlohmann::json config;  ///< the resolved options, written beside the results
    const Output* output = nullptr;
    Index evaluation_batch = 100;
    bool graph = false;             ///< record a step on the GPU and repeat it
    bool local_batch_norm = false;  ///< with several processes: statistics of each one's images alone
};

/// One distillation on a device: the models, the data and the run. Steps: construct, train(), evaluate(), save().
template <Device D>
class DistillSession {
public:
    using T = typename D::Scalar;

    /// With several `ranks` each trains and evaluates on its share of the images, and rank 0 writes.
    DistillSession(D& device, const DistillJob& job, const Ranks<D>& ranks = {})
        : device_(device),
          ranks_(ranks),
          job_(job),
          student_map_(load_weights(job.student, settled(job, job.student_config))) {
        if (!job.class_names.empty()) names_ = read_class_names(job.class_names);
        train_ = open_dataset(job.data, Split::train, names_);
        require(!train_.class_names.empty(), job.data,
                ": these images have no class folders; give the class names with --class-names FILE (one name a line)");
        names_ = train_.class_names;
        if (job.images > 0) train_ = take(train_, job.images);
        open_evaluation();
        const TensorMap teacher_map = load_weights(job.teacher, settled(job, job.teacher_config));
        teacher_model_.emplace(device, teacher_map);
        student_model_.emplace(device, detail::image_branch(student_map_));
        if (!job.teacher_prompts.empty()) prompts_ = load_prompts(job.teacher_prompts);
        require(teacher_model_->vision().resolution() == student_model_->vision().resolution(),
                "the teacher sees images of ", teacher_model_->vision().resolution(), " pixels and the student of ",
                student_model_->vision().resolution(), "; both must see the same view");
        vectors_ = make_class_vectors();
        build();
    }

    const std::vector<std::string>& class_names() const { return names_; }
    const std::vector<T>& class_vectors() const { return vectors_; }
    const ClipModel<D>& teacher_model() const { return *teacher_model_; }
    Student<D>& student() { return *student_; }
    const Dataset& training_data() const { return train_; }

    /// Trains with progress on standard error.
    TrainingResult train(const std::function<void(const StepRecord&)>& on_step = {},
                         const std::function<void(const Progress&)>& on_epoch = {}) {
        TrainingLoopConfig run = job_.run;
        const Index batches = train_.size() / run.batch;
        const Index steps = run.max_steps > 0 ? std::min(run.max_steps, batches * run.schedule.max_epoch)
                                              : batches * run.schedule.max_epoch;
        run.resume = wants_resume(steps);
        if (ranks_.leads()) write_config();
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
        return run_distillation(*distiller_, *student_, train_, run, job_.graph);
    }

    /// Normalised student features of `data` in evaluation mode.
    FeatureSet<T> features(const Dataset& data, const std::string& what) {
        const Index embed = student_->config().embed;
        Buffer<D, T> out(device_, job_.evaluation_batch * embed);
        Arena<D> arena(device_);
        {
            PlanningScope<D> planning(device_);
            student_->forward_inference(arena, nullptr, job_.evaluation_batch, out.data());
        }
        arena.bind();
        return features_with_progress(device_, ranks_, data, student_model_->vision().resolution(), embed,
                                      job_.evaluation_batch, what, [&](const T* x, Index n) {
                                          arena.reset();
                                          student_->forward_inference(arena, x, n, out.data());
                                          return static_cast<const T*>(out.data());
                                      });
    }

    /// The labelled images to evaluate on: --evaluate, else the test part of --data where it is labelled.
    const std::optional<Dataset>& evaluation_data() const { return evaluation_; }

    void write_student(const std::string& path) const {
        if (!ranks_.leads()) return;
        write_bundle(path, *student_, student_map_, vectors_, names_,
                     {{"teacher", job_.teacher},
                      {"teacher_prompts", job_.teacher_prompts},
                      {"data", job_.data},
                      {"config", job_.run.identity}});
    }

private:
    /// Before the training, so that a wrong --evaluate is not found out after it.
    void open_evaluation() {
        if (!job_.evaluation.empty()) {
            evaluation_ = open_dataset(job_.evaluation, Split::test, names_, FolderLabels::required);
            require(evaluation_->labelled(), job_.evaluation, ": --evaluate needs labelled images");
            return;
        }
        try {
            Dataset data = open_dataset(job_.data, Split::test, names_);
            if (data.labelled()) evaluation_ = std::move(data);
        } catch (const Error& error) {  // nobody asked for an evaluation
            if (job_.output) job_.output->text() << "the student will not be evaluated: " << error.what() << std::endl;
        }
    }

    static WeightsOptions settled(const DistillJob& job, const std::string& config) {
        WeightsOptions options;
        options.activation = job.activation, options.config = config;
        return options;
    }

    std::vector<T> make_class_vectors() {
        if (!job_.class_vectors.empty())
            return read_class_vectors(job_.class_vectors, static_cast<Index>(names_.size()),
                                      teacher_model_->vision().embed())
                .template to<T>();
        return text_features(*teacher_model_, job_.teacher, prompts());
    }

    /// Normalised text features (classes, e) of the class names.
    std::vector<T> text_features(const ClipModel<D>& model, const std::string& file, const TensorMap* prompts) const {
        Common vocabulary;
        vocabulary.vocab = job_.vocab;
        const Tokenizer tokenizer = Tokenizer::from_file(vocabulary_path(vocabulary));
        const TokenRows tokens = tokenize_classes(tokenizer, model.text().config(), file, names_, job_.pattern);
        return promptkd::class_vectors(device_, model, tokens, prompts);
    }

    /// What the student itself makes of the class names, without prompts.
    std::vector<T> own_text_features() const {
        return text_features(ClipModel<D>(device_, student_map_), job_.student, nullptr);
    }

    /// Waits until every rank has read the checkpoint, and makes sure that all have read the same.
    void meet(Index step) {
        std::vector<std::int64_t> first{step};
        Buffer<D, std::int64_t> shared(device_, first);
        ranks_.broadcast(device_, shared.data(), sizeof(std::int64_t));
        const Index leaders = shared.to_host().front();
        require(leaders == step, "process ", ranks_.rank(), " would begin at step ", step, ", process 0 at step ",
                leaders, ": they see different files in ", job_.run.out);
        ranks_.barrier(device_);
    }

    void build() {
        StudentConfig shape = job_.shape;
        shape.embed = static_cast<Index>(vectors_.size() / names_.size());
        require(job_.run.batch >= ranks_.size(), "--batch ", job_.run.batch, " is too small for ", ranks_.size(),
                " processes: each must get an image of every batch");
        const Index batch = slice_of(job_.run.batch, ranks_.rank(), ranks_.size()).count;
        const Index capacity = std::max(batch, job_.evaluation_batch);
        teacher_.emplace(device_, *teacher_model_, prompts(), batch);
        student_.emplace(device_, *student_model_, shape, capacity);
        if (job_.init.empty()) {
            student_->initialize(job_.run.seed);
        } else {
            const TensorMap start = read_weights(job_.init);
            student_->load(start, start.contains("init.VPT_image_trans.conv1.0.weight") ? "init." : "");
        }
        const bool close = job_.loss.stay_close > 0, to_logits = job_.loss.stay_close_to == StayCloseTo::logits;
        require(!close || to_logits || shape.prompts > 0,
                "--stay-close-to features has no effect with --prompts 0: that encoder never changes");
        distiller_.emplace(*student_, &*teacher_, vectors_, job_.loss, batch,
                           close && to_logits ? own_text_features() : std::vector<T>{},
                           DataParallel<D>{ranks_, job_.run.batch, job_.local_batch_norm});
    }

    /// The options beside the results, once it is known that the output folder is this run's.
    void write_config() const {
        if (job_.run.out.empty()) return;
        make_directories(job_.run.out);
        write_atomically(job_.run.out + "/config.json", job_.config.dump(2) + "\n");
    }

    const TensorMap* prompts() const { return job_.teacher_prompts.empty() ? nullptr : &prompts_; }

    /// A run with the same settings is continued, a complete one is not repeated; another run's checkpoint is an error
    /// unless --fresh.
    bool wants_resume(Index steps) const {
        if (job_.fresh || job_.run.out.empty() || !has_checkpoint(job_.run.out)) return false;
        Progress at;
        read_checkpoint(job_.run.out, job_.run.identity, at);
        if (!job_.output) return true;
        const bool complete = at.step >= steps || at.epoch >= job_.run.schedule.max_epoch;
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
    TensorMap student_map_, prompts_;
    std::vector<std::string> names_;
    Dataset train_;
    std::optional<Dataset> evaluation_;
    std::optional<ClipModel<D>> teacher_model_, student_model_;
    std::vector<T> vectors_;
    std::optional<FrozenImageTower<D>> teacher_;
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
