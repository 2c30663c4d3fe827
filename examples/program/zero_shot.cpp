// SPDX-License-Identifier: Apache-2.0
// `promptkd zero-shot`: CLIP's accuracy from class names alone, with or without learned prompts.
#include "commands.hpp"
#include "evaluation_options.hpp"
#include "text_options.hpp"

#include <promptkd/experiment/zero_shot.hpp>

namespace promptkd::cli {

namespace {

struct ZeroShotCommand {
    Common common;
    ZeroShotSpec spec;
    TextFlags texts;
    std::string class_names, split = "test";
    nlohmann::json config;

    int run() {
        texts.apply(common.data, spec.pattern, spec.text, config);
        spec.model = model_file(common);
        spec.vocabulary = vocabulary_path(common, common.weights);
        finish_data(spec.data, common, split, class_names);
        spec.storage = common.storage();
        ProgramObserver observer(common.output);
        EvaluationResult found;
        with_device<CpuPrecisions::encoders>(common,
                                             [&](auto& device) { found = promptkd::run(device, spec, observer); });
        write_evaluation(found, config, common.output);
        return 0;
    }
};

}  // namespace

void add_zero_shot(CLI::App& app, Action& action) {
    auto o = std::make_shared<ZeroShotCommand>();
    CLI::App& c = *app.add_subcommand("zero-shot", "accuracy of a CLIP model from class names alone");
    c.add_option("--weights", o->common.weights, "CLIP weights")->required();
    add_weights_options(c, o->common.weights_options);
    c.add_option("--prompts", o->spec.prompts, "learned prompts: " + prompt_files());
    add_exif_rotate(c);
    add_vocabulary(c, o->common);
    add_evaluation_data(c, o->common, o->spec.data, o->split);
    c.add_option("--class-names", o->class_names, class_names_files);
    add_text_options(c, o->texts);
    c.add_option("--batch", o->spec.batch, "images at a time")->check(whole_from(1))->capture_default_str();
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        o->config = resolved(c);
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
