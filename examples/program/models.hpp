// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"

#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/clip/class_texts.hpp>
#include <promptkd/learner/registry.hpp>
#include <promptkd/text/tokenizer.hpp>

namespace promptkd::cli {

/// Weights, prompts or checkpoints in any format that the library reads; warnings go to standard error.
inline TensorMap load_weights(const Common& c) {
    WeightsOptions options = c.weights_options;
    options.warn = [](const std::string& text) { std::fprintf(stderr, "warning: %s\n", printable(text).c_str()); };
    options.names = {"--activation", "--model-config FILE"};
    options.learner_of = &name_of_learner;
    return read_weights(c.weights, options);
}

}  // namespace promptkd::cli
