// SPDX-License-Identifier: Apache-2.0
// `promptkd zero-shot`: CLIP's accuracy from class names alone, with or without learned prompts.
#include "commands.hpp"
#include "models.hpp"

namespace promptkd::cli {

namespace {

struct ZeroShot {
    Common common;
    std::string prompts, class_names, pattern, split = "test";
    Index images = 0, batch = 64;
    nlohmann::json config;

    int run() {
        if (pattern.empty()) pattern = default_template(common.data);
        config["template"] = pattern;
        with_device(common, [&](auto& device) { evaluate(device); });
        return 0;
    }

    template <class D>
    void evaluate(D& device) const {
        const TensorMap weights = load_weights(common);
        const ClipModel<D> model(device, weights, WeightStorage::packed);
        const TensorMap learned = prompts.empty() ? TensorMap{} : load_prompts(prompts);
        const TensorMap* with = prompts.empty() ? nullptr : &learned;
        std::vector<std::string> names;
        if (!class_names.empty()) names = read_class_names(class_names);
        Dataset data = open_dataset(common.data, split == "train" ? Split::train : Split::test, names);
        if (images > 0) data = take(data, images);
        const Tokenizer tokenizer = Tokenizer::from_file(vocabulary_path(common));
        const TokenRows tokens =
            tokenize_classes(tokenizer, model.text().config(), common.weights, data.class_names, pattern);
        const auto vectors = promptkd::class_vectors(device, model, tokens, with);
        FrozenImageTower<D> tower(device, model, with, batch);
        const auto features =
            features_with_progress(device, data, tower.resolution(), tower.embed(), batch, "zero-shot",
                                   [&](const auto* x, Index n) { return tower.encode(x, n); });
        nlohmann::json result = evaluation_json(device, features, vectors, data.class_names, common.classes);
        common.output.text() << evaluation_line(result) << std::endl;
        result["config"] = config;
        common.output.write(result);
    }
};

}  // namespace

void add_zero_shot(CLI::App& app, Action& action) {
    auto o = std::make_shared<ZeroShot>();
    CLI::App& c = *app.add_subcommand("zero-shot", "accuracy of a CLIP model from class names alone");
    c.add_option("--weights", o->common.weights, "CLIP weights")->required();
    add_weights_options(c, o->common.weights_options);
    c.add_option("--prompts", o->prompts,
                 "learned prompts: safetensors, or a checkpoint of CoOp, VPT, IVLP, MaPLe or PromptSRC");
    add_vocabulary(c, o->common);
    c.add_option("--data", o->common.data,
                 "NAME:ROOT (fashion-mnist:ROOT, folder:ROOT, list:FILE, or a benchmark: imagenet, caltech101, …)")
        ->required();
    c.add_option("--split", o->split, "train or test")->check(CLI::IsMember({"train", "test"}))->capture_default_str();
    c.add_option("--classes", o->common.classes, "base, new or all (default: the three and their harmonic mean)")
        ->check(CLI::IsMember({"base", "new", "all"}));
    c.add_option("--class-names", o->class_names, "file with one class name a line");
    c.add_option("--template", o->pattern,
                 "prompt text with {} for the class name (default: the published one of the data set)");
    c.add_option("--images", o->images, "only the first so many images; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--batch", o->batch, "images at a time")->check(CLI::PositiveNumber)->capture_default_str();
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] { o->config = resolved(c), action = [o] { return o->run(); }; });
}

}  // namespace promptkd::cli
