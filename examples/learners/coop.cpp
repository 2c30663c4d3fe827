// SPDX-License-Identifier: Apache-2.0
// CoOp: four learnable vectors take the place of "a photo of a" in front of every class name.
#include "task.hpp"

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        CoOp<Backend> learner(task.device, task.model, 4);
        learner.initialize(1, task.context_words(4));

        // A trainer joins both encoders, the learner and the texts of some classes; the prompts stay in the learner.
        const auto trainer = [&](const std::vector<std::string>& class_names) {
            const ContextTexts texts = task.texts(class_names, 4);
            return std::make_unique<PromptTrainer<Backend>>(task.device, task.model, learner, texts.tokens,
                                                            texts.layout, OptimizerConfig{}, SelfRegulation<float>{},
                                                            20);
        };
        task.fit(*trainer(task.train.class_names), 0.002);
        task.report("CoOp", trainer);
    });
}
