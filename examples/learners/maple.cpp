// SPDX-License-Identifier: Apache-2.0
// MaPLe: two textual prompts in the first two blocks, and for each a learnable Linear that makes the visual prompt of
// it.
#include "task.hpp"

#include <promptkd/format/safetensors.hpp>
#include <promptkd/learner/maple.hpp>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        MaPLe<Backend> learner(task.device, task.model, 2, 2);
        learner.initialize(1, task.context_words(2));  // the other words of "a photo of a" stay as they are

        const auto trainer = [&](const std::vector<std::string>& class_names) {
            const ContextTexts texts = task.texts(class_names, 2);
            return std::make_unique<PromptTrainer<Backend>>(task.device, task.model, learner, texts.tokens,
                                                            texts.layout, OptimizerConfig{}, SelfRegulation<float>{},
                                                            20);
        };
        task.fit(*trainer(task.train.class_names), 0.0035);
        task.report("MaPLe", trainer);

        // What a teacher of PromptKD needs is the prompts alone: MaPLe's as those of two independent branches.
        TensorMap learned;
        learner.params().save(learned);
        write_safetensors("maple.safetensors", learned);
    });
}
