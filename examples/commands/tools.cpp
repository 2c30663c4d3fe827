// SPDX-License-Identifier: Apache-2.0
// `promptkd tokenize` and `promptkd inspect`: looking into texts and files. No device is involved.
#include "../cli/models.hpp"
#include "commands.hpp"

#include <set>

namespace promptkd::cli {

namespace {

struct Tokenize {
    Common common;
    std::vector<std::string> texts;

    int run() const {
        const Tokenizer tokenizer = Tokenizer::from_file(vocabulary_path(common));
        nlohmann::json all = nlohmann::json::array();
        for (const std::string& text : texts) all.push_back(tokenizer.encode(text));
        for (std::string line; texts.empty() && std::getline(std::cin, line);) {
            if (!line.empty() && line.back() == '\r') line.pop_back();
            all.push_back(tokenizer.encode(line));
        }
        std::cout << all.dump() << std::endl;
        if (common.output.json != "-") common.output.write(all);
        return 0;
    }
};

/// What a weight file holds, as JSON.
nlohmann::json describe(const TensorMap& map) {
    nlohmann::json info = {{"file", map.source}, {"tensors", map.tensors.size()}};
    std::map<std::string, Index> types;
    Index parameters = 0;
    for (const auto& [name, tensor] : map.tensors) {
        types[name_of(tensor.dtype)] += tensor.count();
        parameters += tensor.count();
    }
    info["parameters"] = parameters;
    info["dtypes"] = types;
    TensorMap clip = map;
    const bool bundle = map.metadata.count("class_names") != 0;
    if (bundle) {
        info["kind"] = "student bundle";
        info["class_names"] = nlohmann::json::parse(map.metadata.at("class_names"), nullptr, false);
        clip.tensors.clear();
        for (const auto& [name, tensor] : map.tensors)
            if (name.rfind("clip.", 0) == 0) clip.tensors[name.substr(5)] = tensor;
    }
    if (clip.contains("visual.conv1.weight") && clip.contains("visual.proj")) {
        const VisionConfig v = vision_config(clip);
        info["vision"] = {{"width", v.width}, {"layers", v.layers}, {"heads", v.heads}, {"patch", v.patch}, {"resolution", v.resolution()}, {"embed", v.embed}};
        info["activation"] = gelu_of(clip) == Gelu::quick ? "quick_gelu" : "gelu";
        if (!bundle) info["kind"] = "CLIP";
    }
    if (clip.contains("token_embedding.weight")) {
        const TextConfig t = text_config(clip);
        info["text"] = {{"width", t.width}, {"layers", t.layers}, {"heads", t.heads}, {"vocabulary", t.vocabulary}, {"context_length", t.context_length},
                        {"embed", t.embed}};
    }
    const PromptDesign visual = visual_prompt_design(map), text = text_prompt_design(map);
    if (visual.tokens > 0) info["visual_prompts"] = {{"vectors", visual.tokens}, {"depth", visual.depth}};
    if (text.tokens > 0) info["text_prompts"] = {{"vectors", text.tokens}, {"depth", text.depth}};
    if (!info.contains("kind")) info["kind"] = visual.tokens > 0 || text.tokens > 0 ? "prompts" : "tensors";
    return info;
}

struct Inspect {
    Common common;
    std::string file;

    int run() const {
        const nlohmann::json info = describe(read_weights(file));
        if (common.output.json != "-")
            for (const auto& [key, value] : info.items()) std::cout << key << ": " << (value.is_string() ? value.get<std::string>() : value.dump()) << "\n";
        common.output.write(info);
        return 0;
    }
};

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
    auto o = std::make_shared<Tokenize>();
    CLI::App& c = *app.add_subcommand("tokenize", "token ids of texts (or of the lines of standard input), without start and end tokens");
    c.add_option("texts", o->texts, "texts")->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    add_vocabulary(c, o->common);
    add_json(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

void add_inspect(CLI::App& app, Action& action) {
    auto o = std::make_shared<Inspect>();
    CLI::App& c = *app.add_subcommand("inspect", "architecture, sizes, types and prompts of a weight file or bundle");
    c.add_option("file,--weights", o->file, "weight file, prompts or student bundle")->required();
    add_json(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

}  // namespace promptkd::cli
