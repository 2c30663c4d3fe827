// SPDX-License-Identifier: Apache-2.0
// CoCoOp: CoOp's vectors plus a small network of the image's feature, so that every image has texts of its own.
#include "task.hpp"

#include <promptkd/learner/conditional_trainer.hpp>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        CoCoOp<Backend> learner(task.device, task.model, 4);
        learner.initialize(1, task.context_words(4));

        // Its trainer runs the text encoder once an image; images stay frozen.
        const auto trainer = [&](const std::vector<std::string>& class_names) {
            const ContextTexts texts = task.texts(class_names, 4);
            return std::make_unique<ConditionalTrainer<Backend>>(task.device, task.model, learner, texts.tokens,
                                                                 texts.layout, OptimizerConfig{}, 20);
        };
        task.fit(*trainer(task.train.class_names), 0.002);
        task.report("CoCoOp", trainer);
    });
}
