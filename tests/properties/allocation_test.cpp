// SPDX-License-Identifier: Apache-2.0
// A training step allocates nothing: counted in every thread, from step 3 on. A program of its own, because it replaces
// the allocator's entry points (under the address sanitizer, which owns them, it listens to its hooks).
#include "support/sanitizer.hpp"
#include "support/tiny_clip.hpp"

#include <promptkd/distill/run.hpp>

#include <atomic>
#include <cstdio>

namespace {

std::atomic<long> allocations{0};
std::atomic<bool> counting{false};

void count() {
    if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

#if defined(PROMPTKD_ADDRESS_SANITIZER)
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, std::size_t),
                                                         void (*)(const volatile void*));
static void install() {
    __sanitizer_install_malloc_and_free_hooks([](const volatile void*, std::size_t) { count(); },
                                              [](const volatile void*) {});
}
#else
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t n) {
    count();
    return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
    count();
    return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) {
    count();
    return __libc_realloc(p, n);
}
void* memalign(std::size_t alignment, std::size_t n) {
    count();
    return __libc_memalign(alignment, n);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) {
    count();
    return __libc_memalign(alignment, n);
}
int posix_memalign(void** p, std::size_t alignment, std::size_t n) {
    count();
    *p = __libc_memalign(alignment, n);
    return *p ? 0 : 12;
}
}
static void install() {}
#endif

namespace promptkd::test {

namespace {

int failures = 0;

void check(bool good, const std::string& what) {
    std::printf("%s: %s\n", good ? "ok  " : "FAIL", what.c_str());
    if (!good) ++failures;
}

/// Twelve 8×8 images that need no decoding.
struct Squares : ImageSource {
    Index size() const override { return 12; }
    std::string name(Index i) const override { return "square " + std::to_string(i); }
    void load(Index i, Image& out) const override {
        out.height = out.width = 8;
        out.pixels.resize(192);
        for (std::size_t p = 0; p < 192; ++p)
            out.pixels[p] = static_cast<std::uint8_t>((p * 7 + static_cast<std::size_t>(i) * 31) % 256);
    }
};

Dataset squares() {
    Dataset data;
    data.name = "squares";
    data.source = std::make_shared<Squares>();
    for (Index i = 0; i < 12; ++i) data.items.push_back({i, -1});
    return data;
}

/// Steps of a student under a teacher, both tiny; the whole run with its loader and log.
template <class D>
void run(const char* name) {
    D device(2);
    const TensorMap weights = tiny_clip();
    const ClipModel<D> model(device, weights, WeightStorage::f16), student_model(device, weights);
    StudentConfig shape;
    shape.prompts = 2;
    shape.depth = 3;
    shape.embed = 6;
    Student<D> student(device, student_model, shape, 4);
    student.initialize(1);
    const std::vector<typename D::Scalar> vectors = as<typename D::Scalar>(numbers(5 * 6, 9));
    Distiller<D> distiller(student, {vectors, {}}, {});
    LiveTeachers<D> teacher(device, TeacherGives::logits, 4);
    teacher.add(model, nullptr, vectors);

    TrainingLoopConfig config;
    config.batch = 4;
    config.max_steps = 30;
    config.schedule.max_epoch = 10;
    config.augmentation = Augmentation::none;
    config.loader_threads = 2;
    std::vector<long> seen;
    seen.reserve(100);
    config.on_step = [&](const StepRecord& record) {
        seen.push_back(allocations.load());
        if (record.step % 3 == 2)
            counting = false;  // the epoch's end may allocate: its order of images, its checkpoint
        if (record.step % 3 == 0) counting = record.step >= 3;
    };
    run_distillation(distiller, teacher, squares(), config);
    counting = false;
    check(seen.size() == 30, concat(name, ": 30 steps were run"));
    check(seen.back() == 0, concat(name, ": ", seen.back(), " allocations in the steps from the fourth on"));
    allocations = 0;
}

}  // namespace

}  // namespace promptkd::test

int main() {
    using namespace promptkd::test;
    install();
    counting = true;
    delete new volatile int(1);
    counting = false;
    check(allocations.exchange(0) > 0, "an allocation is counted");
    run<promptkd::Cpu<float>>("Cpu<float>");
    run<promptkd::Cpu<double>>("Cpu<double>");
    return failures == 0 ? 0 : 1;
}
