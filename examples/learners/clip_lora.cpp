// SPDX-License-Identifier: Apache-2.0
// CLIP-LoRA: low-rank updates of queries, keys and values in every block of both encoders.
#include "task.hpp"

#include <promptkd/learner/clip_lora.hpp>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        ClipLora<Backend> learner(task.device, task.model, 2, 0.25);
        learner.initialize(1, {});
        const auto trainer = [&](const ContextTexts& texts) {
            return std::make_unique<PromptTrainer<Backend>>(task.device, task.model, learner, texts, task.options());
        };
        task.fit(*trainer(task.texts(task.train.class_names, 0)), 0.0025);
        task.report("CLIP-LoRA", 0, trainer);
    });
}
