// SPDX-License-Identifier: Apache-2.0
// `promptkd convert` and `promptkd inspect`: weight files of any origin. No device is involved.
#include "commands.hpp"
#include "inspect_data.hpp"
#include "models.hpp"

#include <promptkd/clip/checkpoint/convert.hpp>
#include <promptkd/experiment/inspection.hpp>

namespace promptkd::cli {

namespace {

struct Convert {
    Common common;
    std::string target;

    int run() const {
        if (target == "huggingface" || target == "peft")
            require_creatable(common.out);
        else
            require_writable(common.out);
        const TensorMap map = load_weights(common);
        const WeightsTarget layout = parse_weights_target(target);
        const WrittenWeights written = convert_weights(map, layout, common.out);
        const std::string lost = lost_in_conversion(map, layout);
        if (!lost.empty()) std::cerr << "warning: " << map.source << ": " << lost << std::endl;
        common.output.text() << common.out << ": " << written.kind << ", " << written.tensors << " tensors, layout "
                             << target << std::endl;
        common.output.write(
            {{"file", common.out}, {"kind", written.kind}, {"tensors", written.tensors}, {"layout", target}});
        return 0;
    }
};

nlohmann::json to_json(const ModelInspection& model) {
    nlohmann::json json = {{"missing", model.inventory.missing}, {"unknown", model.inventory.unknown}};
    json["activation"] = !model.activation                  ? "unknown: --activation or --model-config decides"
                         : *model.activation == Gelu::quick ? "quick_gelu"
                         : *model.activation == Gelu::exact ? "gelu"
                                                            : "gelu_tanh";
    if (!model.vision_description.is_null()) json["vision"] = model.vision_description;
    if (!model.text_description.is_null()) json["text"] = model.text_description;
    if (model.logit_bias) json["bias_of_logits"] = *model.logit_bias;
    if (!model.dropped.empty()) json["not_used"] = model.dropped;
    if (model.preprocessing) json["preprocessing"] = promptkd::to_json(*model.preprocessing);
    return json;
}

nlohmann::json to_json(const Mixture& m) {
    return {{"weight", m.weight},
            {"temperature", m.temperature},
            {"distilled_scale", m.distilled_scale},
            {"zero_shot_scale", m.zero_shot_scale},
            {"features", m.features == MixtureFeatures::plain ? "plain" : "prompted"},
            {"width", m.width}};
}

/// What a weight file holds, as JSON.
nlohmann::json to_json(const WeightsInspection& what, const std::string& file) {
    nlohmann::json json = {{"file", file},
                           {"kind", name_of(what.kind)},
                           {"tensors", what.tensors},
                           {"parameters", what.parameters},
                           {"dtypes", what.dtypes}};
    for (const auto& [key, value] : what.origin) json[key] = value;
    if (what.model) json.update(to_json(*what.model));
    if (!what.class_names.empty()) json["class_names"] = what.class_names;
    const auto add_prompts = [&](const char* key, const PromptDesign& design) {
        if (design.tokens > 0) json[key] = {{"vectors", design.tokens}, {"depth", design.depth}};
    };
    add_prompts("visual_prompts", what.visual_prompts);
    add_prompts("text_prompts", what.text_prompts);
    if (what.projector_layers > 0) json["projector_layers"] = what.projector_layers;
    if (what.projector_width > 0) json["projector_width"] = what.projector_width;
    if (!what.features.empty()) json["features"] = what.features;
    if (what.mixture) json["mixture"] = to_json(*what.mixture);
    if (what.mixture && what.mixture->guard)
        json["guard"] = {{"images", what.mixture->guard->images}, {"cutoff", what.mixture->guard->cutoff}};
    if (!what.problem.empty()) json["problem"] = what.problem;
    return json;
}

struct Inspect {
    Common common;
    std::string class_names;

    int run() {
        require(common.data.empty() != common.weights.empty(), "inspect: give a weight file or --data NAME:ROOT");
        if (!common.data.empty()) {
            inspect_data(common.data,
                         class_names.empty() ? ClassNames() : names_of_option("--class-names", class_names),
                         common.output);
            return 0;
        }
        common.weights_options.require_activation = false;
        common.weights_options.check_values = false;  // a problem among others, see inspect_weights()
        const TensorMap map = load_weights(common);
        const WeightsInspection found = inspect_weights(map);
        const nlohmann::json info = to_json(found, map.source);
        if (common.output.json != "-")
            for (const auto& [key, value] : info.items())
                std::cout << key << ": " << (value.is_string() ? value.get<std::string>() : json_text(value)) << "\n";
        common.output.write(info);
        require(found.problem.find("NaN") == std::string::npos, map.source, ": ", found.problem);
        return 0;
    }
};

}  // namespace

void add_convert(CLI::App& app, Action& action) {
    auto o = std::make_shared<Convert>();
    CLI::App& c =
        *app.add_subcommand("convert", "rewrite weights or learned parameters in another layout, values unchanged");
    c.add_option("in,--weights", o->common.weights,
                 "weights or checkpoint: .pt, .safetensors, .bin, .pth.tar, or a folder")
        ->required();
    c.add_option("out,--out", o->common.out, "file to write (huggingface: a folder)")->required();
    c.add_option("--to", o->target,
                 "openai (safetensors), huggingface, open_clip (safetensors and JSON), checkpoint (the published "
                 "trainers' torch.save layout), or peft (a folder with a student's low-rank updates)")
        ->required()
        ->check(CLI::IsMember({"openai", "huggingface", "open_clip", "checkpoint", "peft"}));
    add_weights_options(c, o->common.weights_options);
    add_json(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

void add_inspect(CLI::App& app, Action& action) {
    auto o = std::make_shared<Inspect>();
    CLI::App& c = *app.add_subcommand("inspect",
                                      "format, architecture, sizes, types, learner, missing and unknown tensors of a "
                                      "weight file; or what a data set holds");
    c.add_option("file,--weights", o->common.weights,
                 "weights, checkpoint, prompts or student bundle; a file or a folder");
    c.add_option("--data", o->common.data,
                 "NAME:ROOT: what a run uses of a data set, a benchmark's sizes beside the published ones, and what is "
                 "missing");
    c.add_option("--class-names", o->class_names, class_names_files);
    add_weights_options(c, o->common.weights_options);
    add_json(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

}  // namespace promptkd::cli
