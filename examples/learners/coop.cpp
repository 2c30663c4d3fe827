// SPDX-License-Identifier: Apache-2.0
// CoOp: four learnable vectors take the place of "a photo of a" in front of every class name.
#include "task.hpp"

#include <promptkd/learner/coop.hpp>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        CoOp<Backend> learner(task.device, task.model, 4);
        learner.initialize(1, task.context_words(4));

        // A trainer joins both encoders, the learner and the texts of some classes; the prompts stay in the learner.
        const auto trainer = [&](const ContextTexts& texts) {
            return std::make_unique<PromptTrainer<Backend>>(task.device, task.model, learner, texts, task.options());
        };
        task.fit(*trainer(task.texts(task.train.class_names, 4)), 0.002);
        task.report("CoOp", 4, trainer);
    });
}
