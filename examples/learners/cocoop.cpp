// SPDX-License-Identifier: Apache-2.0
// CoCoOp: CoOp's vectors plus a small network of the image's feature, so that every image has texts of its own.
#include "task.hpp"

#include <promptkd/learner/cocoop.hpp>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        CoCoOp<Backend> learner(task.device, task.model, 4);
        learner.initialize(1, task.context_words(4));

        // Its trainer runs the text encoder once an image; images stay frozen.
        const auto trainer = [&](const ContextTexts& texts) {
            return std::make_unique<ConditionalTrainer<Backend>>(task.device, task.model, learner, texts,
                                                                 task.options());
        };
        task.fit(*trainer(task.texts(task.train.class_names, 4)), 0.002);
        task.report("CoCoOp", 4, trainer);
    });
}
