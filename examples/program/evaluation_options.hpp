// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "progress.hpp"
#include "results_json.hpp"

#include <promptkd/experiment/zero_shot.hpp>

// What `zero-shot` and `evaluate` share.
namespace promptkd::cli {

inline void add_evaluation_data(CLI::App& c, Common& common, EvaluationData& data, std::string& split) {
    c.add_option("--data", common.data,
                 "NAME:ROOT (fashion-mnist:ROOT, folder:ROOT, list:FILE, or a benchmark: imagenet, caltech101, …)")
        ->required();
    c.add_option("--split", split, "train or test")->check(CLI::IsMember({"train", "test"}))->capture_default_str();
    c.add_option("--classes", common.classes, "base, new or all (default: the three and their harmonic mean)")
        ->check(CLI::IsMember({"base", "new", "all"}));
    c.add_option("--images", data.images, std::string("so many images alone: ") + images_drawn)
        ->check(whole_from(0))
        ->capture_default_str();
    c.add_option("--holdout", data.holdout,
                 std::string("test on what a training with this option and seed holds out: ") + holdout_meaning)
        ->check(share_or_count())
        ->configurable(false);
    c.add_option("--seed", data.seed, "of the draws of --images and --holdout")
        ->check(seed_number())
        ->configurable(false)
        ->capture_default_str();
}

/// Completes what the options say; `class_names`: a file, or empty.
inline void finish_data(EvaluationData& data, const Common& common, const std::string& split,
                        const std::string& class_names) {
    data.source = common.data;
    data.part = split == "train" ? Split::train : Split::test;
    if (!class_names.empty()) data.class_names = names_of_option("--class-names", class_names);
    if (!common.classes.empty()) data.subset = parse_class_subset(common.classes);
}

inline void write_evaluation(const EvaluationResult& found, const nlohmann::json& config, const Output& output) {
    output.text() << evaluation_line(found) << std::endl;
    nlohmann::json result = evaluation_json(found);
    result["config"] = config;
    output.write(result);
}

}  // namespace promptkd::cli
