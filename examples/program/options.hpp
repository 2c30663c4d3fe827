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
#include <promptkd/format/folder_lock.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/text/class_names.hpp>

#if defined(PROMPTKD_PROGRAM_CUDA)  // then every source of the program is compiled by nvcc
#include <promptkd/cuda.hpp>
#endif

#include "config_file.hpp"
#include "launch.hpp"
#include "numbers.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
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

    /// Throws Error where the file of --json could not be written: before the work, not after it.
    void check() const {
        if (!json.empty() && json != "-" && launch().is_root()) require_writable(json);
    }

    /// Writes `value` to the file named by --json (or to standard output for "-"); nothing when the option is absent.
    void write(const nlohmann::json& value) const {
        if (json.empty() || !launch().is_root()) return;
        if (json == "-")
            std::cout << json_text(value, 2) << std::endl;
        else
            write_atomically(json, json_text(value, 2) + "\n");
    }
};

/// Options that several commands share.
struct Common {
    std::string weights, vocab, data, classes, device = "cpu", precision = "fp32", out;
    int threads = 0;
    bool wait = false;  ///< for another run in the output folder, instead of an error
    std::uint64_t seed = 1;
    WeightsOptions weights_options;  ///< what weight files do not tell
    Output output;

    /// How a frozen image encoder keeps its weights.
    WeightStorage storage() const { return precision == "int8" ? WeightStorage::int8 : WeightStorage::packed; }
};

/// What add_image_input() adds stands in a part of its own of the help.
inline constexpr const char* image_group = "Images";

inline void add_json(CLI::App& app, Common& c) {
    app.add_option("--json", c.output.json, "write the results as JSON to this file ('-': standard output)");
}

/// Pixels a side of what an encoder takes, at most: far beyond any model, and a row of them fits every memory.
inline constexpr Index most_pixels = 65536;

/// What an encoder's images go through, in place of what its files say: "--image-mean", or with a prefix
/// "--teacher-image-mean", of `whose` images.
inline void add_image_input(CLI::App& app, ImageInputOptions& o, const std::string& prefix = "",
                            const std::string& whose = "the") {
    const std::string dash = "--" + prefix;
    const auto add = [&](const char* name, auto& value, const std::string& help) {
        return app.add_option(dash + name, value, help)->group(image_group)->configurable(false);
    };
    const std::string channels = "of " + whose + " images: red,green,blue in [0, 1], or one for all";
    add("image-mean", o.mean, "mean " + channels)->delimiter(',')->check(fraction());
    add("image-std", o.std, "standard deviation " + channels)->delimiter(',')->check(positive());
    add("interpolation", o.interpolation, "of the resize, as Pillow: bicubic, bilinear, nearest, lanczos, box, hamming")
        ->check(CLI::IsMember({"bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"}));
    add("resize-mode", o.resize_mode,
        "shortest (then the centre is cut out), longest (the rest is filled), squash (the sides do not keep their "
        "proportion), none (the centre is cut out)")
        ->check(CLI::IsMember({"shortest", "longest", "squash", "none"}));
    add("resize-to", o.resize_to, "pixels of the side that is resized, before the crop")
        ->check(whole_from(1, most_pixels));
    add("image-fill", o.fill, "0 to 255: colour of what longest leaves empty")->check(whole_from(0, 255));
    add("convert-rgb", o.convert_rgb,
        "when pictures become RGB: first (opacity is dropped), over_white (then what is transparent is white), last "
        "(after the resize, as open_clip)")
        ->check(CLI::IsMember({"first", "over_white", "last"}));
    add("resolution", o.resolution, "pixels a side; the positions of a vision transformer are interpolated")
        ->check(whole_from(1, most_pixels));
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

/// The class names in the file of an option, as `read` finds them. A file with NUL bytes is bad usage: it is no text.
template <class Read = decltype(&read_class_names_file)>
auto names_of_option(const char* option, const std::string& path, const Read& read = &read_class_names_file) {
    try {
        return read(path);
    } catch (const Error& error) {
        const bool text = read_file(path).find('\0') == std::string::npos;
        if (text) throw;
        throw CLI::ValidationError(option, std::string("must be a file of text, one name a line: ") + error.what());
    }
}

inline void add_wait(CLI::App& app, Common& c) {
    app.add_flag("--wait", c.wait, "where another run is at work in the output folder, wait for its end");
}

/// Keeps other runs out of the output folder as long as the result lives. Of several processes the first one holds it.
inline std::shared_ptr<const FolderLock> lock_output(const Common& c) {
    if (!launch().is_root()) return nullptr;
    return FolderLock::acquire(c.out, c.wait ? FolderLock::Busy::wait : FolderLock::Busy::fail, " with --wait");
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
    "class names: one a line, or a CSV or JSON map from the names of folders to them, or imagenet: OpenAI's names "
    "(default: those of --data)";
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
    app.add_option("--precision", c.precision,
                   "fp32; tf32: products on the GPU; bf16 or fp16: activations and frozen weights in 16 bits (on the "
                   "CPU bf16, in "
                   "distill also fp16); int8: image encoders in 8 bits (on the CPU, where nothing is trained)")
        ->check(CLI::IsMember({"fp32", "tf32", "fp16", "bf16", "int8"}))
        ->capture_default_str();
    app.add_option("--threads", c.threads, "CPU threads; 0: all cores")->check(thread_count())->capture_default_str();
}

inline void add_vocabulary(CLI::App& app, Common& c) {
    app.add_option("--vocab", c.vocab,
                   "the model's tokenizer: BPE merges, .gz or plain, tokenizer.json, a SentencePiece model, or a "
                   "folder with one of them "
                   "(default: beside the weights, else environment PROMPTKD_VOCAB)");
}

/// The tokenizer's file: --vocab, else the one beside the weights `model`, else PROMPTKD_VOCAB. Throws Error when there
/// is none.
inline std::string vocabulary_path(const Common& c, const std::string& model = "") {
    const char* path = std::getenv("PROMPTKD_VOCAB");
    const std::string found = tokenizer_file(c.vocab, model, path ? path : "");
    require(!found.empty(),
            "no vocabulary: give the tokenizer's file with --vocab FILE (merges, tokenizer.json or a SentencePiece "
            "model), in the environment variable PROMPTKD_VOCAB, or put it beside the weights; a distillation with "
            "--class-vectors FILE needs none");
    return found;
}

/// At most eight threads for each processor: more take memory and make nothing faster. Says so once where it is less
/// than was asked for.
inline int sane_threads(int asked, const char* option) {
    const int most = 8 * static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    if (asked <= most) return asked;
    std::fprintf(stderr, "warning: %s %d: %d threads are taken, eight for each processor\n", option, asked, most);
    return most;
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

/// Which precisions a command offers on the CPU. Each 16-bit one is a device of its own and takes its time to compile.
enum class CpuPrecisions {
    fp32,      ///< no other
    encoders,  ///< also bf16, and int8 for frozen image encoders
    all        ///< also bf16 and fp16
};

/// Runs f(device) on the device that --device and --precision name. With int8 that computes in fp32: see
/// Common::storage().
template <CpuPrecisions Offered = CpuPrecisions::fp32, class F>
void with_device(const Common& c, F&& f) {
    require(c.precision != "int8" || (c.device == "cpu" && Offered == CpuPrecisions::encoders),
            "--precision int8 is for frozen image encoders on the CPU (zero-shot, evaluate, classify, encode, "
            "teacher-logits; in distill a teacher's is --int8-teacher)");
    if (c.device == "cuda") return with_gpu(c, f);
    require(c.precision != "tf32", "--precision tf32 needs --device cuda");
    const int threads = sane_threads(c.threads, "--threads");
    const auto run = [&](auto&& device) { f(device); };
    if constexpr (Offered != CpuPrecisions::fp32)
        if (c.precision == "bf16") return run(Cpu<float, bf16>(threads));
    if constexpr (Offered == CpuPrecisions::all)
        if (c.precision == "fp16") return run(Cpu<float, half>(threads));
    require(c.precision == "fp32" || c.precision == "int8", "--precision ", c.precision,
            " needs --device cuda here; on the CPU this command computes in fp32",
            Offered == CpuPrecisions::encoders ? ", bf16 or int8" : "");
    run(Cpu<float>(threads));
}

/// A number as a user would write it.
inline std::string number_text(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

/// Every option of a command that has a value, with it: what is written beside a result, and --config reads again.
/// Options that are not configurable are left out where they were not given.
inline nlohmann::json resolved(const CLI::App& app) {
    nlohmann::json all = nlohmann::json::object();
    all["command"] = app.get_name();
    for (const CLI::Option* option : app.get_options()) {
        const std::string name = option->get_single_name();
        if (name == "help" || name == "json" || name == "wait") continue;
        if (option->count() == 0 && !option->get_configurable()) continue;  // so that earlier results keep their bytes
        std::string value = option->get_default_str();
        if (option->count() > 0) {
            value.clear();
            for (const std::string& part : option->results()) value += (value.empty() ? "" : ",") + part;
        } else if (value.empty()) {
            continue;  // not given, and without a default
        }
        all[name] = value;
        if (option->results().size() > 1 && option->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll &&
            option->get_delimiter() == '\0')
            all[name] = option->results();  // a repeated option, which --config repeats again
    }
    return all;
}

}  // namespace promptkd::cli
