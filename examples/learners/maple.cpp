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

        const auto trainer = [&](const ContextTexts& texts) {
            return std::make_unique<PromptTrainer<Backend>>(task.device, task.model, learner, texts, task.options());
        };
        task.fit(*trainer(task.texts(task.train.class_names, 2)), 0.0035);
        task.report("MaPLe", 2, trainer);

        // What a teacher of PromptKD needs is the prompts alone: MaPLe's as those of two independent branches.
        TensorMap learned;
        learner.params().save(learned);
        write_safetensors("maple.safetensors", learned);
    });
}
