// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/distillation_fit.hpp>
#include <promptkd/experiment/recipes.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace promptkd {

/// What a stage of a reproduction does.
enum class StageKind {
    zero_shot,  ///< tests a model, with prompts that are there already or without
    learner,    ///< learns prompts, then tests them
    student     ///< distils a student, then tests it
};

/// A data set that models are tested on.
struct TestSet {
    std::string key;           ///< its short name, also its folder's
    std::string spec;          ///< "NAME:ROOT"
    std::string problem = {};  ///< why it is not the published data set; empty: it is, or none is published

    /// Its name in tables, marked where it is not the published data set.
    std::string title() const { return problem.empty() ? key : key + " (incomplete)"; }
};

/// One piece of a reproduction's work, with a folder and a result of its own.
struct ReproductionStage {
    StageKind kind = StageKind::zero_shot;  ///< what is done
    std::string row;                        ///< of the report's tables
    std::string folder;                     ///< below the output folder
    std::string key, data;                  ///< short name and "NAME:ROOT" of what is learned from
    std::string weights;                    ///< of the model that is tested
    std::vector<TestSet> tests;             ///< what is evaluated on
    std::uint64_t seed = 0;                 ///< 0: nothing is drawn
    Index shots = 0;                        ///< images a class to learn from
    std::string prompts;         ///< file of the tested model's (zero-shot) or the teacher's (student); empty: none
    std::string pattern;         ///< of the class texts
    Recipe learner;              ///< settings of a learner
    DistillationRecipe student;  ///< settings of a student
    DistillationFit fit = DistillationFit::sgd;         ///< how a student is fitted
    Index images = 0;                                   ///< that are learned from
    Index steps = 0;                                    ///< of training
    Index test_images = 0;                              ///< in all test sets
    nlohmann::json identity;                            ///< all settings that the result depends on
    std::map<std::string, nlohmann::json> inputs = {};  ///< of the images it uses, by data set: see images_identity()

    /// Images of a batch.
    Index batch() const { return kind == StageKind::learner ? learner.batch : student.batch; }
    /// Images of a training step: of a set that is smaller than a batch all of it.
    Index step_images() const { return std::min(images, batch()); }
};

}  // namespace promptkd
