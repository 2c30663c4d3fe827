// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "progress.hpp"
#include "results_json.hpp"
#include "signals.hpp"

#include <promptkd/experiment/dense/distillation.hpp>
#include <promptkd/experiment/report/dense_page.hpp>
#include <promptkd/experiment/report/mean_losses.hpp>
#include <promptkd/experiment/scene_files.hpp>
#include <promptkd/experiment/segmentation.hpp>

#include <filesystem>

// `demo --dense`: scenes before and after a dense distillation.
namespace promptkd::cli {

/// What the demonstration takes.
struct DenseDemo {
    std::string assets;                             ///< folder of the models
    std::string data;                               ///< images that scenes are made of
    std::string out;                                ///< for everything
    std::uint64_t seed = 1;                         ///< of the distillation
    Index images = 6000, train = 1500, test = 500;  ///< training images; scenes to learn from and to look at
    Index start_epochs = 10, epochs = 20;           ///< passes over the images and over the scenes
    bool fresh = false;                             ///< start again

    ModelFile model(const std::string& name) const { return {assets + "/" + name, "", "quick_gelu"}; }

    DenseDistillationSpec distillation() const {
        DenseDistillationSpec s;
        s.image.student = model("fashion_clip_student.safetensors");
        const ModelFile teacher = model("fashion_clip_teacher.safetensors");
        s.image.teacher.weights = {teacher.path};
        s.image.teacher.activation = teacher.activation;
        s.image.teacher.prompts = {assets + "/fashion_teacher_prompts.safetensors"};
        s.image.vocabulary = assets + "/fashion_bpe.txt.gz";
        s.image.pattern = "a photo of a {}.";
        s.image.data.source = data;
        s.image.data.images = images;
        s.image.loop.schedule.max_epoch = start_epochs;
        s.lessons.pictures = out + "/train";
        s.loop.schedule.max_epoch = epochs;
        s.loop.seed = seed;
        s.loop.out = out;
        s.fresh = fresh;
        return s;
    }
};

namespace dense {

/// Scenes of one part of the images, where they are not there yet.
inline void render(const DenseDemo& demo, bool train, Observer& observer) {
    SceneFilesSpec spec;
    const Dataset data = open_dataset(demo.data, train ? Split::train : Split::test);
    spec.scenes.seed = train ? 11 : 1;
    spec.scenes.count = train ? std::min(demo.images, data.size()) : data.size();
    spec.count = train ? demo.train : demo.test;
    spec.folder = demo.out + (train ? "/train" : "/test");
    const std::string made = spec.folder + "/rendered.json";
    const std::string what = json_text(nlohmann::json{
        {"data", demo.data}, {"seed", spec.scenes.seed}, {"images", spec.scenes.count}, {"scenes", spec.count}});
    if (std::filesystem::exists(made) && read_file(made) == what) return;  // an interrupted run goes on with these
    std::filesystem::remove_all(spec.folder);
    promptkd::run(spec, data, observer);
    write_atomically(made, what);
}

/// A model on the test scenes.
template <class D>
DensePageModel look(D& device, const DenseDemo& demo, const std::string& name, const SegmentationSpec& segmentation,
                    Observer& observer) {
    MaskEvaluationSpec spec;
    spec.segmentation = segmentation;
    spec.root = demo.out + "/test";
    const MaskEvaluation found = promptkd::run(device, spec, observer);
    DensePageModel model{name, found.overlap, {}, {}};
    ImageSegmenter<D> segmenter(device, segmentation);
    for (Index i = 0; i < std::min<Index>(4, demo.test); ++i)
        model.labels.push_back(segmenter.segment(read_image(concat(demo.out, "/test/scene", i, ".png"))).labels);
    return model;
}

inline double accuracy_of(const std::optional<EvaluationResult>& r) { return r ? r->metrics.accuracy : 0; }

}  // namespace dense

/// Renders, distils and looks; writes scenes.html, scenes.svg and what the distillation writes.
template <class D>
void demonstrate_dense(D& device, const DenseDemo& demo, const Output& output) {
    ProgramObserver observer(output);
    std::ostream& say = output.text();
    make_directories(demo.out);
    for (const bool train : {true, false}) dense::render(demo, train, observer);
    const DenseDistillationSpec spec = demo.distillation();
    const DenseDistillationOutcome outcome = promptkd::run(device, spec, observer);
    if (outcome.training.interrupted) throw Interruption(demo.out);

    SegmentationSpec plain, start, taught;
    plain.queries.model = spec.image.student;
    plain.queries.vocabulary = spec.image.vocabulary;
    plain.queries.lines = open_dataset(demo.data, Split::test).class_names;
    start.queries.bundle = demo.out + "/start/bundle.safetensors";
    taught.queries.bundle = outcome.bundle;
    DensePage page;
    page.models.push_back(dense::look(device, demo, "zero-shot student", plain, observer));
    page.models.push_back(dense::look(device, demo, "distilled on images", start, observer));
    page.models.push_back(dense::look(device, demo, "distilled densely", taught, observer));
    page.models[1].images = dense::accuracy_of(outcome.start);
    page.models[2].images = dense::accuracy_of(outcome.evaluation);
    page.title = "PromptKD on scenes: before and after a dense distillation";
    page.summary = concat(demo.test, " scenes of test images, ten classes, the black background not counted. The ",
                          "student has learned from ", outcome.images, " scenes without labels, masks or boxes: the ",
                          "teacher was asked about ", outcome.answers, " square crops of their components.");
    page.classes = plain.queries.lines;
    for (Index i = 0; i < std::min<Index>(4, demo.test); ++i) {
        page.pictures.push_back(read_image(concat(demo.out, "/test/scene", i, ".png")));
        MaskReader masks(find_mask_layout(demo.out + "/test", "scenes"));
        page.truth.push_back(masks.read(concat(demo.out, "/test/mask", i, ".png")));
    }
    page.loss = {"mean of 50 steps", "#6a1b9a",
                 mean_losses(demo.out + "/log.jsonl", static_cast<double>(outcome.training.progress.step))};
    write_atomically(demo.out + "/scenes.html", to_html(page));
    write_atomically(demo.out + "/scenes.svg", dense_picture(page, 2));

    nlohmann::json report = {{"training", training_json(outcome)}, {"models", nlohmann::json::array()}};
    char line[120];
    for (const DensePageModel& model : page.models) {
        std::snprintf(line, sizeof line, "%-22s mIoU %6.2f   pixel accuracy %6.2f", model.name.c_str(),
                      100 * model.overlap.mean_iou(), 100 * model.overlap.pixel_accuracy());
        say << line << std::endl;
        report["models"].push_back({{"model", model.name},
                                    {"mIoU", 100 * model.overlap.mean_iou()},
                                    {"aAcc", 100 * model.overlap.pixel_accuracy()}});
    }
    if (outcome.start) say << "images, before: " << evaluation_line(*outcome.start) << std::endl;
    if (outcome.evaluation) say << "images, after:  " << evaluation_line(*outcome.evaluation) << std::endl;
    write_atomically(demo.out + "/report.json", json_text(report, 2) + "\n");
    output.write(report);
    say << "page: " << demo.out << "/scenes.html   picture: " << demo.out << "/scenes.svg   student: " << outcome.bundle
        << std::endl;
}

}  // namespace promptkd::cli
