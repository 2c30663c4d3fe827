// SPDX-License-Identifier: Apache-2.0
// KgCoOp, by its name in the registry: CoOp's vectors, whose class features stay close to those of "a photo of a". Any
// learner of learner/registry.hpp is trained by these lines.
#include "task.hpp"

#include <promptkd/learner/registry.hpp>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        const LearnerInfo& info = find_learner("kgcoop");
        Recipe recipe = published_recipe(info.name, 16);
        recipe.epochs = task.epochs;
        const ContextOptions context;
        const auto learner = make_learner(info.name, task.clip, recipe, context, task.train.classes());
        learner->initialize(1, initial_context(task.clip, recipe.text, context));

        const auto texts = training_texts(info.name, task.clip, recipe, context, task.train.class_names);
        task.fit(*make_trainer(info.name, task.clip, *learner, texts, recipe, task.options()), recipe.lr);
        task.report(info.title, recipe.text, [&](const ContextTexts& prompts) {
            const LearnerTexts<float> evaluated{prompts, {}};
            return make_trainer(info.name, task.clip, *learner, evaluated, recipe, task.options());
        });
    });
}
