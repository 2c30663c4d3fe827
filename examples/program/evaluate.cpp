// SPDX-License-Identifier: Apache-2.0
// `promptkd evaluate BUNDLE`: accuracy of a distilled student; with --masks overlap of its label maps, with
// --detections average precision of boxes.
#include "commands.hpp"
#include "dense_options.hpp"
#include "evaluation_options.hpp"

#include <promptkd/experiment/box_evaluation.hpp>
#include <promptkd/experiment/student_evaluation.hpp>

namespace promptkd::cli {

namespace {

struct Evaluate {
    Common common;
    StudentEvaluationSpec spec;
    std::string class_names, split = "test";
    nlohmann::json config;
    MaskEvaluationSpec masks;
    DenseFlags dense;
    std::string detections, boxes;
    bool batch_given = false;

    /// Throws for options that what is measured makes no use of.
    void check_use(const CLI::App& c) {
        if (!detections.empty()) {
            const std::vector<std::string> used{"detections", "boxes", "json", "threads", "device", "precision"};
            return refuse_all_but(c, used, "asks a model, and --detections none", config);
        }
        const bool pixels = !masks.root.empty();
        refuse_unused(c,
                      {{pixels,
                        "does not go with --masks, which counts pixels",
                        {"--data", "--classes", "--split", "--holdout", "--seed", "--per-image", "--class-vectors"}},
                       {!pixels,
                        "goes with --masks",
                        {"--layout", "--method", "--sigma", "--positions", "--window", "--stride", "--odd-windows",
                         "--short-side", "--logit-scale", "--threshold", "--background", "--pamr", "--template",
                         "--templates", "--vocab"}}},
                      config);
        if (!pixels) return;
        dense.spec.queries.bundle = spec.bundle;
        refuse_unused(c, unused_dense_options(dense, common));
        batch_given = is_given(c, "--batch");
        if (!batch_given) config.erase("batch");
    }

    int run() {
        if (!detections.empty()) return run_boxes();
        if (!masks.root.empty()) return run_masks();
        spec.model = model_file(common);
        require_whole();
        finish_data(spec.data, common, split, class_names);
        spec.storage = common.storage();
        EvaluationResult found;
        with_device<CpuPrecisions::encoders>(common, [&](auto& device) {
            with_ranks(device, [&](const auto& ranks) {
                ProgramObserver observer(common.output);
                found = promptkd::run(device, spec, observer, ranks);
            });
        });
        write_evaluation(found, config, common.output);
        return 0;
    }

    int run_masks() {
        dense.class_names = class_names;
        dense.spec.queries.prompts = spec.learned;
        if (batch_given) dense.spec.queries.batch = spec.batch;
        require(spec.bundle.empty() != common.weights.empty(),
                "evaluate: --masks needs a student bundle, or --weights with --class-names");
        masks.segmentation = dense.finish(common);
        masks.images = spec.data.images;
        MaskEvaluation found;
        with_device<CpuPrecisions::fp32>(common, [&](auto& device) {
            ProgramObserver observer(common.output);
            found = promptkd::run(device, masks, observer);
        });
        const Overlap& o = found.overlap;
        char line[128];
        std::snprintf(line, sizeof line, "mIoU %.2f   pixel accuracy %.2f   mean accuracy %.2f   (%lld images, %s)",
                      100 * o.mean_iou(), 100 * o.pixel_accuracy(), 100 * o.mean_accuracy(),
                      static_cast<long long>(found.images), found.layout.c_str());
        common.output.text() << line << std::endl;
        nlohmann::json result = {{"mIoU", 100 * o.mean_iou()},      {"aAcc", 100 * o.pixel_accuracy()},
                                 {"mAcc", 100 * o.mean_accuracy()}, {"images", found.images},
                                 {"layout", found.layout},          {"config", config}};
        const auto percent = [](const std::optional<double>& x) {
            return x ? nlohmann::json(100 * *x) : nlohmann::json();
        };
        for (Index c = 0; c < o.classes(); ++c)
            result["per_class"].push_back({{"class", found.class_names[static_cast<std::size_t>(c)]},
                                           {"IoU", percent(o.iou(c))},
                                           {"accuracy", percent(o.accuracy(c))}});
        common.output.write(result);
        return 0;
    }

    int run_boxes() const {
        const BoxEvaluation found = evaluate_boxes(detections, boxes);
        const AveragePrecision& p = found.precision;
        char line[96];
        std::snprintf(line, sizeof line, "AP %.2f   AP50 %.2f", 100 * AveragePrecision::mean(p.ap),
                      100 * AveragePrecision::mean(p.ap50));
        common.output.text() << line << std::endl;
        nlohmann::json result = {{"AP", 100 * AveragePrecision::mean(p.ap)},
                                 {"AP50", 100 * AveragePrecision::mean(p.ap50)},
                                 {"config", config}};
        const auto percent = [](const std::optional<double>& x) {
            return x ? nlohmann::json(100 * *x) : nlohmann::json();
        };
        for (std::size_t c = 0; c < found.class_names.size(); ++c)
            result["per_class"].push_back(
                {{"class", found.class_names[c]}, {"AP", percent(p.ap[c])}, {"AP50", percent(p.ap50[c])}});
        common.output.write(result);
        return 0;
    }

    /// A bundle, or all parts of one.
    void require_whole() const {
        require(spec.in_parts() != !spec.bundle.empty(),
                "evaluate: give a student bundle, or --weights, --prompts and --class-vectors");
        require(!spec.in_parts() || (!spec.model.path.empty() && !spec.learned.empty() && !spec.class_vectors.empty()),
                "evaluate: a student in parts needs all of --weights (its CLIP), --prompts (its checkpoint) and "
                "--class-vectors");
    }
};

/// What is measured on pixels and boxes instead of whole images.
void add_mask_options(CLI::App& c, Evaluate& o) {
    const auto quiet = [](CLI::Option* option) { option->group("Pixels and boxes")->configurable(false); };
    quiet(c.add_option("--masks", o.masks.root,
                       "folder of pictures with masks, in place of --data: mIoU and accuracies of pixels"));
    quiet(c.add_option("--layout", o.masks.layout, "its layout, where several fit: " + mask_layout_names())
              ->check(parsed_by(&mask_layout)));
    quiet(c.add_option("--method", o.dense.spec.queries.dense.method, "what the last block is: " + dense_method_names())
              ->check(parsed_by(&dense_method)));
    quiet(c.add_option("--sigma", o.dense.spec.queries.dense.sigma, "of naclip's Gaussian, in patches")
              ->check(positive()));
    quiet(c.add_option("--positions", o.dense.positions, "positions at another size: shifted or size")
              ->check(CLI::IsMember({"shifted", "size"})));
    quiet(c.add_option("--window", o.dense.spec.windows.window, "side of sliding windows; 0: the whole picture")
              ->check(whole_from(0, most_pixels)));
    quiet(c.add_option("--stride", o.dense.spec.windows.stride, "from a window to the next; 0: half a window")
              ->check(whole_from(0, most_pixels)));
    quiet(c.add_option("--odd-windows", o.dense.odd, "stretch or pad")->check(CLI::IsMember({"stretch", "pad"})));
    quiet(c.add_option("--short-side", o.dense.spec.short_side, "pictures are resized to it first; 0: as they are")
              ->check(whole_from(0, most_pixels)));
    quiet(c.add_option("--logit-scale", o.dense.spec.decision.logit_scale, "factor of the cosines")->check(positive()));
    quiet(c.add_option("--threshold", o.dense.spec.decision.threshold, "a pixel less sure than that becomes class 0")
              ->check(fraction()));
    quiet(c.add_option("--background", o.dense.background, "words of a class 0, background, separated by commas"));
    quiet(c.add_option("--pamr", o.dense.pamr, "steps of refinement by the picture's colours")
              ->check(whole_from(0, 1000)));
    quiet(repeatable(c.add_option("--template", o.dense.texts.patterns, "with --weights: prompt text with {}")));
    quiet(c.add_option("--templates", o.dense.texts.set, "with --weights: an ensemble of prompt texts"));
    quiet(c.add_option("--vocab", o.common.vocab, "with --weights: the model's tokenizer"));
    quiet(c.add_option("--detections", o.detections,
                       "COCO's results JSON (detect --out), in place of a model: average precision"));
    quiet(c.add_option("--boxes", o.boxes, "with --detections: the true boxes, COCO's annotations"));
}

}  // namespace

void add_evaluate(CLI::App& app, Action& action) {
    auto o = std::make_shared<Evaluate>();
    CLI::App& c = *app.add_subcommand("evaluate", "accuracy of a distilled student on labelled images");
    c.add_option("bundle,--bundle", o->spec.bundle, "student bundle written by distill");
    c.add_option("--weights", o->common.weights, "instead of a bundle: CLIP weights of the student");
    c.add_option("--prompts", o->spec.learned, "with --weights: checkpoint of a PromptKD student");
    c.add_option("--class-vectors", o->spec.class_vectors,
                 "with --weights: file with the tensor class_vectors (classes, e) of its teacher");
    c.add_option("--class-names", o->class_names, class_names_files);
    add_weights_options(c, o->common.weights_options);
    add_exif_rotate(c);
    add_evaluation_data(c, o->common, o->spec.data, o->split);
    c.get_option("--data")->required(false);
    add_mask_options(c, *o);
    c.add_option("--batch", o->spec.batch, "images at a time")->check(whole_from(1))->capture_default_str();
    c.add_flag("--per-image", o->spec.per_image,
               "also write of each image what it is taken for, how far the distilled student is trusted there, and how "
               "far the image is from those of the distillation (above 1: unfamiliar)");
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        if (o->common.data.empty() && o->masks.root.empty() && o->detections.empty())
            throw CLI::RequiredError("--data");
        if (o->detections.empty() != o->boxes.empty())
            throw CLI::ValidationError("--detections", "goes with --boxes, the true ones");
        o->config = resolved(c);
        if (!o->spec.per_image) o->config.erase("per-image");
        o->check_use(c);
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
