// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/lora.hpp>
#include <promptkd/clip/schema.hpp>
#include <promptkd/clip/schema/lookup.hpp>
#include <promptkd/optim/rate_groups.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace promptkd {

/// How a student is adapted whose encoder is trained (LoRA, or every weight): AdamW, warm-up times cosine by step, the
/// gradient clipped by its global norm, epochs from the number of images, and the best of some checks on distillation
/// images that are held out, judged by their KL to the teacher; no label is read.
struct AdaptedRecipe {
    double rate = 0.003;         ///< learning rate of prompts, projector and LoRA
    double body_rate = 0;        ///< factor for the encoder's own weights; 0: 0.3 for all of them, 1 for LoRA
    double weight_decay = 1e-4;  ///< of everything that is trained
    double clip = 1;             ///< largest norm of the gradient
    Index warmup_steps = 50;     ///< of the rate's linear rise
    Index batch = 16;            ///< images a step
    Index checks = 10;           ///< looks at the images held out
    Index most_held_out = 500;   ///< of the images, a fifth at most
    Index judged = 200;          ///< images that a best fit is judged by, where it has them
    Index most_folds = 5;        ///< trainings at most that it makes to have them
};

/// Epochs of a training on N images: 2000/√N, at least 1.
inline Index adapted_epochs(Index images) {
    return std::max<Index>(1, std::llround(2000 / std::sqrt(static_cast<double>(images))));
}

/// Images held out of N: min(most, max(⌊N/5⌋, 1)).
inline Index adapted_held_out(Index images, Index most) { return std::min(most, std::max<Index>(images / 5, 1)); }

/// Parts of `held_out` of N images each that a best fit holds out in turn: as many as it takes to judge by
/// AdaptedRecipe::judged images. One part, held out of the one training, is enough from 1,000 images on.
inline Index adapted_folds(Index images, Index held_out) {
    const AdaptedRecipe recipe;
    const Index needed = (recipe.judged + held_out - 1) / held_out;
    return std::max<Index>(1, std::min({needed, recipe.most_folds, images / held_out}));
}

/// The rate of an image encoder's own parameters, its low-rank updates included. The positions stay as they are.
inline std::vector<RateFactor> body_rates(double factor) {
    const std::string positions = schema::name_of(schema::vision_transformer, schema::Role::positions);
    const std::string branch = positions.substr(0, positions.find('.') + 1);
    return {{positions, 0}, {branch, factor}, {lora_prefix, factor}};
}

}  // namespace promptkd
