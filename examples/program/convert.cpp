// SPDX-License-Identifier: Apache-2.0
// `promptkd convert` and `promptkd inspect`: weight files of any origin. No device is involved.
#include "commands.hpp"
#include "inspect_data.hpp"
#include "models.hpp"

#include <promptkd/clip/checkpoint/convert.hpp>
#include <promptkd/clip/checkpoint/inventory.hpp>

namespace promptkd::cli {

namespace {

struct Convert {
    Common common;
    std::string target;

    int run() const {
        const TensorMap map = load_weights(common);
        convert_weights(map, parse_weights_target(target), common.out);
        common.output.text() << common.out << ": " << name_of(classify_weights(map)) << ", " << map.tensors.size()
                             << " tensors, layout " << target << std::endl;
        common.output.write({{"file", common.out},
                             {"kind", name_of(classify_weights(map))},
                             {"tensors", map.tensors.size()},
                             {"layout", target}});
        return 0;
    }
};

/// What a weight file holds, as JSON.
class Description {
public:
    explicit Description(const TensorMap& map) : map_(map), kind_(classify_weights(map)) {
        info_ = {{"file", map.source}, {"kind", name_of(kind_)}, {"tensors", map.tensors.size()}};
        for (const char* key : {"file_format", "naming", "learner", "epoch"})
            if (map.metadata.count(key) != 0) info_[key] = map.metadata.at(key);
        count();
        if (kind_ == WeightsKind::clip) describe_model(map);
        if (kind_ == WeightsKind::bundle) describe_bundle();
        if (kind_ == WeightsKind::learner || kind_ == WeightsKind::bundle) describe_learned();
    }

    const nlohmann::json& json() const { return info_; }

private:
    void count() {
        std::map<std::string, Index> types;
        Index parameters = 0;
        for (const auto& [name, tensor] : map_.tensors) {
            types[name_of(tensor.dtype)] += tensor.count();
            parameters += tensor.count();
        }
        info_["parameters"] = parameters;
        info_["dtypes"] = types;
    }

    void describe_model(const TensorMap& model) {
        const Inventory inventory = clip_inventory(model);
        info_["missing"] = inventory.missing;
        info_["unknown"] = inventory.unknown;
        const auto gelu = model.metadata.find("gelu");
        info_["activation"] = gelu == model.metadata.end() ? "unknown: --activation or --model-config decides"
                              : gelu->second == "quick"    ? "quick_gelu"
                                                           : "gelu";
        try {
            if (schema::has_vision_transformer(model)) describe_vision(vision_config(model));
            if (schema::has_text_branch(model)) describe_text(text_config(model));
        } catch (const Error& error) {
            info_["problem"] = error.what();
        }
    }
    void describe_vision(const VisionConfig& v) {
        info_["vision"] = {{"width", v.width}, {"layers", v.layers},           {"heads", v.heads},
                           {"patch", v.patch}, {"resolution", v.resolution()}, {"embed", v.embed}};
    }
    void describe_text(const TextConfig& t) {
        info_["text"] = {{"width", t.width},
                         {"layers", t.layers},
                         {"heads", t.heads},
                         {"vocabulary", t.vocabulary},
                         {"context_length", t.context_length},
                         {"embed", t.embed},
                         {"eot", t.end_id < 0 ? nlohmann::json("argmax") : nlohmann::json(t.end_id)}};
    }

    void describe_bundle() {
        TensorMap clip;
        clip.metadata = map_.metadata;
        clip.source = map_.source;
        for (const auto& [name, tensor] : map_.tensors)
            if (name.rfind("clip.", 0) == 0) clip.tensors[name.substr(5)] = tensor;
        describe_model(clip);
        const auto names = map_.metadata.find("class_names");
        if (names != map_.metadata.end()) info_["class_names"] = nlohmann::json::parse(names->second, nullptr, false);
    }

    void describe_learned() {
        try {
            const TensorMap prompts = independent_prompts(map_);
            const PromptDesign visual = visual_prompt_design(prompts), text = text_prompt_design(prompts);
            if (visual.tokens > 0) info_["visual_prompts"] = {{"vectors", visual.tokens}, {"depth", visual.depth}};
            if (text.tokens > 0) info_["text_prompts"] = {{"vectors", text.tokens}, {"depth", text.depth}};
        } catch (const Error& error) {
            info_["problem"] = error.what();
        }
        if (map_.contains("VPT_image_trans.conv1.0.weight")) {
            Index layers = 1;
            while (map_.contains("VPT_image_trans.conv1." + std::to_string(3 * layers) + ".weight")) ++layers;
            info_["projector_layers"] = layers;
        }
    }

    const TensorMap& map_;
    WeightsKind kind_;
    nlohmann::json info_;
};

struct Inspect {
    Common common;

    int run() {
        require(common.data.empty() != common.weights.empty(), "inspect: give a weight file or --data NAME:ROOT");
        if (!common.data.empty()) {
            inspect_data(common.data, common.output);
            return 0;
        }
        common.weights_options.require_activation = false;
        const TensorMap map = load_weights(common);
        const nlohmann::json info = Description(map).json();
        if (common.output.json != "-")
            for (const auto& [key, value] : info.items())
                std::cout << key << ": " << (value.is_string() ? value.get<std::string>() : value.dump()) << "\n";
        common.output.write(info);
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
                 "openai (safetensors), huggingface, open_clip (safetensors and JSON), or checkpoint (the published "
                 "trainers' torch.save layout)")
        ->required()
        ->check(CLI::IsMember({"openai", "huggingface", "open_clip", "checkpoint"}));
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
                 "NAME:ROOT: sizes of a data set, a benchmark's beside the published ones, and what is missing");
    add_weights_options(c, o->common.weights_options);
    add_json(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

}  // namespace promptkd::cli
