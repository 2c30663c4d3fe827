// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/dense_trainer.hpp>
#include <promptkd/evaluate/dense/packaged.hpp>
#include <promptkd/experiment/adapted/pair_rows.hpp>
#include <promptkd/experiment/dense/target_store.hpp>
#include <promptkd/experiment/dense/targets.hpp>
#include <promptkd/experiment/distillation.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// One dense distillation on a device: construct, then run().
template <Device D>
class DenseDistillationRun {
public:
    using T = typename D::Scalar;

    /// Loads models, images and pictures. Device and observer must outlive this. Throws Error for what does not fit
    /// together.
    DenseDistillationRun(D& device, const DenseDistillationSpec& spec, Observer& observer = silent_observer())
        : device_(device), observer_(observer), spec_(completed(spec)), setup_(device, image_stage(), observer, {}) {
        require(setup_.student_model.vision().is_transformer(), spec.image.student.path,
                ": a ResNet has no patches to teach; use a vision transformer");
        pictures_ = open_pictures(spec_.lessons.pictures, setup_.class_names());
        choose_size();
    }

    /// The whole of it. An interrupted run leaves logs and checkpoints alone.
    DenseDistillationOutcome run() {
        DenseDistillationOutcome outcome;
        find_inputs();
        if (!spec_.fresh) require_own_checkpoint(spec_.loop.out, {spec_.loop.identity, inputs_, 0, 0});
        make_directories(spec_.loop.out);
        write_atomically(spec_.loop.out + "/config.json", json_text(spec_.settings, 2) + "\n");
        take_targets();
        outcome.answers = targets_.answers();
        BundleParts parts = spec_.image.init.empty() ? distil_start(outcome) : start_of_file();
        if (outcome.training.interrupted) return outcome;
        build_student(parts);
        train(outcome);
        if (outcome.training.interrupted) return outcome;
        finish(parts, outcome);
        return outcome;
    }

    /// What is trained, once run() has built it.
    Student<D>& student() { return *student_; }

private:
    static DenseDistillationSpec completed(DenseDistillationSpec spec) {
        spec.check();
        if (spec.loop.identity.empty()) spec.loop.identity = derived_identity(spec);
        if (spec.settings.is_null()) spec.settings = spec.loop.identity;
        spec.image.loop.seed = spec.loop.seed;
        return spec;
    }

    /// The images of the run as the image term sees them: mirrored now and then.
    DistillationSpec image_stage() const {
        DistillationSpec s = spec_.image;
        s.loop.augmentation = Augmentation::flip;
        s.loop.schedule.warmup = Warmup::none;
        s.loop.batch = spec_.lessons.image_batch;
        return s;
    }

    /// The size of the pictures, in whole patches, and the grid.
    void choose_size() {
        Index width = spec_.lessons.width, height = spec_.lessons.height;
        if (width == 0) {
            const Image first = pictures_.load(0);
            width = first.width;
            height = first.height;
        }
        const Index patch = setup_.student_model.vision().config().patch;
        require(width >= patch && height >= patch, pictures_.name, ": pictures of ", width, " x ", height,
                " pixels are smaller than a patch of the student, ", patch, " x ", patch, "; make them larger");
        grid_ = {height / patch, width / patch};
        input_ = setup_.student_model.preprocessing();
        input_.height = grid_.rows * patch;
        input_.width = grid_.columns * patch;
        input_.resize = ResizeMode::squash;
        input_.size = 0;
    }

    /// What the run is made of.
    void find_inputs() {
        inputs_ = setup_.inputs();
        add_prefixed("pictures: ", images_identity(pictures_, pictures_.name, spec_.image.data.verify));
        const bool regions = spec_.lessons.targets == DenseTargets::regions;
        finder_.emplace(regions ? spec_.lessons.regions : RegionOptions(), pictures_);
        if (regions) add_regions();
    }

    /// The targets of the pictures: those that the output folder has of this very run, else new ones.
    void take_targets() {
        PatchTargetStore store(spec_.loop.out + "/dense_targets.safetensors", target_fingerprint());
        TaughtPictures taught;
        if (auto kept = kept_targets(store)) {
            taught = std::move(*kept);
        } else {
            const Index patch = setup_.student_model.vision().config().patch;
            taught = PatchTeacher<D>(setup_, spec_.lessons, grid_, patch).teach(pictures_, *finder_);
            store.write(taught);
        }
        targets_ = std::move(taught.targets);
        pictures_ = subset(pictures_, taught.pictures);
    }

    /// Those in the output folder, where they are whole.
    std::optional<TaughtPictures> kept_targets(const PatchTargetStore& store) const {
        try {
            return store.read();
        } catch (const ResourceError&) {
            throw;
        } catch (const Error& error) {
            observer_.on_warning(concat(error.what(), "; the teacher is asked again"));
        }
        return std::nullopt;
    }

    void add_prefixed(const std::string& prefix, const nlohmann::json& identity) {
        for (const auto& [name, value] : identity.items())
            if (name != "class names" && name != "labels of the images") inputs_[prefix + name] = value;
    }

    void add_regions() {
        const RegionOptions& o = spec_.lessons.regions;
        if (!o.boxes.empty()) inputs_["boxes"] = fingerprint(o.boxes);
        if (o.masks.empty()) return;
        const std::vector<std::string>& files = finder_->mask_files();
        Dataset masks;
        for (std::size_t i = 0; i < files.size(); ++i) masks.items.push_back({static_cast<Index>(i), -1});
        masks.source = std::make_shared<ImageFiles>(files);
        add_prefixed("masks: ", images_identity(masks, o.masks, spec_.image.data.verify));
    }

    /// What the targets depend on.
    nlohmann::json target_fingerprint() const {
        Fingerprint teachers;
        setup_.teachers.add_inputs(teachers);
        setup_.teachers.add_to(teachers);
        nlohmann::json print = {
            {"grid", {grid_.rows, grid_.columns}}, {"lessons", target_identity(spec_.lessons)}, {"teachers", teachers}};
        for (const auto& [name, value] : inputs_.items())
            if (name.starts_with("pictures: ") || name.starts_with("masks: ") || name == "boxes") print[name] = value;
        return print;
    }

    /// A student of images by the published recipe, in a folder of its own.
    BundleParts distil_start(DenseDistillationOutcome& outcome) {
        DistillationSpec start = spec_.image;
        start.loop.out = spec_.loop.out + "/start";
        start.fresh = spec_.fresh;
        start.loop.identity = nlohmann::json::object();
        if (start.shape.depth == 0) start.shape.depth = std::min<Index>(9, setup_.student_model.vision().layers());
        const DistillationOutcome found = promptkd::run(device_, start, observer_);
        outcome.training = found.training;
        outcome.start = found.evaluation;
        if (found.training.interrupted) return {};
        return read_bundle(read_safetensors(found.bundle));
    }

    /// A student from a file: a bundle with its encoder, or prompts and projector for the student's weights.
    BundleParts start_of_file() const {
        const std::string& path = spec_.image.init;
        const TensorMap map = load_tensors(path, observer_);
        if (is_packaged_student(map)) return packaged_student(map);
        if (is_bundle(map)) return read_bundle(map);
        require(map.contains(projector_name(0, "weight")), path,
                ": not a student: it has no projector; give a bundle, or a student's checkpoint");
        BundleParts parts;
        parts.clip = detail::image_branch(setup_.student_map);
        parts.learned = map;
        return parts;
    }

    void build_student(BundleParts& parts) {
        const bool lora = spec_.training == EncoderTraining::lora;
        parts.mixture.reset();
        parts.class_vectors = make_tensor(setup_.vectors, {setup_.classes(), embed()});
        if (!lora && lora_config(parts.learned)) merge_lora(parts);
        StudentConfig shape = student_config(parts);
        if (lora && shape.training != EncoderTraining::lora) shape.lora = spec_.lora;
        shape.training = spec_.training;
        shape.recompute = spec_.image.shape.recompute;
        shape.patch_head = true;
        model_.emplace(device_, parts.clip);
        const ClipModel<D>& asked = setup_.student_model;
        require(model_->vision().is_transformer() && model_->vision().config().patch == asked.vision().config().patch &&
                    model_->preprocessing() == asked.preprocessing(),
                spec_.image.init, ": its image encoder takes other images than ", spec_.image.student.path);
        const Index most = std::max({spec_.loop.batch, spec_.lessons.image_batch, spec_.image.evaluation_batch});
        student_.emplace(device_, *model_, shape, most);
        student_->initialize(spec_.loop.seed);
        student_->load(parts.learned);
    }

    Index embed() const { return static_cast<Index>(setup_.vectors.size()) / setup_.classes(); }

    /// The images' objective, and the optimizer of everything.
    DistillationConfig loss() const {
        DistillationConfig loss;
        loss.kd_weight = spec_.lessons.image_weight * static_cast<double>(setup_.classes());  // a mean over the batch
        loss.optimizer.kind = OptimizerKind::adamw;
        loss.optimizer.adam.weight_decay = spec_.weight_decay;
        loss.optimizer.clip = spec_.clip;
        const double usual = spec_.training == EncoderTraining::full ? 0.3 : 1;
        loss.optimizer.rate_factors = body_rates(spec_.body_rate > 0 ? spec_.body_rate : usual);
        return loss;
    }

    void train(DenseDistillationOutcome& outcome) {
        outcome.images = pictures_.size();
        outcome.classes = setup_.classes();
        TrainingLoopConfig loop = spec_.loop;
        loop.preprocessing = input_;
        loop.inputs = inputs_;
        loop.batch = whole_batch(loop, pictures_.size(), observer_);
        const Index steps = count_steps(loop, outcome.images);
        observer_.on_start({outcome.images, outcome.classes, student_->params().size(), steps});
        TrainingStage stage("dense", steps, observer_);
        loop = stage.connect(loop, outcome.images, spec_.fresh);
        DistillerOptions<D> options;
        options.max_batch = spec_.lessons.image_batch;
        Distiller<D> images(*student_, ClassVectors<T>{setup_.vectors, {}}, loss(), options);
        DenseDistiller<D> patches(*student_, setup_.vectors, spec_.lessons.student, spec_.lessons.temperature);
        PatchLessons lessons;
        lessons.targets = std::move(targets_);
        lessons.preprocessing = input_;
        lessons.batch = loop.batch;
        lessons.view_seed = loop.view_seed.value_or(loop.seed);
        lessons.flips = loop.augmentation == Augmentation::flip;
        DenseTrainer<D> trainer(images, patches, std::move(lessons));
        if (spec_.lessons.image_weight > 0) trainer.add_images(image_lessons());
        stage.begin();
        outcome.training = TrainingLoop(trainer, pictures_, loop).run();
        if (!outcome.training.interrupted) stage.end();
    }

    /// The images of the run with what the teachers say of each and of its mirror image.
    ImageLessons image_lessons() {
        const EncodedPairs<T> pairs = encode_pairs(setup_, setup_.images.train);
        require(!pairs.images.empty(), setup_.images.train.name, ": none of the images can be read");
        const Index images = static_cast<Index>(pairs.images.size());
        const std::vector<Index> rows = in_order(images);
        ImageLessons lessons;
        lessons.images = subset(setup_.images.train, pairs.images);
        lessons.targets = pairs.targets(rows, rows, images, setup_.classes());
        LoaderOptions& o = lessons.loading;
        o.batch = std::min(spec_.lessons.image_batch, images);
        o.preprocessing = setup_.student_model.preprocessing();
        o.augmentation = Augmentation::flip;
        o.seed = spec_.loop.seed;
        o.drop_last = true;
        o.threads = spec_.loop.loader_threads;
        o.warn = [this](const std::string& text) { observer_.on_skipped(text); };
        return lessons;
    }

    void finish(const BundleParts& start, DenseDistillationOutcome& outcome) {
        BundleParts parts =
            bundle_parts(*student_, start.clip, setup_.vectors, setup_.class_names(),
                         {{"data", spec_.image.data.source}, {"config", student_recipe(spec_.loop.identity)}});
        outcome.bundle = spec_.loop.out + "/bundle.safetensors";
        write_safetensors(outcome.bundle, make_bundle(parts));
        if (!setup_.evaluation) return;
        detail::StudentEncoder<D> encoder(device_, *student_, spec_.image.evaluation_batch);
        const FeatureSet<T> set =
            encode_images(device_, encoder, *setup_.evaluation, {"evaluate", spec_.image.evaluation_batch, observer_});
        outcome.evaluation = evaluate_features(
            device_, set, setup_.vectors, distinct_names(setup_.evaluation->class_names, setup_.evaluation->class_ids));
    }

    D& device_;
    Observer& observer_;
    DenseDistillationSpec spec_;
    DistillationSetup<D> setup_;
    Dataset pictures_;
    GridSize grid_;
    Preprocessing input_;  ///< what pictures go through
    nlohmann::json inputs_;
    std::optional<RegionFinder> finder_;
    PatchTargetTable targets_;
    std::optional<ClipModel<D>> model_;
    std::optional<Student<D>> student_;
};

/// Distils the patches of a student as `spec` says: into its output folder start/ (a distillation of images),
/// dense_targets.safetensors, log.jsonl, log.csv, checkpoint/, config.json and bundle.safetensors. An interrupted run
/// leaves no bundle, and goes on from there.
template <Device D>
DenseDistillationOutcome run(D& device, const DenseDistillationSpec& spec, Observer& observer = silent_observer()) {
    spec.check();
    const std::shared_ptr<const FolderLock> lock = FolderLock::acquire(spec.loop.out);
    require_writable(spec.loop.out + "/bundle.safetensors");
    return DenseDistillationRun<D>(device, spec, observer).run();
}

}  // namespace promptkd
