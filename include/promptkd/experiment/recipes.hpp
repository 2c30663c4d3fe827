// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/protocols.hpp>
#include <promptkd/learner/registry.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// The published settings of PromptKD's second stage (Li et al., CVPR 2024; the authors' configuration).
struct DistillationRecipe {
    double lr = 0.005;                         ///< base learning rate
    Index epochs = 20, batch = 8;              ///< passes over the images, images a step
    Index prompts = 4, depth = 9;              ///< visual prompts of the student, prompted blocks
    double kd_weight = 1000, temperature = 1;  ///< of the distillation loss
};

/// What a learner's prompts are for: PromptSRC is trained as PromptKD's teacher on ViT-L/14 (the PromptKD repository's
/// configuration) otherwise than in its own paper on ViT-B/16.
enum class LearnerRole { teacher, alone };

namespace detail {

/// Where a published setting holds. Empty lists stand for everything.
struct SettingScope {
    std::vector<Protocol> protocols = {};
    std::vector<std::string> benchmarks = {};  ///< names in benchmarks()

    bool holds(Protocol protocol, const std::string& benchmark) const {
        return among(protocols, protocol) && among(benchmarks, benchmark);
    }

private:
    template <class Value>
    static bool among(const std::vector<Value>& list, const Value& value) {
        return list.empty() || std::find(list.begin(), list.end(), value) != list.end();
    }
};

/// Settings in which a published experiment departs from the learner's own recipe; absent ones do not.
struct LearnerSetting {
    std::string learner;
    std::optional<LearnerRole> role;  ///< absent: either
    SettingScope scope;
    std::optional<double> lr = {};
    std::optional<Index> epochs = {}, batch = {}, depth = {};
    std::map<std::string, double> options = {};  ///< of the learner's own
};

/// The same for PromptKD's student.
struct StudentSetting {
    SettingScope scope;
    std::optional<double> lr = {};
    std::optional<Index> batch = {}, depth = {};
    std::optional<double> kd_weight = {};
};

/// Later lines win.
inline const std::vector<LearnerSetting>& learner_settings() {
    const std::vector<Protocol> from_source = {Protocol::cross_dataset, Protocol::domain_generalization};
    const std::vector<std::string> narrow = {"stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat"};
    static const std::vector<LearnerSetting> table = {
        {.learner = "coop", .role = {}, .scope = {{}, {"imagenet"}}, .epochs = 50},
        {.learner = "maple", .role = {}, .scope = {from_source, {}}, .lr = 0.0026, .epochs = 2, .depth = 3},
        {.learner = "promptsrc", .role = LearnerRole::teacher, .scope = {}, .lr = 0.005, .batch = 8},
        {.learner = "promptsrc",
         .role = LearnerRole::alone,
         .scope = {from_source, {}},
         .depth = 3,
         .options = {{"gaussian-mean", 6}, {"gaussian-deviation", 10}}},
        {.learner = "promptsrc",
         .role = LearnerRole::alone,
         .scope = {{Protocol::few_shot}, {}},
         .epochs = 50,
         .options = {{"gaussian-mean", 30}, {"gaussian-deviation", 30}}},
        {.learner = "promptsrc",
         .role = LearnerRole::alone,
         .scope = {{Protocol::few_shot}, narrow},
         .options = {{"gaussian-mean", 45}, {"gaussian-deviation", 5}}},
    };
    return table;
}

/// Later lines win.
inline const std::vector<StudentSetting>& student_settings() {
    static const std::vector<StudentSetting> table = {
        {.scope = {{Protocol::cross_dataset, Protocol::domain_generalization}, {}}, .depth = 3},
        {.scope = {{Protocol::base_to_novel, Protocol::few_shot}, {"fgvc_aircraft", "oxford_flowers", "dtd"}},
         .kd_weight = 200},
        {.scope = {{}, {"imagenet"}}, .lr = 0.16, .batch = 256},
    };
    return table;
}

template <class Value>
void set_if_given(Value& value, const std::optional<Value>& given) {
    if (given) value = *given;
}

}  // namespace detail

/// The published settings of a learner in a protocol on `benchmark` (its name in benchmarks(); any other data set has
/// the common settings), with `shots` images a class.
inline Recipe protocol_recipe(Protocol protocol, const std::string& learner, Index shots, const std::string& benchmark,
                              LearnerRole role) {
    Recipe recipe = published_recipe(learner, shots);
    for (const detail::LearnerSetting& s : detail::learner_settings()) {
        if (s.learner != learner || !s.scope.holds(protocol, benchmark)) continue;
        if (s.role && *s.role != role) continue;
        detail::set_if_given(recipe.lr, s.lr);
        detail::set_if_given(recipe.epochs, s.epochs);
        detail::set_if_given(recipe.batch, s.batch);
        detail::set_if_given(recipe.depth, s.depth);
        for (const auto& [name, value] : s.options) recipe.options[name] = value;
    }
    return recipe;
}

/// The published settings of PromptKD's student in a protocol on `benchmark`: prompts in three blocks where the teacher
/// comes from another data set; else a smaller weight of the loss on three benchmarks, and larger batches on ImageNet.
inline DistillationRecipe distillation_recipe(Protocol protocol, const std::string& benchmark) {
    DistillationRecipe recipe;
    for (const detail::StudentSetting& s : detail::student_settings()) {
        if (!s.scope.holds(protocol, benchmark)) continue;
        detail::set_if_given(recipe.lr, s.lr);
        detail::set_if_given(recipe.batch, s.batch);
        detail::set_if_given(recipe.depth, s.depth);
        detail::set_if_given(recipe.kd_weight, s.kd_weight);
    }
    return recipe;
}

}  // namespace promptkd
