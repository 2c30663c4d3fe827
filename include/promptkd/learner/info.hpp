// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/learned_parameters.hpp>
#include <promptkd/optim/optimizer.hpp>
#include <promptkd/train/loop.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// Settings of a learner's training: what its authors published, or a user's own.
struct Recipe {
    double lr = 0.002;                      ///< base learning rate
    Index epochs = 20, batch = 4;           ///< passes over the images, images a step
    Index visual = 0;                       ///< prompt vectors of the image branch; 0: none
    Index text = 4;                         ///< prompt (context) vectors of the text branch; 0: none
    Index depth = 1;                        ///< prompted blocks, the input counted
    std::map<std::string, double> options;  ///< the learner's own numbers by name, see LearnerInfo::options
    Index text_depth = 0;                   ///< those of the text branch where they are others; 0: depth

    /// A number of the learner's own; `otherwise` where it has none of this name.
    double option(const std::string& name, double otherwise = 0) const {
        const auto it = options.find(name);
        return it == options.end() ? otherwise : it->second;
    }
};

/// A number that one learner alone has.
struct LearnerOption {
    std::string name;       ///< "text-weight"
    double published = 0;   ///< its published value
    std::string help;       ///< for people
    bool positive = false;  ///< must be greater than 0
    /// What the configuration of any learner's run says of it where it was not given; absent: nothing. Options that
    /// have always been there keep this, so that earlier runs can be continued.
    std::optional<std::string> recorded = std::nullopt;
};

/// Everything about a learner that needs no device.
struct LearnerInfo {
    std::string name;                    ///< in commands and files: "coop"
    std::string title;                   ///< for people: "CoOp"
    std::string paper;                   ///< where it comes from
    std::string summary;                 ///< one line: what is learned
    std::vector<LearnerOption> options;  ///< of its own
    bool takes_position = false;         ///< the class name may stand in the middle or in front of the context
    bool takes_class_specific = false;   ///< each class may have a context of its own
    bool ties_branches = false;          ///< there are as many visual prompts as text prompts
    bool takes_template = false;         ///< its texts are the data set's, not the context's words
    /// Optimizer and schedule where they are not the published SGD by epochs: for so many shots. An epoch number of 0
    /// then means as many as the steps take.
    void (*complete)(TrainingLoopConfig&, OptimizerConfig&, Index shots) = nullptr;
    Recipe (*published)(Index shots) = nullptr;  ///< sizes and schedule on ViT-B/16, base-to-novel
    /// Whether the tensors of a checkpoint are this learner's, under the published trainer's names or this library's.
    bool (*recognises)(const TensorMap&) = nullptr;
    /// What was learned as prompts of the two branches; null where a context depends on the image.
    TensorMap (*fixed_prompts)(const TensorMap&) = nullptr;
};

namespace detail {

/// Whether a checkpoint holds `name` of the prompt learner, with its prefix or (trainers that save it alone) without.
inline bool has_learner_tensor(const TensorMap& map, const std::string& name) {
    return map.contains(prompt_learner_prefix + name) || map.contains(name);
}

/// What most learners' checkpoints already are.
inline TensorMap prompts_as_they_are(const TensorMap& map) { return map; }

}  // namespace detail

}  // namespace promptkd
