// SPDX-License-Identifier: Apache-2.0
// PromptKD: a student learns from unlabelled images under a prompted teacher, and becomes one file that classifies.
#include "task.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/distill/run.hpp>
#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/evaluate/evaluate.hpp>
#include <promptkd/format/safetensors.hpp>

#include <iostream>

int main(int argc, char** argv) {
    using namespace example;
    return run([&] {
        Task task(argc, argv);
        const std::string assets = PROMPTKD_ASSETS;
        const TensorMap prompts = read_safetensors(assets + "/fashion_teacher_prompts.safetensors"),
                        student_file = read_safetensors(assets + "/fashion_clip_student.safetensors");
        const ClipModel<Backend> teacher_model(task.device,
                                               read_safetensors(assets + "/fashion_clip_teacher.safetensors"));

        // Class vectors: computed once by the prompted teacher, shared by both.
        const TokenRows texts = tokenize_classes(task.tokenizer, teacher_model.text().config(), "teacher",
                                                 task.base.class_names, "a photo of a {}.");
        const std::vector<float> vectors = class_vectors(task.device, teacher_model, texts, &prompts);
        LiveTeachers<Backend> teacher(task.device, TeacherGives::logits, 8);
        teacher.add(teacher_model, &prompts, vectors);

        // The student: its own encoder with 4 visual prompts in 3 blocks, and a projector into the teacher's space.
        Student<Backend> student(task.device, task.model, StudentConfig{4, 3, 2, teacher_model.vision().embed()}, 20);
        student.initialize(1);
        DistillerOptions<Backend> options;
        options.max_batch = 8;
        Distiller<Backend> distiller(student, {vectors, {}}, DistillationConfig{}, options);
        TrainingLoopConfig loop;
        loop.schedule.max_epoch = 5 * task.epochs;
        loop.augmentation = Augmentation::flip;
        loop.loader_threads = 1;
        const TrainingResult result =
            run_distillation(distiller, teacher, task.train, loop);  // labels are not looked at

        write_bundle("student.safetensors", student, student_file, vectors, task.base.class_names);
        Classifier<Backend> classifier(task.device, read_safetensors("student.safetensors"), 20);
        const auto features = collect_features(task.device, classifier, task.base, EvaluationOptions{20, 1, {}, {}});
        std::cout << result.progress.step << " steps, loss " << result.progress.first_loss << " -> "
                  << result.progress.last_loss << "\nPromptKD: base "
                  << evaluate_subset(task.device, features, vectors, task.base.classes(), ClassSubset::all).accuracy
                  << std::endl;
    });
}
