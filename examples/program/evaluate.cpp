// SPDX-License-Identifier: Apache-2.0
// `promptkd evaluate BUNDLE` and `promptkd classify BUNDLE IMAGE…`: what a distilled student does.
#include "commands.hpp"
#include "models.hpp"

#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/format/image.hpp>
#include <promptkd/image/preprocess.hpp>

#include <numeric>

namespace promptkd::cli {

namespace {

struct Evaluate {
    Common common;
    std::string bundle, prompts, class_vectors, class_names, split = "test";
    Index images = 0, batch = 64;
    nlohmann::json config;

    int run() const {
        const bool parts = !common.weights.empty() || !prompts.empty() || !class_vectors.empty();
        require(parts != !bundle.empty(),
                "evaluate: give a student bundle, or --weights, --prompts and --class-vectors");
        require(!parts || (!common.weights.empty() && !prompts.empty() && !class_vectors.empty()),
                "evaluate: a student in parts needs all of --weights (its CLIP), --prompts (its checkpoint) and "
                "--class-vectors");
        with_device(common,
                    [&](auto& device) { with_ranks(device, [&](const auto& ranks) { evaluate(device, ranks); }); });
        return 0;
    }

    template <class D>
    void evaluate(D& device, const Ranks<D>& ranks) const {
        const TensorMap whole = bundle.empty() ? assemble() : read_weights(bundle);
        Classifier<D> student(device, whole, batch, WeightStorage::packed);
        Dataset data = open_dataset(common.data, part(), student.class_names());
        if (images > 0) data = take(data, images);
        const auto features =
            features_with_progress(device, ranks, data, student.resolution(), student.embed(), batch, "evaluate",
                                   [&](const auto* x, Index n) { return student.encode(x, n); });
        nlohmann::json result =
            evaluation_json(device, features, student.class_vectors(), student.class_names(), common.classes);
        common.output.text() << evaluation_line(result) << std::endl;
        result["config"] = config;
        common.output.write(result);
    }

    Split part() const { return split == "train" ? Split::train : Split::test; }

    /// The bundle that CLIP weights, a published student checkpoint and class vectors make together.
    TensorMap assemble() const {
        std::vector<std::string> names;
        if (!class_names.empty()) names = read_class_names(class_names);
        names = open_dataset(common.data, part(), names).class_names;
        const TensorMap learned = load_weights(prompts);
        const HostTensor& bias = learned.at("VPT_image_trans.conv1.0.bias");
        const HostTensor vectors = read_class_vectors(class_vectors, static_cast<Index>(names.size()), bias.count());
        return assemble_bundle(load_weights(common), learned, vectors, names);
    }
};

struct Classify {
    Common common;
    std::string bundle;
    std::vector<std::string> files;
    Index top = 5;

    int run() const {
        int status = 0;
        with_device(common, [&](auto& device) { status = classify(device); });
        return status;
    }

    template <class D>
    int classify(D& device) const {
        using T = typename D::Scalar;
        Classifier<D> student(device, read_weights(bundle));
        const Index r = student.resolution();
        std::vector<float> pixels(static_cast<std::size_t>(3 * r * r));
        Buffer<D, T> images(device, 3 * r * r);
        nlohmann::json answers = nlohmann::json::array();
        int status = 0;
        for (const std::string& file : files) {
            try {
                normalize_image(preprocess_image(read_image(file), r), pixels.data());
            } catch (const Error& error) {  // the other files are still answered
                std::cerr << "promptkd: " << error.what() << std::endl;
                answers.push_back({{"file", file}, {"error", error.what()}});
                status = 1;
                continue;
            }
            const std::vector<T> converted(pixels.begin(), pixels.end());
            device.upload(images.data(), converted.data(), converted.size() * sizeof(T));
            answers.push_back(
                {{"file", file}, {"top", ranked(student.class_names(), student.probabilities(images.data(), 1))}});
            print(answers.back());
        }
        common.output.write(answers);
        return status;
    }

    template <class T>
    nlohmann::json ranked(const std::vector<std::string>& names, const std::vector<T>& p) const {
        std::vector<std::size_t> order(p.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
        order.resize(std::min(order.size(), static_cast<std::size_t>(top)));
        nlohmann::json list = nlohmann::json::array();
        for (const std::size_t k : order)
            list.push_back({{"class", names[k]}, {"probability", static_cast<double>(p[k])}});
        return list;
    }

    void print(const nlohmann::json& answer) const {
        if (common.output.json == "-") return;
        std::cout << answer.at("file").get<std::string>();
        char text[32];
        for (const auto& entry : answer.at("top")) {
            std::snprintf(text, sizeof text, " %.1f%%", 100 * entry.at("probability").get<double>());
            std::cout << "  " << entry.at("class").get<std::string>() << text;
        }
        std::cout << std::endl;
    }
};

}  // namespace

void add_evaluate(CLI::App& app, Action& action) {
    auto o = std::make_shared<Evaluate>();
    CLI::App& c = *app.add_subcommand("evaluate", "accuracy of a distilled student on labelled images");
    c.add_option("bundle,--bundle", o->bundle, "student bundle written by distill");
    c.add_option("--weights", o->common.weights, "instead of a bundle: CLIP weights of the student");
    c.add_option("--prompts", o->prompts, "with --weights: checkpoint of a PromptKD student");
    c.add_option("--class-vectors", o->class_vectors,
                 "with --weights: file with the tensor class_vectors (classes, e) of its teacher");
    c.add_option("--class-names", o->class_names,
                 "with --weights: file with one class name a line (default: those of --data)");
    add_weights_options(c, o->common.weights_options);
    c.add_option("--data", o->common.data,
                 "NAME:ROOT (fashion-mnist:ROOT, folder:ROOT, list:FILE, or a benchmark: imagenet, caltech101, …)")
        ->required();
    c.add_option("--split", o->split, "train or test")->check(CLI::IsMember({"train", "test"}))->capture_default_str();
    c.add_option("--classes", o->common.classes, "base, new or all (default: the three and their harmonic mean)")
        ->check(CLI::IsMember({"base", "new", "all"}));
    c.add_option("--images", o->images, "only the first so many images; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--batch", o->batch, "images at a time")->check(CLI::PositiveNumber)->capture_default_str();
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] { o->config = resolved(c), action = [o] { return o->run(); }; });
}

void add_classify(CLI::App& app, Action& action) {
    auto o = std::make_shared<Classify>();
    CLI::App& c = *app.add_subcommand("classify", "the most likely classes of images, from a student bundle alone");
    c.add_option("bundle,--bundle", o->bundle, "student bundle written by distill")->required();
    c.add_option("images", o->files, "image files (PNG, JPEG)")
        ->required()
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    c.add_option("--top", o->top, "classes printed for each image")->check(CLI::PositiveNumber)->capture_default_str();
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

}  // namespace promptkd::cli
