// SPDX-License-Identifier: Apache-2.0
#include "task.hpp"

#include <promptkd/data/class_subset.hpp>
#include <promptkd/evaluate/learner.hpp>
#include <promptkd/format/safetensors.hpp>
#include <promptkd/learner/run.hpp>

#include <cstdlib>
#include <iostream>

namespace example {

namespace {

const std::string assets = PROMPTKD_ASSETS;

Index number(int argc, char** argv, int i, Index otherwise) { return argc > i ? std::atoll(argv[i]) : otherwise; }

}  // namespace

Task::Task(int argc, char** argv)
    : device(1),
      model(device, read_safetensors(assets + "/fashion_clip_student.safetensors")),
      tokenizer(Tokenizer::from_file(assets + "/fashion_bpe.txt.gz")),
      clip{device, model, &tokenizer} {
    const std::string root = std::string("fashion-mnist:") + (argc > 1 ? argv[1] : "/usr/share/datasets/fashion-mnist");
    const Dataset all = take(open_dataset(root, Split::train), 6000);
    const Dataset test = take(open_dataset(root, Split::test), number(argc, argv, 2, 1000));
    train = draw_few_shot(select_subset(all, ClassSubset::base), 16, 1);
    base = select_subset(test, ClassSubset::base);
    novel = select_subset(test, ClassSubset::novel);
    epochs = number(argc, argv, 3, epochs);
}

ContextTexts Task::texts(const std::vector<std::string>& class_names, Index context) const {
    return context_texts(clip, class_names, context, {});
}

std::vector<float> Task::context_words(Index context) const { return initial_context(clip, context, {}); }

TrainerOptions<Backend> Task::options() const {
    TrainerOptions<Backend> options;
    options.max_batch = 20;
    return options;
}

void Task::fit(LearnerTrainer<Backend>& trainer, double rate) {
    TrainingLoopConfig loop;
    loop.batch = 8;
    loop.preprocessing = model.preprocessing();
    loop.loader_threads = 1;
    loop.schedule.lr = rate;
    loop.schedule.max_epoch = epochs;
    const TrainingResult result = run_learner(trainer, train, loop);
    std::cout << result.progress.step << " steps, loss " << result.progress.first_loss << " -> "
              << result.progress.last_loss << "\n";
}

void Task::report(const std::string& learner, Index context, const MakeTrainer& make) {
    const auto accuracy = [&](const Dataset& data) {
        const auto trainer = make(texts(data.class_names, context));
        return evaluate_learner(device, *trainer, data, model.preprocessing(), 20).accuracy;
    };
    const double of_base = accuracy(base);
    const double of_new = accuracy(novel);
    std::cout << learner << ": base " << of_base << ", new " << of_new << ", harmonic mean "
              << harmonic_mean(of_base, of_new) << std::endl;
}

int run(const std::function<void()>& f) {
    try {
        f();
        return 0;
    } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
}

}  // namespace example
