// SPDX-License-Identifier: Apache-2.0
// PromptSRC: IVLP's prompts, kept close to the frozen model's features and predictions; the result is a Gaussian mean
// of the prompts after each epoch.
#include "task.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/learner/aggregation.hpp>
#include <promptkd/learner/ivlp.hpp>
#include <promptkd/learner/templates.hpp>

namespace {

/// The frozen text features: the average over PromptSRC's 60 texts for each class.
std::vector<float> frozen_text(example::Task& task) {
    using namespace promptkd;
    std::vector<float> all;
    Index count = 0;
    for (const char* pattern : promptsrc_templates) {
        const TokenRows tokens = tokenize_classes(task.tokenizer, task.model.text().config(), task.model.source(),
                                                  task.train.class_names, pattern);
        const std::vector<float> part = encode_texts(task.device, task.model, tokens);
        all.insert(all.end(), part.begin(), part.end()), ++count;
    }
    std::vector<float> mean = average_rows(all, count, static_cast<Index>(all.size()) / count);
    normalize_rows(mean, task.model.text().embed());
    return mean;
}

}  // namespace

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        Ivlp<Backend> learner(task.device, task.model, IndependentPrompts{4, 2, 4, 2});
        learner.initialize(1, task.context_words(4));

        SelfRegulation<float> regulation;
        const auto trainer = [&](const std::vector<std::string>& class_names) {
            const ContextTexts texts = task.texts(class_names, 4);
            return std::make_unique<PromptTrainer<Backend>>(task.device, task.model, learner, texts.tokens,
                                                            texts.layout, OptimizerConfig{}, regulation, 20);
        };
        regulation.frozen_text = frozen_text(task);
        const double late = 0.75 * static_cast<double>(task.epochs);  // the epoch with the largest weight
        task.fit(*trainer(task.train.class_names), 0.0025, gaussian_weights(task.epochs, late, 1));
        regulation.frozen_text.clear();  // only training is regularised
        task.report("PromptSRC", trainer);
    });
}
