// SPDX-License-Identifier: Apache-2.0
// What the examples of this folder share: a small CLIP, a few labelled images, a training loop and a report. Everything
// that is particular to a learner is in its own file.
#pragma once

#include <promptkd/data/open.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/learner/trainer.hpp>

#include <functional>
#include <string>

namespace example {

using namespace promptkd;
using Backend = Cpu<float>;  // Cuda<float> of <promptkd/cuda.hpp> in a source that nvcc compiles: nothing else changes

struct Task {
    /// The program's arguments: [FOLDER of Fashion-MNIST [number of test images [number of epochs]]].
    Task(int argc, char** argv);

    Backend device;
    ClipModel<Backend> model;
    Tokenizer tokenizer;
    FrozenClip<Backend> clip;
    Dataset train;        ///< 16 labelled images of each base class
    Dataset base, novel;  ///< test images of the trained and of the other classes
    Index epochs = 2;

    /// "a photo of a <name>." for each class, whose first `context` words will be replaced by learnable vectors.
    ContextTexts texts(const std::vector<std::string>& class_names, Index context) const;
    /// The embeddings of those words: what learnable vectors start from.
    std::vector<float> context_words(Index context) const;
    /// For batches of 20 images.
    TrainerOptions<Backend> options() const;
    /// Trains in batches of 8, SGD, cosine schedule from `rate`.
    void fit(LearnerTrainer<Backend>& trainer, double rate);
    /// Prints base and new accuracy; make(texts) is a trainer of the learned prompts for these class prompts, whose
    /// first `context` words they replace.
    using MakeTrainer = std::function<std::unique_ptr<LearnerTrainer<Backend>>(const ContextTexts&)>;
    void report(const std::string& learner, Index context, const MakeTrainer& make);
};

/// main() of every example: runs f and turns an error into one line.
int run(const std::function<void()>& f);

}  // namespace example
