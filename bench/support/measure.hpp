// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>
#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

/// What every whole-step benchmark shares: sizes of the published models, options, timing, peak memory and the JSON
/// line. Options and fields are those of the PyTorch script that bench/compare.py runs against.
namespace promptkd::bench {

/// Sizes of a published CLIP model; the text branch has vocabulary 49408 and context 77.
struct ModelSize {
    const char* name;
    Index embedding, resolution, patch;
    Index vision_width, vision_layers, vision_heads;
    Index text_width, text_layers, text_heads;
    Index vision_mlp = 0;  ///< 0: four times the width
};

/// The sizes of `name`; throws Error for an unknown name. Source: the CLIP paper, table 20;
/// open_clip's ViT-H-14 and ViT-bigG-14; and a small one for tests.
inline ModelSize model_size(const std::string& name) {
    static const ModelSize models[] = {
        {"ViT-B/32", 512, 224, 32, 768, 12, 12, 512, 12, 8},
        {"ViT-B/16", 512, 224, 16, 768, 12, 12, 512, 12, 8},
        {"ViT-L/14", 768, 224, 14, 1024, 24, 16, 768, 12, 12},
        {"ViT-H/14", 1024, 224, 14, 1280, 32, 16, 1024, 24, 16},
        {"ViT-bigG/14", 1280, 224, 14, 1664, 48, 16, 1280, 32, 20, 8192},
        {"tiny", 64, 32, 8, 128, 4, 2, 128, 3, 2},
    };
    for (const ModelSize& model : models)
        if (name == model.name) return model;
    fail("unknown model '", name, "': expected ViT-B/32, ViT-B/16, ViT-L/14, ViT-H/14, ViT-bigG/14 or tiny");
}

/// Options of a whole-step benchmark, with the defaults of the PyTorch script.
struct StepOptions {
    std::string task;
    std::string model = "ViT-B/16", teacher = "ViT-L/14";
    int batch = 8, classes = 100, depth = 9, ctx = 4, threads = 2, repeat = 5;
    int size = 8192;
    std::string dtype = "fp32";
    std::string attention = "composed";
    bool published = false, stored = false, int8_teacher = false;
    bool in_place = false;
    bool graph = false;
    bool serve = false;
};

/// Declares the options on a CLI11 application (a template, so that only programs that parse options need CLI11).
template <class App>
void add_step_options(App& app, StepOptions& options, const std::vector<std::string>& tasks) {
    const auto one_of = [](std::vector<std::string> choices) {
        return [choices = std::move(choices)](const std::string& value) {
            if (std::find(choices.begin(), choices.end(), value) != choices.end()) return std::string();
            std::string message = "expected one of";
            for (const std::string& choice : choices) message += " " + choice;
            return message;
        };
    };
    const auto positive = [](const std::string& value) {
        const bool digits = !value.empty() && value.find_first_not_of("0123456789") == std::string::npos;
        return digits && value.find_first_not_of('0') != std::string::npos ? std::string()
                                                                           : "expected a positive number";
    };
    app.add_option("--task", options.task, "what to time")->required()->check(one_of(tasks));
    app.add_option("--model", options.model, "ViT-B/32, ViT-B/16, ViT-L/14, ViT-H/14, ViT-bigG/14 or tiny")
        ->capture_default_str();
    app.add_option("--teacher", options.teacher, "the teacher's model")->capture_default_str();
    app.add_option("--batch", options.batch, "images a step")->check(positive)->capture_default_str();
    app.add_option("--classes", options.classes, "class names")->check(positive)->capture_default_str();
    app.add_option("--depth", options.depth, "prompted layers")->check(positive)->capture_default_str();
    app.add_option("--ctx", options.ctx, "prompts a layer")->check(positive)->capture_default_str();
    app.add_option("--size", options.size, "product: rows and columns")->check(positive)->capture_default_str();
    app.add_option("--threads", options.threads, "threads")->check(positive)->capture_default_str();
    app.add_option("--repeat", options.repeat, "timed steps")->check(positive)->capture_default_str();
    app.add_option("--dtype", options.dtype, "arithmetic")
        ->check(one_of({"fp32", "tf32", "fp16", "bf16"}))
        ->capture_default_str();
    app.add_option("--attention", options.attention,
                   "on the GPU: two products and a softmax, or one kernel without or with matrix units")
        ->check(one_of({"composed", "fused", "mma"}))
        ->capture_default_str();
    app.add_flag("--serve", options.serve,
                 "set up once, then answer lines `measure N` until the input ends; see serve()");
    app.add_flag("--published", options.published, "recompute the teacher's class vectors in every step");
    app.add_flag("--stored", options.stored,
                 "promptkd: the teacher's logits were computed before, as distill --teacher-logits has them");
    app.add_flag("--int8-teacher", options.int8_teacher, "promptkd, on the CPU: the teacher's image encoder in 8 bits");
}

/// Seconds of the timed steps; the floating-point operations of the products in each, and the seconds outside of the
/// device's operations, on average (0: not counted).
struct Timings {
    double median = 0, min = 0, max = 0;
    double flops = 0, outside = 0;
};

/// Median (of an even number: the mean of the two in the middle), minimum and maximum. Requires a non-empty list.
inline Timings summarize(std::vector<double> seconds) {
    require(!seconds.empty(), "no step was timed: --repeat must be at least 1");
    std::sort(seconds.begin(), seconds.end());
    const std::size_t n = seconds.size();
    return {(seconds[(n - 1) / 2] + seconds[n / 2]) / 2, seconds.front(), seconds.back()};
}

/// Runs `step` once untimed, then `repeat` times, and returns the seconds of each of these.
template <class Step>
std::vector<double> seconds_of(Step&& step, int repeat) {
    using Clock = std::chrono::steady_clock;
    step();
    std::vector<double> seconds;
    for (int i = 0; i < repeat; ++i) {
        const Clock::time_point begin = Clock::now();
        step();
        seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
    return seconds;
}

/// Runs `step` once untimed, then `repeat` times.
template <class Step>
Timings measure(Step&& step, int repeat) {
    return summarize(seconds_of(step, repeat));
}

/// The number of steps that the line `measure N` asks for; throws Error for any other line.
inline int steps_asked_for(const std::string& line) {
    const std::string verb = "measure ";
    const std::string number = line.compare(0, verb.size(), verb) == 0 ? line.substr(verb.size()) : "";
    const bool valid = !number.empty() && number.size() <= 6 && number.find_first_not_of("0123456789") == number.npos;
    require(valid && std::stoi(number) > 0, "--serve: '", line, "' is no request; expected: measure N");
    return std::stoi(number);
}

/// Lets a driver alternate between programs that stay set up. Writes {"ready": true} to `out`; then each line `measure
/// N` of `in` runs `step` once untimed and N times timed, and is answered by one JSON line: {"seconds": [N numbers], …}
/// with the fields of the object more(). Returns at the end of `in`; throws Error for any other line.
template <class Step, class More>
void serve(std::istream& in, std::ostream& out, Step&& step, More&& more) {
    out << nlohmann::ordered_json{{"ready", true}}.dump() << std::endl;
    std::string line;
    while (std::getline(in, line)) {
        const int steps = steps_asked_for(line);
        nlohmann::ordered_json answer;
        answer["seconds"] = seconds_of(step, steps);
        answer.update(more());
        out << answer.dump() << std::endl;
    }
}

/// Largest resident set of this process so far, in MiB (Linux counts ru_maxrss in KiB).
inline long peak_rss_mb() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024;
}

/// The JSON line of one run; `more` holds further fields (such as the device).
inline nlohmann::ordered_json step_report(const StepOptions& options, const Timings& timings,
                                          const nlohmann::ordered_json& more = nlohmann::ordered_json::object()) {
    nlohmann::ordered_json line;
    line["task"] = options.task;
    line["model"] = options.model;
    line["teacher"] = options.task == "promptkd" ? nlohmann::ordered_json(options.teacher) : nlohmann::ordered_json();
    line["batch"] = options.batch;
    line["classes"] = options.classes;
    line["dtype"] = options.dtype;
    line["threads"] = options.threads;
    line["published"] = options.published;
    line["stored"] = options.stored;
    line["int8_teacher"] = options.int8_teacher;
    line["graph"] = options.graph;
    line["attention"] = options.attention;
    line["seconds_per_step"] = timings.median;
    line["min"] = timings.min;
    line["max"] = timings.max;
    if (timings.flops > 0) {
        line["gflops"] = timings.flops / timings.median * 1e-9;
        line["seconds_outside_operations"] = timings.outside;
    }
    line["peak_rss_mb"] = peak_rss_mb();
    line["promptkd"] = version;
    line.update(more);
    return line;
}

}  // namespace promptkd::bench
