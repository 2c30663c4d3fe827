// SPDX-License-Identifier: Apache-2.0
// VPT: eight learnable tokens behind the image's patches, others of their own in each of the first three blocks; the
// texts stay as they are.
#include "task.hpp"

#include <promptkd/learner/ivlp.hpp>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        Ivlp<Backend> learner(task.device, task.model, IndependentPrompts{8, 3, 0, 0});
        learner.initialize(1, {});

        // No context vectors: the class vectors are constant, and the trainer computes them once.
        const auto trainer = [&](const std::vector<std::string>& class_names) {
            return std::make_unique<PromptTrainer<Backend>>(task.device, task.model, learner,
                                                            task.texts(class_names, 0).tokens, ContextLayout{},
                                                            OptimizerConfig{}, SelfRegulation<float>{}, 20);
        };
        task.fit(*trainer(task.train.class_names), 0.0025);
        task.report("VPT", trainer);
    });
}
