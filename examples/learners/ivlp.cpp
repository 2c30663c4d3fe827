// SPDX-License-Identifier: Apache-2.0
// IVLP: independent prompts in both encoders, four visual and four textual, in the first two blocks.
#include "task.hpp"

#include <promptkd/learner/ivlp.hpp>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        Ivlp<Backend> learner(task.device, task.model, IndependentPrompts{4, 2, 4, 2});
        learner.initialize(1, task.context_words(4));

        const auto trainer = [&](const ContextTexts& texts) {
            return std::make_unique<PromptTrainer<Backend>>(task.device, task.model, learner, texts, task.options());
        };
        task.fit(*trainer(task.texts(task.train.class_names, 4)), 0.005);
        task.report("IVLP", 4, trainer);
    });
}
