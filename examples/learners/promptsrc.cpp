// SPDX-License-Identifier: Apache-2.0
// PromptSRC: IVLP's prompts, kept close to the frozen model's features and predictions; the result is a Gaussian mean
// of the prompts after each epoch.
#include "task.hpp"

#include <promptkd/learner/promptsrc.hpp>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        Ivlp<Backend> learner(task.device, task.model, IndependentPrompts{4, 2, 4, 2});
        learner.initialize(1, task.context_words(4));

        PromptSrcTerms<float> terms;
        terms.frozen_text = frozen_class_features(task.clip, task.train.class_names, promptsrc_templates);
        const double late = 0.75 * static_cast<double>(task.epochs);  // the epoch with the largest weight
        terms.epoch_weights = gaussian_weights(task.epochs, late, 1);
        PromptSrcTrainer<Backend> training(task.device, task.model, learner, task.texts(task.train.class_names, 4),
                                           terms, task.options());
        task.fit(training, 0.0025);
        task.report("PromptSRC", 4, [&](const ContextTexts& texts) {  // only training is regularised
            return std::make_unique<PromptTrainer<Backend>>(task.device, task.model, learner, texts, task.options());
        });
    });
}
