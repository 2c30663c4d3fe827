// SPDX-License-Identifier: Apache-2.0
// A short demo (320 unlabelled images, one epoch, 500 test images) gives the CPU's accuracies on the emulated CUDA
// device, and nearly them with activations in 16 bits. Real images: Fashion-MNIST (PROMPTKD_FASHION_MNIST, else
// Debian's folder).
#include "support/emulated_cuda.hpp"

#include <promptkd/clip/class_texts.hpp>
#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/distill/run.hpp>
#include <promptkd/evaluate/evaluate.hpp>
#include <promptkd/text/tokenizer.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace promptkd::test {

namespace {

struct Accuracies {
    double base = 0, novel = 0, all = 0, last_loss = 0;
};

template <class D>
Accuracies demo(D& device, const std::string& name) {
    using T = typename D::Scalar;
    const auto start = std::chrono::steady_clock::now();
    const std::string assets = PROMPTKD_ASSETS;
    const char* root = std::getenv("PROMPTKD_FASHION_MNIST");
    const std::string data = root && *root ? root : "/usr/share/datasets/fashion-mnist";
    const Dataset images = take(load_fashion_mnist(data, Split::train), 320),
                  test = take(load_fashion_mnist(data, Split::test), 500);
    const TensorMap prompts = read_safetensors(assets + "/fashion_teacher_prompts.safetensors");
    const ClipModel<D> teacher_model(device, read_safetensors(assets + "/fashion_clip_teacher.safetensors")),
        student_model(device, read_safetensors(assets + "/fashion_clip_student.safetensors"));
    const TokenRows texts =
        tokenize_classes(Tokenizer::from_file(assets + "/fashion_bpe.txt.gz"), teacher_model.text().config(), "teacher",
                         images.class_names, "a photo of a {}.");
    const std::vector<T> vectors = class_vectors(device, teacher_model, texts, &prompts);
    LiveTeachers<D> teacher(device, TeacherGives::logits, 8);
    teacher.add(teacher_model, &prompts, vectors);
    StudentConfig shape;
    shape.prompts = 4;
    shape.depth = 3;
    shape.embed = teacher_model.vision().embed();
    Student<D> student(device, student_model, shape, 50);
    student.initialize(1);
    DistillerOptions<D> distilling;
    distilling.max_batch = 8;
    Distiller<D> distiller(student, {vectors, {}}, {}, distilling);
    TrainingLoopConfig run;
    run.schedule.max_epoch = 1;
    run.augmentation = Augmentation::flip;
    const TrainingResult trained = run_distillation(distiller, teacher, images, run);

    Arena<D> arena(device);
    Buffer<D, T> out(device, 50 * shape.embed);
    {
        PlanningScope<D> planning(device);
        student.forward_inference(arena, nullptr, 50, out.data());
    }
    arena.bind();
    EvaluationOptions options;
    options.batch = 50;
    const FeatureSet<T> set =
        collect_features(device, test, student_model.preprocessing(), shape.embed, options, [&](const T* x, Index n) {
            arena.reset();
            student.forward_inference(arena, x, n, out.data());
            return static_cast<const T*>(out.data());
        });
    const BaseNewAll r = evaluate_base_new_all(device, set, vectors, static_cast<Index>(images.class_names.size()));
    std::printf("%-28s base %.2f  new %.2f  all %.2f  last loss %.5f  (%.0f s)\n", name.c_str(), r.base.accuracy,
                r.novel.accuracy, r.all.accuracy, trained.progress.last_loss,
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    std::fflush(stdout);
    return {r.base.accuracy, r.novel.accuracy, r.all.accuracy, trained.progress.last_loss};
}

int failures = 0;

void near(const Accuracies& a, const Accuracies& b, double points, const char* what) {
    for (const double d : {a.base - b.base, a.novel - b.novel, a.all - b.all})
        if (!(std::abs(d) <= points)) {
            std::printf("FAIL %s: %.2f points apart\n", what, d);
            ++failures;
        }
}

int run() {
    Cpu<float> cpu;
    const Accuracies want = demo(cpu, "Cpu<float>");
    if (want.all < 50) {
        std::printf("FAIL: the student has learned nothing\n");
        ++failures;
    }
    Cpu<float, bf16> brief;
    near(demo(brief, "Cpu<float, bf16>"), want, 2, "bf16");
    Cpu<float, half> narrow;
    near(demo(narrow, "Cpu<float, half>"), want, 1, "fp16");
    EmulatedCuda<float> emulated;
    near(demo(emulated, "EmulatedCuda<float>"), want, 0.3, "the emulated device");
    for (const std::string& error : emulated.errors()) {
        std::printf("FAIL %s\n", error.c_str());
        ++failures;
    }
    if (emulated.live_allocations() != 0) {
        std::printf("FAIL: device memory was not released\n");
        ++failures;
    }
    return failures == 0 ? 0 : 1;
}

}  // namespace

}  // namespace promptkd::test

int main() {
    try {
        return promptkd::test::run();
    } catch (const std::exception& error) {
        std::printf("FAIL: %s\n", error.what());
        return 1;
    }
}
