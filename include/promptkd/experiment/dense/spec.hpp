// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/dense_method.hpp>
#include <promptkd/experiment/distillation_spec.hpp>

#include <nlohmann/json.hpp>

#include <optional>
#include <string>

namespace promptkd {

/// What the teacher is asked about for the sake of patches.
enum class DenseTargets {
    regions,  ///< square crops of regions: a patch learns what the teacher says of the region that covers most of it
    windows,  ///< a patch learns the mean of what the teacher says of sliding windows, near ones counting more
    map       ///< the teacher's own features of patches, by any last block
};

/// "regions", "windows" or "map". Throws Error for any other.
inline DenseTargets parse_dense_targets(const std::string& name) {
    if (name == "regions") return DenseTargets::regions;
    if (name == "windows") return DenseTargets::windows;
    require(name == "map", "'", name, "' are no targets of patches; there are regions, windows and map");
    return DenseTargets::map;
}

/// As parse_dense_targets() reads it.
inline const char* name_of(DenseTargets targets) {
    constexpr const char* names[] = {"regions", "windows", "map"};
    return names[static_cast<int>(targets)];
}

/// Where the regions of pictures come from: masks, boxes, else connected components of a foreground.
struct RegionOptions {
    std::string masks;    ///< folder of masks: components of equal labels, without 0 and 255; empty: none
    std::string boxes;    ///< file of boxes, see read_boxes(); empty: none
    int foreground = 16;  ///< a pixel with a channel above it is foreground
    Index least = 20;     ///< pixels of a component at least
};

/// How pictures are taught to the patches of a student.
struct DenseLessons {
    std::string pictures;                          ///< folder or list; of a layout with masks its pictures
    Index width = 0, height = 0;                   ///< pictures are brought to this size; 0: that of the first
    DenseTargets targets = DenseTargets::regions;  ///< what the teacher is asked about
    RegionOptions regions;                         ///< of DenseTargets::regions
    Index window = 0, stride = 0;                  ///< of windows, in pixels; 0: the teacher's images, a patch
    double window_sigma = 5;                       ///< of the windows' Gaussian, in pixels from patch to window
    std::string map_method = "naclip";             ///< the teacher's last block for a map
    DenseOptions student;                          ///< how the student's patches are read
    double temperature = 1;                        ///< τ of the patches' loss
    double image_weight = 1;                       ///< of the loss of images beside; 0: none
    Index image_batch = 16;                        ///< images a step
};

/// A whole dense distillation. First a student of images, distilled by the published recipe in the folder `start` of
/// the output folder, or image.init; then its patches. See run() in experiment/dense/distillation.hpp.
struct DenseDistillationSpec {
    DistillationSpec image = start_recipe();           ///< teacher, student, images, and the recipe of the start
    DenseLessons lessons;                              ///< what patches learn
    EncoderTraining training = EncoderTraining::lora;  ///< what of the image encoder is trained
    LoraConfig lora;                                   ///< with EncoderTraining::lora
    double body_rate = 0;                              ///< of the encoder; 0: 0.3 of all weights, 1 of LoRA
    double weight_decay = 1e-4;                        ///< AdamW's
    double clip = 1;                                   ///< largest norm of the gradient; 0: any
    TrainingLoopConfig loop = recipe();                ///< of the patches; with the output folder and the seed
    bool fresh = false;                                ///< start again, whatever the output folder holds
    nlohmann::json settings;                           ///< written to config.json; null: loop.identity

    /// The student that a dense distillation starts from: the published recipe in 10 epochs with flips, prompts in as
    /// many layers as the student has.
    static DistillationSpec start_recipe() {
        DistillationSpec image;
        image.shape.depth = 0;
        image.loop.schedule.max_epoch = 10;
        image.loop.augmentation = Augmentation::flip;
        return image;
    }

    /// AdamW with rate 0.003, 50 steps of linear warm-up times a cosine to 0, 20 epochs in batches of 8, flips.
    static TrainingLoopConfig recipe() {
        TrainingLoopConfig loop;
        loop.batch = 8;
        loop.schedule.lr = 0.003;
        loop.schedule.max_epoch = 20;
        loop.schedule.schedule = Schedule::cosine_by_step;
        loop.schedule.warmup = Warmup::none;
        loop.schedule.warmup_steps = 50;
        loop.augmentation = Augmentation::flip;
        return loop;
    }

    /// Throws Error for settings that do not go together.
    void check() const {
        require(!loop.out.empty(), "a dense distillation keeps its start and its targets in an output folder");
        require(!lessons.pictures.empty(), "a dense distillation needs pictures");
        require(image.fit == DistillationFit::sgd && !image.adapted.recipe && !image.is_mixed(),
                "a dense distillation starts from a student of the published recipe; give another one as a bundle");
        require(image.stored_targets.empty() && image.teacher.count() > 0,
                "a dense distillation asks the teacher about regions of pictures: stored targets of images do not do");
        require(image.loss.kd == KdLoss::logits && !image.own_text,
                "a dense distillation imitates the teacher's logits with the teacher's class vectors");
        require(lessons.targets != DenseTargets::map || image.teacher.count() == 1,
                "a map of patches is of one teacher; several are asked about regions or windows");
        require(lessons.regions.masks.empty() || lessons.regions.boxes.empty(),
                "regions come from masks or from boxes, not from both");
        require(lessons.window >= 0 && lessons.stride >= 0 && (lessons.window == 0 || lessons.stride <= lessons.window),
                "windows of ", lessons.window, " pixels every ", lessons.stride, " pixels leave some out");
        require((lessons.width > 0) == (lessons.height > 0), "a size of pictures has a width and a height");
        dense_method(lessons.student.method);
        dense_method(lessons.map_method);
    }
};

/// What a dense distillation has left and found.
struct DenseDistillationOutcome : TrainingOutcome {
    std::string bundle;                          ///< file of the student
    Index answers = 0;                           ///< regions, windows or patches that the teacher was asked about
    std::optional<EvaluationResult> start;       ///< of the student that it started from, where it was distilled here
    std::optional<EvaluationResult> evaluation;  ///< on labelled images, where there are some
};

/// What of the lessons the targets of patches depend on.
inline nlohmann::json target_identity(const DenseLessons& o) {
    nlohmann::json id = {{"dense-targets", name_of(o.targets)}, {"width", o.width}, {"height", o.height}};
    if (o.targets == DenseTargets::map) id["map-method"] = o.map_method;
    if (o.targets == DenseTargets::windows) id["windows"] = {o.window, o.stride, o.window_sigma};
    if (o.targets != DenseTargets::regions) return id;
    id["region-masks"] = o.regions.masks;
    id["region-boxes"] = o.regions.boxes;
    id["foreground"] = o.regions.foreground;
    id["least-pixels"] = o.regions.least;
    return id;
}

/// What the results of a dense distillation depend on, for a specification whose loop.identity is empty.
inline nlohmann::json derived_identity(const DenseDistillationSpec& spec) {
    OptimizerConfig rule;
    rule.kind = OptimizerKind::adamw;
    rule.adam.weight_decay = spec.weight_decay;
    nlohmann::json id = identity_of(spec.loop, rule);
    id["command"] = "distill --dense";
    id["start"] = derived_identity(spec.image);
    id["pictures"] = spec.lessons.pictures;
    id["targets"] = target_identity(spec.lessons);
    id["method"] = spec.lessons.student.method;
    id["sigma"] = spec.lessons.student.sigma;
    id["positions"] = static_cast<int>(spec.lessons.student.positions);
    id["temperature"] = spec.lessons.temperature;
    id["image-weight"] = spec.lessons.image_weight;
    id["image-batch"] = spec.lessons.image_batch;
    id["adapt"] = name_of(spec.training);
    id["rank"] = spec.lora.rank;
    id["body-rate"] = spec.body_rate;
    id["clip"] = spec.clip;
    return id;
}

}  // namespace promptkd
