// SPDX-License-Identifier: Apache-2.0
// `promptkd evaluate BUNDLE`: accuracy of a distilled student.
#include "commands.hpp"
#include "evaluation_options.hpp"

#include <promptkd/experiment/student_evaluation.hpp>

namespace promptkd::cli {

namespace {

struct Evaluate {
    Common common;
    StudentEvaluationSpec spec;
    std::string class_names, split = "test";
    nlohmann::json config;

    int run() {
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

    /// A bundle, or all parts of one.
    void require_whole() const {
        require(spec.in_parts() != !spec.bundle.empty(),
                "evaluate: give a student bundle, or --weights, --prompts and --class-vectors");
        require(!spec.in_parts() || (!spec.model.path.empty() && !spec.learned.empty() && !spec.class_vectors.empty()),
                "evaluate: a student in parts needs all of --weights (its CLIP), --prompts (its checkpoint) and "
                "--class-vectors");
    }
};

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
    c.add_option("--batch", o->spec.batch, "images at a time")->check(whole_from(1))->capture_default_str();
    c.add_flag("--per-image", o->spec.per_image,
               "also write of each image what it is taken for, how far the distilled student is trusted there, and how "
               "far the image is from those of the distillation (above 1: unfamiliar)");
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        o->config = resolved(c);
        if (!o->spec.per_image) o->config.erase("per-image");
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
