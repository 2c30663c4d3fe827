// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/data/class_names_file.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/experiment/models.hpp>
#include <promptkd/format/exif.hpp>
#include <promptkd/format/file.hpp>

#if defined(PROMPTKD_PROGRAM_CUDA)  // then every source of the program is compiled by nvcc
#include <promptkd/cuda.hpp>
#endif

#include "launch.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

namespace promptkd::cli {

/// Where a command prints what a person reads: standard output, unless that carries the JSON (`--json -`). Of several
/// processes under mpirun only the first prints and writes.
struct Output {
    std::string json;

    std::ostream& text() const {
        static std::ostream nowhere(nullptr);
        if (!launch().is_root()) return nowhere;
        return json == "-" ? std::cerr : std::cout;
    }

    /// Writes `value` to the file named by --json (or to standard output for "-"); nothing when the option is absent.
    void write(const nlohmann::json& value) const {
        if (json.empty() || !launch().is_root()) return;
        if (json == "-")
            std::cout << value.dump(2) << std::endl;
        else
            write_atomically(json, value.dump(2) + "\n");
    }
};

/// Options that several commands share.
struct Common {
    std::string weights, vocab, data, classes, device = "cpu", precision = "fp32", out;
    int threads = 0;
    std::uint64_t seed = 1;
    WeightsOptions weights_options;  ///< what weight files do not tell
    Output output;
};

/// What add_image_input() adds stands in a part of its own of the help.
inline constexpr const char* image_group = "Images";

inline void add_json(CLI::App& app, Common& c) {
    app.add_option("--json", c.output.json, "write the results as JSON to this file ('-': standard output)");
}

/// What an encoder's images go through, in place of what its files say: "--image-mean", or with a prefix
/// "--teacher-image-mean", of `whose` images.
inline void add_image_input(CLI::App& app, ImageInputOptions& o, const std::string& prefix = "",
                            const std::string& whose = "the") {
    const std::string dash = "--" + prefix;
    const auto add = [&](const char* name, auto& value, const std::string& help) {
        return app.add_option(dash + name, value, help)->group(image_group)->configurable(false);
    };
    const std::string channels = "of " + whose + " images: red,green,blue in [0, 1], or one for all";
    add("image-mean", o.mean, "mean " + channels)->delimiter(',');
    add("image-std", o.std, "standard deviation " + channels)->delimiter(',');
    add("interpolation", o.interpolation, "of the resize, as Pillow: bicubic, bilinear, nearest, lanczos, box, hamming")
        ->check(CLI::IsMember({"bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"}));
    add("resize-mode", o.resize_mode,
        "shortest (then the centre is cut out), longest (the rest is filled), squash (the sides do not keep their "
        "proportion), none (the centre is cut out)")
        ->check(CLI::IsMember({"shortest", "longest", "squash", "none"}));
    add("resize-to", o.resize_to, "pixels of the side that is resized, before the crop")->check(CLI::PositiveNumber);
    add("image-fill", o.fill, "0 to 255: colour of what longest leaves empty")->check(CLI::Range(0, 255));
    add("resolution", o.resolution, "pixels a side; the positions of a vision transformer are interpolated")
        ->check(CLI::PositiveNumber);
    add("preprocessing", o.file,
        "JSON that says all this (preprocessor_config.json, open_clip_config.json), in place of the one beside the "
        "weights");
}

/// Turns photos as EXIF says. Not what the published loaders do.
inline void add_exif_rotate(CLI::App& app) {
    app.add_flag_callback(
           "--exif-rotate", [] { exif_rotation().apply(true); },
           "turn photos as their EXIF orientation says (the published loaders do not)")
        ->group(image_group)
        ->configurable(false);
}

/// What a weight file may leave open.
inline void add_weights_options(CLI::App& app, WeightsOptions& options) {
    add_image_input(app, options.images);
    app.add_option("--activation", options.activation,
                   "activation of the model, where its file does not tell: quick_gelu or gelu")
        ->check(CLI::IsMember({"quick_gelu", "gelu"}));
    app.add_option("--model-config", options.config,
                   "the model's JSON (Hugging Face's config.json, open_clip's), where it is not beside the weights");
}

/// "CoOp, VPT": the titles of the learners that `accepts`.
template <class Accepts>
std::string learner_titles(const Accepts& accepts) {
    std::string titles;
    for (const LearnerInfo& info : learners())
        if (accepts(info)) titles += (titles.empty() ? "" : ", ") + info.title;
    return titles;
}

/// What a file of learned prompts may be, for the help of an option.
inline std::string prompt_files() {
    return "safetensors, or a checkpoint of " +
           learner_titles([](const LearnerInfo& info) { return info.fixed_prompts != nullptr; });
}

/// What a file of class names may be, what --images takes and what --holdout means, for the help of options.
inline constexpr const char* class_names_files =
    "class names: one a line, or a CSV or JSON map from the names of folders to them (default: those of --data)";
inline constexpr const char* images_drawn =
    "of folder: and list: drawn evenly over the classes by the seed, of other sets the first; 0: all";
inline constexpr const char* holdout_meaning =
    "so many labelled training images of each class, below 1 that share, drawn by the seed";

/// The model of --weights.
inline ModelFile model_file(const Common& c) {
    const WeightsOptions& o = c.weights_options;
    return {c.weights, o.config, o.activation, {"--activation", "--model-config FILE"}, o.images};
}

inline void add_device(CLI::App& app, Common& c) {
    app.add_option("--device", c.device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}))->capture_default_str();
    app.add_option(
           "--precision", c.precision,
           "fp32; tf32: products on the GPU; fp16 or bf16: activations and frozen weights in 16 bits (on the CPU in "
           "distill and evaluate)")
        ->check(CLI::IsMember({"fp32", "tf32", "fp16", "bf16"}))
        ->capture_default_str();
    app.add_option("--threads", c.threads, "CPU threads; 0: all cores")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
}

inline void add_vocabulary(CLI::App& app, Common& c) {
    app.add_option("--vocab", c.vocab,
                   "BPE merges of the model's tokenizer, .gz or plain (default: environment PROMPTKD_VOCAB)");
}

/// The merges file: --vocab, else PROMPTKD_VOCAB. Throws Error when there is neither.
inline std::string vocabulary_path(const Common& c) {
    if (!c.vocab.empty()) return c.vocab;
    const char* path = std::getenv("PROMPTKD_VOCAB");
    require(path && *path,
            "no vocabulary: give the BPE merges file with --vocab FILE or in the environment variable PROMPTKD_VOCAB");
    return path;
}

#if defined(PROMPTKD_PROGRAM_CUDA)
/// Runs f(device) on the GPU in the precision that --precision names. Throws Error in one line where there is no GPU.
template <class F>
void with_gpu(const Common& c, F&& f) {
    const auto run = [&](auto&& device) { f(device); };
    const int gpu = launch().local_rank;  // under mpirun a GPU a process
    if (c.precision == "fp16") return run(Cuda<float, half>(CudaOptions{gpu}));
    if (c.precision == "bf16") return run(Cuda<float, bf16>(CudaOptions{gpu}));
    run(Cuda<float>(CudaOptions{gpu, c.precision == "tf32"}));
}
#else
template <class F>
void with_gpu(const Common&, F&&) {
    fail("--device cuda: this program was built without the CUDA backend; configure with -DPROMPTKD_CUDA=ON");
}
#endif

/// Which precisions a command offers on the CPU. Each is a device of its own and takes its time to compile.
enum class CpuPrecisions { fp32, all };

/// Runs f(device) on the device that --device and --precision name.
template <CpuPrecisions Offered = CpuPrecisions::fp32, class F>
void with_device(const Common& c, F&& f) {
    if (c.device == "cuda") return with_gpu(c, f);
    require(c.precision != "tf32", "--precision tf32 needs --device cuda");
    if constexpr (Offered == CpuPrecisions::all) {
        const auto run = [&](auto&& device) { f(device); };
        if (c.precision == "bf16") return run(Cpu<float, bf16>(c.threads));
        if (c.precision == "fp16") return run(Cpu<float, half>(c.threads));
    }
    require(c.precision == "fp32", "--precision ", c.precision,
            " needs --device cuda here; on the CPU this command computes in fp32");
    Cpu<float> device(c.threads);
    f(device);
}

/// Every option of a command with the value it has: what is written beside a result. Options that are not configurable
/// are left out where they were not given.
inline nlohmann::json resolved(const CLI::App& app) {
    nlohmann::json all = nlohmann::json::object();
    all["command"] = app.get_name();
    for (const CLI::Option* option : app.get_options()) {
        const std::string name = option->get_single_name();
        if (name == "help" || name == "json") continue;
        if (option->count() == 0 && !option->get_configurable()) continue;  // so that earlier results keep their bytes
        std::string value = option->get_default_str();
        if (option->count() > 0) {
            value.clear();
            for (const std::string& part : option->results()) value += (value.empty() ? "" : ",") + part;
        }
        all[name] = value;
        if (option->results().size() > 1 && option->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll &&
            option->get_delimiter() == '\0')
            all[name] = option->results();  // a repeated option, which --config repeats again
    }
    return all;
}

}  // namespace promptkd::cli
