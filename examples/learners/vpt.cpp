// SPDX-License-Identifier: Apache-2.0
// VPT: eight learnable tokens behind the image's patches, others of their own in each of the first three blocks; the
// texts stay as they are.
#include "task.hpp"

#include <promptkd/learner/vpt.hpp>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        Vpt<Backend> learner(task.device, task.model, 8, 3);
        learner.initialize(1, {});

        // No context vectors: the class vectors are constant, and the trainer computes them once.
        const auto trainer = [&](const ContextTexts& texts) {
            return std::make_unique<PromptTrainer<Backend>>(task.device, task.model, learner, texts, task.options());
        };
        task.fit(*trainer(task.texts(task.train.class_names, 0)), 0.0025);
        task.report("VPT", 0, trainer);
    });
}
