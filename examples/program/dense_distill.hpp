// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dense_options.hpp"
#include "distill_options.hpp"
#include "results_json.hpp"
#include "seed_results.hpp"

#include <promptkd/experiment/dense/distillation.hpp>
#include <promptkd/experiment/seeds.hpp>

#include <tuple>
#include <utility>
#include <vector>

// `distill --dense`: a student of images, then its patches.
namespace promptkd::cli {

/// What only a dense distillation reads.
struct DenseDistillFlags {
    std::string targets = "regions", positions = "shifted", size;
    DenseLessons lessons;
    Index start_epochs = 10;

    /// Whether it was asked for.
    bool is_used() const { return !lessons.pictures.empty(); }
};

namespace dense {

/// "448x336" as width and height in pixels. Throws Error for anything else.
inline std::pair<Index, Index> parse_size(const std::string& text) {
    long long width = 0, height = 0;
    int end = 0;
    const bool good = std::sscanf(text.c_str(), "%lldx%lld%n", &width, &height, &end) == 2 &&
                      end == static_cast<int>(text.size()) && width > 0 && height > 0 && width <= most_pixels &&
                      height <= most_pixels;
    require(good, "'", text, "' is no size; give WIDTHxHEIGHT in pixels");
    return {width, height};
}

}  // namespace dense

inline void add_dense_distill_options(CLI::App& c, DenseDistillFlags& o) {
    const auto quiet = [](CLI::Option* option) { return option->configurable(false); };
    DenseLessons& l = o.lessons;
    quiet(c.add_option("--dense", l.pictures,
                       "also teach the student's patches, from these unlabelled pictures: a folder or a list (of a "
                       "layout with masks its pictures); first comes a student of --data, or --init"));
    quiet(c.add_option("--dense-targets", o.targets,
                       "what the teacher is asked about: regions (square crops), windows, map (its own patches) "
                       "(default: regions)"))
        ->check(CLI::IsMember({"regions", "windows", "map"}));
    quiet(c.add_option("--region-masks", l.regions.masks,
                       "regions: components of the labels of masks, a folder of NAME.png or in a layout"));
    quiet(c.add_option("--region-boxes", l.regions.boxes, "regions: boxes of a file (COCO's JSON, records, a table)"));
    quiet(c.add_option("--foreground", l.regions.foreground,
                       "regions: else components of the pixels with a channel above it (default: 16)"))
        ->check(whole_from(0, 255));
    quiet(c.add_option("--least-pixels", l.regions.least, "regions: smaller components are left out (default: 20)"))
        ->check(whole_from(1));
    quiet(c.add_option("--window", l.window, "windows: their side in pixels (default: the teacher's images)"))
        ->check(whole_from(1, most_pixels));
    quiet(c.add_option("--stride", l.stride, "windows: pixels from one to the next (default: a patch)"))
        ->check(whole_from(1, most_pixels));
    quiet(c.add_option("--window-sigma", l.window_sigma, "windows: of the Gaussian of their weights, in pixels"))
        ->check(positive());
    quiet(c.add_option("--map-method", l.map_method, "map: the teacher's last block (default: naclip)"))
        ->check(parsed_by(&dense_method));
    quiet(c.add_option("--picture-size", o.size, "WIDTHxHEIGHT that pictures are brought to (default: the first's)"))
        ->check(parsed_by(&dense::parse_size));
    add_patch_options(c, l.student, o.positions);
    for (const char* name : {"--method", "--sigma", "--positions"}) quiet(c.get_option(name));
    quiet(
        c.add_option("--image-weight", l.image_weight, "of the loss of images beside; 0: pictures alone (default: 1)"))
        ->check(not_negative());
    quiet(c.add_option("--image-batch", l.image_batch, "images a step beside the pictures (default: 16)"))
        ->check(whole_from(1));
    quiet(c.add_option("--start-epochs", o.start_epochs, "passes over the images before (default: 10)"))
        ->check(whole_from(1));
}

/// Options of which a distillation makes no use with or without --dense, and with these lessons.
inline std::vector<Unused> unused_distill_options(const CLI::App& c, const DenseDistillFlags& o,
                                                  const std::string& adapt) {
    if (!o.is_used())
        return {{true,
                 "belongs to --dense",
                 {"--dense-targets", "--picture-size", "--region-masks", "--region-boxes", "--foreground",
                  "--least-pixels", "--window", "--stride", "--window-sigma", "--map-method", "--method", "--sigma",
                  "--positions", "--image-weight", "--image-batch", "--start-epochs"}}};
    const DenseLessons& l = o.lessons;
    const bool map = o.targets == "map";
    return {
        {true,
         "does not go with --dense, whose start follows the published recipe; distil another one first and give its "
         "bundle by --init",
         {"--teacher-logits",
          "--train",
          "--recipe",
          "--fit",
          "--kd",
          "--text-features",
          "--kd-weight",
          "--optimizer",
          "--stay-close",
          "--stay-close-to",
          "--momentum",
          "--weight-decay",
          "--schedule",
          "--gamma",
          "--milestones",
          "--warmup",
          "--warmup-epochs",
          "--warmup-lr",
          "--protocol",
          "--validation",
          "--accumulate",
          "--bn",
          "--graph",
          "--order",
          "--views",
          "--hold-out",
          "--checks",
          "--budget",
          "--merge-lora",
          "--one-pass",
          "--mix",
          "--guard",
          "--width",
          "--student-text",
          "--mixture-features"}},
        {o.targets != "regions",
         "belongs to --dense-targets regions",
         {"--region-masks", "--region-boxes", "--foreground", "--least-pixels"}},
        {o.targets != "windows", "belongs to --dense-targets windows", {"--window", "--stride", "--window-sigma"}},
        {!map, "belongs to --dense-targets map", {"--map-method"}},
        {!l.regions.boxes.empty(),
         "is not for boxes that are given",
         {"--region-masks", "--foreground", "--least-pixels"}},
        {!l.regions.masks.empty(), "is not for masks, whose labels tell the regions", {"--foreground"}},
        {l.image_weight == 0, "is of no use where --image-weight is 0", {"--image-batch"}},
        {is_given(c, "--init"),
         "is of the student that comes first; here it is given by --init",
         {"--start-epochs", "--prompts", "--depth", "--projector-layers", "--augment"}},
        {!adapt.empty() && adapt != "lora", "belongs to --adapt lora", {"--rank"}},
        {adapt == "prompts", "is about the encoder, of which --adapt prompts trains nothing", {"--body-rate"}},
        unused_sigma({l.student.method, map ? l.map_method : l.student.method})};
}

namespace dense {

/// The resolved options as a user would write them, for config.json.
inline nlohmann::json resolved_options(const DistillOptions& o, const DenseDistillFlags& flags,
                                       const DenseDistillationSpec& s) {
    nlohmann::json config = o.config;
    const DenseLessons& l = s.lessons;
    const bool regions = l.targets == DenseTargets::regions, map = l.targets == DenseTargets::map;
    config["dense"] = l.pictures;
    config["dense-targets"] = flags.targets;
    if (!flags.size.empty()) config["picture-size"] = flags.size;
    if (regions && !l.regions.masks.empty()) config["region-masks"] = l.regions.masks;
    if (regions && !l.regions.boxes.empty()) config["region-boxes"] = l.regions.boxes;
    if (regions && l.regions.boxes.empty() && l.regions.masks.empty())
        config["foreground"] = std::to_string(l.regions.foreground);
    if (regions && l.regions.boxes.empty()) config["least-pixels"] = std::to_string(l.regions.least);
    if (l.window > 0) config["window"] = std::to_string(l.window);
    if (l.stride > 0) config["stride"] = std::to_string(l.stride);
    if (l.targets == DenseTargets::windows) config["window-sigma"] = number_text(l.window_sigma);
    if (map) config["map-method"] = l.map_method;
    config["method"] = l.student.method;
    if (dense_method(l.student.method).near || (map && dense_method(l.map_method).near))
        config["sigma"] = number_text(l.student.sigma);
    config["positions"] = flags.positions;
    config["image-weight"] = number_text(l.image_weight);
    if (l.image_weight > 0) config["image-batch"] = std::to_string(l.image_batch);
    if (s.image.init.empty()) config["start-epochs"] = std::to_string(flags.start_epochs);
    config["adapt"] = name_of(s.training);
    if (s.training == EncoderTraining::lora) config["rank"] = std::to_string(s.lora.rank);
    if (s.body_rate > 0) config["body-rate"] = number_text(s.body_rate);
    config["clip"] = number_text(s.clip);
    config["lr"] = number_text(s.loop.schedule.lr);
    config["epochs"] = std::to_string(s.loop.schedule.max_epoch);
    config["batch"] = std::to_string(s.loop.batch);
    if (!o.is_given("depth")) config.erase("depth");
    if (s.image.init.empty() && !o.is_given("augment")) config["augment"] = to_string(Augmentation::flip);
    return config;
}

}  // namespace dense

/// The specification of options that DistillOptions::finish() has completed.
inline DenseDistillationSpec dense_specification(const DistillOptions& o, const DenseDistillFlags& flags) {
    DenseDistillationSpec s;
    s.image = o.spec;
    s.lessons = flags.lessons;
    s.lessons.targets = parse_dense_targets(flags.targets);
    s.lessons.student.positions = parse_position_rule(flags.positions);
    s.lessons.temperature = o.spec.loss.temperature;
    if (!flags.size.empty()) std::tie(s.lessons.width, s.lessons.height) = dense::parse_size(flags.size);
    s.training = o.adapt.empty() ? EncoderTraining::lora : parse_encoder_training(o.adapt);
    s.lora = o.spec.shape.lora;
    s.body_rate = o.body_rate;
    s.clip = o.clip;
    s.fresh = o.spec.fresh;
    s.loop.out = o.common.out;
    s.loop.seed = o.common.seed;
    s.loop.view_seed = o.view_seed;
    s.loop.loader_threads = o.spec.loop.loader_threads;
    s.loop.max_steps = o.spec.loop.max_steps;
    if (o.is_given("lr")) s.loop.schedule.lr = o.lr;
    if (o.is_given("epochs")) s.loop.schedule.max_epoch = o.epochs;
    if (o.is_given("batch")) s.loop.batch = o.spec.loop.batch;
    const DistillationSpec published;
    s.image.loop.schedule.lr = published.loop.schedule.lr;
    s.image.loop.schedule.max_epoch = flags.start_epochs;
    s.image.loop.batch = published.loop.batch;
    s.image.loop.max_steps = 0;
    s.image.loop.identity = nlohmann::json::object();
    s.image.settings = nullptr;
    if (!o.is_given("augment")) s.image.loop.augmentation = Augmentation::flip;
    s.image.loss.temperature = 1;
    s.image.shape.training = EncoderTraining::frozen;
    if (!o.is_given("depth")) s.image.shape.depth = 0;
    s.settings = dense::resolved_options(o, flags, s);
    return s;
}

/// Runs a dense distillation once for each seed.
inline void run_dense(const Common& common, const DenseDistillationSpec& spec,
                      const std::vector<std::uint64_t>& seeds) {
    require(launch().alone(), "a dense distillation runs in one process; start it without mpirun");
    SeedResults results(common, seeds);
    const auto done = [&](const SeedRun<DenseDistillationOutcome>& found) {
        const DenseDistillationOutcome& outcome = found.outcome;
        std::ostream& say = common.output.text();
        nlohmann::json result = nlohmann::json::object();
        if (outcome.evaluation) result = evaluation_json(*outcome.evaluation);
        if (outcome.start) result["start"] = evaluation_json(*outcome.start);
        result["training"] = training_json(outcome);
        result["answers"] = outcome.answers;
        result["config"] = spec.settings;
        if (seeds.size() > 1) result["seed"] = found.seed;
        if (outcome.start) say << "start: " << evaluation_line(*outcome.start) << std::endl;
        if (outcome.evaluation) say << "images: " << evaluation_line(*outcome.evaluation) << std::endl;
        const Progress& at = outcome.training.progress;
        say << "loss " << at.first_loss << " -> " << at.last_loss << " in " << at.step
            << " steps; student: " << outcome.bundle << std::endl;
        results.add(found.out, std::move(result));
    };
    with_device<CpuPrecisions::fp32>(common, [&](auto& device) {
        ProgramObserver observer(common.output);
        run_over_seeds(
            spec, seeds,
            [&](const DenseDistillationSpec& one) {
                DenseDistillationOutcome outcome = promptkd::run(device, one, observer);
                if (outcome.training.interrupted) share_interruption();
                return outcome;
            },
            done);
    });
    stop_if_interrupted(common.out);
    results.finish(nlohmann::json::object());
}

}  // namespace promptkd::cli
