// SPDX-License-Identifier: Apache-2.0
// `promptkd evaluate BUNDLE` and `promptkd classify BUNDLE IMAGE…`: what a distilled student does.
#include "commands.hpp"
#include "evaluation_options.hpp"

#include <promptkd/experiment/classification.hpp>
#include <promptkd/experiment/student_evaluation.hpp>
#include <promptkd/format/image.hpp>

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

struct Classify {
    Common common;
    std::string bundle;
    std::vector<std::string> files;
    Index top = 5;
    bool flag_unfamiliar = false;
    ImageInputOptions input;

    int run() const {
        int status = 0;
        with_device(common, [&](auto& device) { status = classify(device); });
        return status;
    }

    template <class D>
    int classify(D& device) const {
        ProgramObserver observer(common.output);
        ImageClassifier<D> student(device, load_bundle(bundle, input, observer));
        require(!flag_unfamiliar || student.has_guard(), bundle,
                ": --flag-unfamiliar needs a student with a guard; distil with --guard or --fit closed-form");
        nlohmann::json answers = nlohmann::json::array();
        int status = 0;
        for (const std::string& file : files) {
            try {
                const Classification found = student.judge(read_image(file), top);
                nlohmann::json answer = {{"file", file}, {"top", to_json(found.top)}};
                if (student.is_mixed()) answer["weight"] = found.weight;
                if (student.has_guard()) answer["distance"] = found.distance;
                if (flag_unfamiliar) answer["unfamiliar"] = found.distance > 1;
                answers.push_back(std::move(answer));
                print(file, found);
            } catch (const Error& error) {  // the other files are still answered
                answers.push_back(refused(file, error.what()));
                status = 1;
            } catch (const std::bad_alloc&) {
                answers.push_back(refused(file, concat(file, ": this image is too large for the memory there is")));
                status = 1;
            }
        }
        common.output.write(answers);
        return status;
    }

    /// The answer for an image that has none.
    static nlohmann::json refused(const std::string& file, const std::string& what) {
        std::cerr << "promptkd: " << printable(what) << std::endl;
        skipped_images().insert(what);
        return {{"file", file}, {"error", what}};
    }

    static nlohmann::json to_json(const std::vector<ClassProbability>& best) {
        nlohmann::json list = nlohmann::json::array();
        for (const ClassProbability& one : best)
            list.push_back({{"class", one.name}, {"probability", one.probability}});
        return list;
    }

    void print(const std::string& file, const Classification& found) const {
        if (common.output.json == "-") return;
        std::cout << printable(file);
        char text[32];
        for (const ClassProbability& one : found.top) {
            std::snprintf(text, sizeof text, " %.1f%%", 100 * one.probability);
            std::cout << "  " << one.name << text;
        }
        if (flag_unfamiliar && found.distance > 1) {
            std::snprintf(text, sizeof text, "%.2f", found.distance);
            std::cout << "  unfamiliar (distance " << text << ")";
        }
        std::cout << std::endl;
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

void add_classify(CLI::App& app, Action& action) {
    auto o = std::make_shared<Classify>();
    CLI::App& c = *app.add_subcommand("classify", "the most likely classes of images, from a student bundle alone");
    c.add_option("bundle,--bundle", o->bundle, "student bundle written by distill")->required();
    c.add_option("images", o->files, "image files (PNG, JPEG)")
        ->required()
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    add_image_input(c, o->input);
    add_exif_rotate(c);
    c.add_option("--top", o->top, "classes printed for each image")->check(whole_from(1))->capture_default_str();
    c.add_flag("--flag-unfamiliar", o->flag_unfamiliar,
               "mark images unlike those of the distillation (a student with a guard): about one of twenty of those "
               "themselves, more of everything else");
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

}  // namespace promptkd::cli
