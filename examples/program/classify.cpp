// SPDX-License-Identifier: Apache-2.0
// `promptkd classify`: the most likely classes of images, from a student bundle, or from a CLIP model with class names.
#include "commands.hpp"
#include "image_answers.hpp"
#include "serving/serve.hpp"
#include "text_options.hpp"

#include <promptkd/data/image_inputs.hpp>
#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/experiment/clip_classification.hpp>
#include <promptkd/format/image.hpp>

#include <iostream>

namespace promptkd::cli {

namespace {

/// A cell of a CSV line.
std::string csv_cell(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + "\"";
}

struct Classify {
    Common common;
    std::string bundle, class_names, format = "text";
    std::vector<std::string> inputs;
    ClipClassifierSpec clip;
    TextFlags texts;
    Index top = 5;
    double threshold = 0;
    bool flag_unfamiliar = false;
    std::string address;  ///< of --serve; empty: the images are answered and that is all
    ServeOptions serving;

    int run() {
        if (!common.weights.empty()) {
            if (!bundle.empty()) inputs.insert(inputs.begin(), bundle);  // the first word is an image then
            finish_clip();
        }
        int status = 0;
        with_device<CpuPrecisions::encoders>(common, [&](auto& device) { status = classify(device); });
        return status;
    }

    bool serves() const { return !address.empty(); }

private:
    void finish_clip() {
        require(!class_names.empty(), "classify: a CLIP model needs --class-names");
        nlohmann::json unused;
        texts.apply("folder:.", clip.pattern, clip.text, unused);
        clip.model = model_file(common);
        clip.vocabulary = vocabulary_path(common, common.weights);
        clip.class_names = names_of_option("--class-names", class_names);
        clip.storage = common.storage();
        if (serves()) clip.max_batch = static_cast<Index>(serving.batches.batch);
    }

    /// Weights in the form that pays from the second image on, where there will be more.
    WeightStorage bundle_storage() const {
        if (common.precision == "int8") return WeightStorage::int8;
        return serves() ? WeightStorage::packed : WeightStorage::native;
    }

    template <class D>
    int classify(D& device) const {
        ProgramObserver observer(common.output);
        if (!common.weights.empty()) {
            ClipImageClassifier<D> model(device, clip, observer);
            return answer_all(model);
        }
        const TensorMap map = load_bundle(bundle, common.weights_options.images, observer);
        const Index together = serves() ? static_cast<Index>(serving.batches.batch) : 1;
        Classifier<D> student(device, map, together, bundle_storage());
        return answer_all(student);
    }

    /// The files that are named, "-" standing for the lines of standard input.
    std::vector<std::string> files() const {
        std::vector<std::string> names;
        for (const std::string& input : inputs) {
            if (input != "-") {
                names.push_back(input);
                continue;
            }
            for (std::string line; std::getline(std::cin, line);) {
                if (!line.empty() && line.back() == '\r') line.pop_back();
                if (!line.empty()) names.push_back(line);
            }
        }
        return image_inputs(names);
    }

    template <class C>
    int answer_all(C& classifier) const {
        ImageAnswers answers;
        require(!flag_unfamiliar || classifier.has_guard(), bundle,
                ": --flag-unfamiliar needs a student with a guard; distil with --guard or --fit closed-form");
        if (serves()) return serve(classifier);
        const char* more = flag_unfamiliar ? ",unfamiliar" : "";
        if (format == "csv" && prints()) std::cout << "file,rank,class,probability" << more << std::endl;
        for (const std::string& file : files()) {
            answers.add(file, [&] { return answer(classifier, file); });
            const nlohmann::json& last = answers.all().back();
            if (prints() && (format != "text" || !last.contains("error"))) print(last);
        }
        common.output.write(answers.all());
        return answers.status();
    }

    template <class C>
    int serve(C& classifier) const {
#if defined(PROMPTKD_PROGRAM_HTTP)
        ServeOptions options = serving;
        options.top = top;
        const auto describe = [&](const std::string& file, const Classification& found) {
            return described(classifier, file, found);
        };
        const auto classes = static_cast<Index>(classifier.class_names().size());
        ServedClassifier served(options, classifier.preprocessing(), describe);
        served.run([&](std::span<const Image> images) { return classifier.judge_prepared(images, classes); });
#else
        static_cast<void>(classifier);
#endif
        return 0;
    }

    template <class C>
    nlohmann::json answer(C& classifier, const std::string& file) const {
        return described(classifier, file, classifier.judge(read_image(file), top));
    }

    template <class C>
    nlohmann::json described(const C& classifier, const std::string& file, const Classification& found) const {
        nlohmann::json list = nlohmann::json::array();
        for (const ClassProbability& one : found.top)
            if (one.probability >= threshold) list.push_back({{"class", one.name}, {"probability", one.probability}});
        nlohmann::json answer = {{"file", file}, {"top", std::move(list)}};
        if (classifier.is_mixed()) answer["weight"] = found.weight;
        if (classifier.has_guard()) answer["distance"] = found.distance;
        if (flag_unfamiliar) answer["unfamiliar"] = found.distance > 1;
        return answer;
    }

    bool prints() const { return common.output.json != "-"; }

    void print(const nlohmann::json& answer) const {
        if (format == "jsonl")
            std::cout << json_text(answer) << std::endl;
        else if (format == "csv")
            print_csv(answer);
        else
            print_text(answer);
    }

    /// A line for each class; a file without one has a line too.
    static void print_csv(const nlohmann::json& answer) {
        const std::string file = csv_cell(printable(answer.at("file").get<std::string>()));
        const std::string more = answer.contains("unfamiliar") ? "," + answer.at("unfamiliar").dump() : "";
        if (!answer.contains("top") || answer.at("top").empty()) {
            std::cout << file << ",,," << more << std::endl;
            return;
        }
        Index rank = 0;
        for (const nlohmann::json& one : answer.at("top"))
            std::cout << file << "," << ++rank << "," << csv_cell(one.at("class").get<std::string>()) << ","
                      << one.at("probability").dump() << more << std::endl;
    }

    void print_text(const nlohmann::json& answer) const {
        std::cout << printable(answer.at("file").get<std::string>());
        char text[32];
        for (const nlohmann::json& one : answer.at("top")) {
            std::snprintf(text, sizeof text, " %.1f%%", 100 * one.at("probability").get<double>());
            std::cout << "  " << one.at("class").get<std::string>() << text;
        }
        if (answer.at("top").empty()) std::cout << "  (no class of " << threshold << " or more)";
        if (answer.value("unfamiliar", false)) {
            std::snprintf(text, sizeof text, "%.2f", answer.at("distance").get<double>());
            std::cout << "  unfamiliar (distance " << text << ")";
        }
        std::cout << std::endl;
    }
};

constexpr const char* server_group = "Server";

void add_server_options(CLI::App& c, Classify& o) {
    const auto add = [&](const char* name, auto& value, const char* help) {
        return c.add_option(name, value, help)->group(server_group)->capture_default_str();
    };
    add("--serve", o.address,
        "answer HTTP requests instead: a port of this machine, HOST:PORT or the path of a socket; POST /classify takes "
        "the bytes of an image");
    add("--max-batch", o.serving.batches.batch, "images that are computed together")->check(whole_from(1, 4096));
    add("--max-waiting", o.serving.batches.waiting, "images that wait; more are refused with 503")
        ->check(whole_from(1, 1000000));
    add("--max-body", o.serving.http.body, "bytes of a request; more are refused with 413")->check(whole_from(1));
    add("--max-pixels", o.serving.max_pixels, "of a picture; more are refused")->check(whole_from(1));
    add("--max-connections", o.serving.http.connections, "at a time; more wait")->check(whole_from(1, 512));
    add("--max-seconds", o.serving.http.seconds, "of sending a request, and of waiting for its answer")
        ->check(positive());
}

/// What goes with --serve, and what goes without it.
void check_server_options(const CLI::App& c, Classify& o) {
    const bool serves = c.get_option("--serve")->count() > 0;
    for (const CLI::Option* option : c.get_options())
        if (option->get_group() == server_group && option->count() > 0 && !serves)
            throw CLI::ValidationError(option->get_name(), "goes with --serve");
    if (!serves) return;
#if !defined(PROMPTKD_PROGRAM_HTTP)
    throw CLI::ValidationError("--serve", "this program was built without cpp-httplib (Debian: libcpp-httplib-dev)");
#endif
    for (const char* name : {"--format", "--json"})
        if (c.get_option(name)->count() > 0) throw CLI::ValidationError(name, "does not go with --serve");
    if (!o.inputs.empty() || (!o.common.weights.empty() && !o.bundle.empty()))
        throw CLI::ValidationError("images", "do not go with --serve; clients send them");
    const double seconds = o.serving.http.seconds;
    if (seconds > 86400) throw CLI::ValidationError("--max-seconds", "must be at most 86400, a day");
    o.serving.batches.patience = std::chrono::milliseconds(std::max(1LL, static_cast<long long>(1000 * seconds)));
    try {
        o.serving.address = parse_http_address(o.address);
    } catch (const std::invalid_argument& error) {
        throw CLI::ValidationError("--serve", error.what() + (", found " + printable(o.address)));
    }
}

}  // namespace

void add_classify(CLI::App& app, Action& action) {
    auto o = std::make_shared<Classify>();
    CLI::App& c = *app.add_subcommand(
        "classify", "the most likely classes of images, from a student bundle alone or a CLIP model with class names");
    c.add_option("bundle,--bundle", o->bundle, "student bundle written by distill (not with --weights)");
    c.add_option("images", o->inputs,
                 "images, folders of images, lists (.csv, .tsv, .txt, .json, .jsonl), or -: a path a line of standard "
                 "input")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    c.add_option("--weights", o->common.weights, "instead of a bundle: CLIP weights");
    c.add_option("--prompts", o->clip.prompts, "with --weights: learned prompts: " + prompt_files());
    c.add_option("--class-names", o->class_names, std::string("with --weights: ") + class_names_files);
    add_weights_options(c, o->common.weights_options);
    add_exif_rotate(c);
    add_vocabulary(c, o->common);
    add_text_options(c, o->texts);
    c.add_option("--top", o->top, "classes printed for each image")->check(whole_from(1))->capture_default_str();
    c.add_option("--threshold", o->threshold, "classes of this probability or more alone")
        ->check(fraction())
        ->capture_default_str();
    c.add_flag("--flag-unfamiliar", o->flag_unfamiliar,
               "mark images unlike those of the distillation (a student with a guard): about one of twenty of those "
               "themselves, more of everything else");
    c.add_option("--format", o->format,
                 "what is printed: text, csv (a line for each class) or jsonl (one for each image)")
        ->check(CLI::IsMember({"text", "csv", "jsonl"}))
        ->capture_default_str();
    add_server_options(c, *o);
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        check_server_options(c, *o);
        for (const char* name :
             {"--prompts", "--class-names", "--template", "--templates", "--descriptions", "--truncate"})
            if (o->common.weights.empty() && c.get_option(name)->count() > 0)
                throw CLI::ValidationError(name,
                                           "goes with --weights; a student bundle has its classes and their texts");
        if (o->bundle.empty() && o->common.weights.empty()) throw CLI::RequiredError("bundle");
        const bool none = o->inputs.empty() && (o->common.weights.empty() || o->bundle.empty());
        if (none && !o->serves()) throw CLI::RequiredError("images");
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
