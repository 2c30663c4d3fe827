// SPDX-License-Identifier: Apache-2.0
// One whole step on random weights of the published sizes: encode_image, encode_text, promptkd, promptsrc or coop; or
// one large product, what the device can do at most. Prints one JSON line with the fields of the PyTorch scripts that
// compare.py and gpu/table.py run it against.
#include "support/profile.hpp"
#include "support/random_model.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/device/async.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/distill/adapted_recipe.hpp>
#include <promptkd/distill/distiller.hpp>
#include <promptkd/distill/teachers.hpp>
#include <promptkd/learner/registry.hpp>

#if defined(__CUDACC__)
#include <promptkd/cuda.hpp>
#endif

#include <CLI/CLI.hpp>

namespace promptkd::bench {

namespace {

template <class T>
std::vector<T> random_values(Index n) {
    std::vector<T> values(static_cast<std::size_t>(n));
    RandomStream random(3, 4);
    for (T& x : values) x = static_cast<T>(static_cast<float>(random.normal()));
    return values;
}

/// "a photo of a <2 words>.": SOT, 7 random ids, EOT, zero padded. The first four ids are the same in every text.
TokenRows random_texts(Index n) {
    TokenRows rows{{}, n, 77};
    RandomStream random(5, 6);
    for (Index i = 0; i < n; ++i) {
        std::vector<std::int32_t> ids(77, 0);
        ids[0] = 49406;
        ids[8] = 49407;
        const std::int32_t prompt[] = {320, 1125, 539, 320};
        for (std::size_t t = 1; t <= 7; ++t)
            ids[t] = t <= 4 ? prompt[t - 1] : static_cast<std::int32_t>(random.below(49000));
        rows.ids.insert(rows.ids.end(), ids.begin(), ids.end());
    }
    return rows;
}

/// Random weights in the type that the device keeps frozen matrices in.
template <class D>
using WeightType = std::conditional_t<std::is_same_v<typename D::Activation, bf16>, bf16, half>;

template <class D>
ClipModel<D> random_clip(D& device, const std::string& size, bool with_text, WeightStorage storage) {
    return ClipModel<D>(device, mapped_model<WeightType<D>>(model_size(size), with_text), storage);
}

/// Answers requests on standard input with the seconds of their steps, the operations of the products in one step and
/// the peak of the device's memory.
template <class D, class Step>
void serve_steps(D& device, const Step& step) {
    device.reset();
    step();
    const double flops = device.flops();
    serve(std::cin, std::cout, step, [&] {
        nlohmann::ordered_json more{{"flops", flops}, {"promptkd", version}};
        if constexpr (requires { device.peak_memory(); }) more["peak_gpu_mb"] = device.peak_memory() >> 20;
        return more;
    });
}

/// One untimed step, then o.repeat timed ones; or, with --serve, as many as are asked for. The device's counts are of
/// all of these, without the set-up.
template <class D, class Step>
Timings timed(D& device, const StepOptions& o, const Step& step) {
    if (o.serve) {
        serve_steps(device, step);
        return {};
    }
    device.reset();
    const auto begin = std::chrono::steady_clock::now();
    Timings timings = measure(step, o.repeat);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    timings.flops = device.flops() / (o.repeat + 1);
    if constexpr (requires { device.seconds(); }) timings.outside = (seconds - device.seconds()) / (o.repeat + 1);
    return timings;
}

/// A square product of the device's activations, with results of type C: what a step's rate is compared with.
template <class D, class C>
class LargeProduct {
public:
    LargeProduct(D& device, Index size)
        : device_(device),
          x_(device, random_values<A>(size * size)),
          y_(device, random_values<A>(size * size)),
          z_(device, size * size) {
        product_.m = size;
        product_.n = size;
        product_.k = size;
        product_.ldc = size;
        product_.a = operand(x_.data(), size);
        product_.b = transposed(y_.data(), size);
        product_.c = z_.data();
        product_.c_type = dtype_of<C>;
    }
    void run() {
        device_.gemm(product_);
        device_.synchronize();
    }

private:
    using A = typename D::Activation;
    D& device_;
    Buffer<D, A> x_, y_;
    Buffer<D, C> z_;
    Gemm product_;
};

template <class D>
Timings large_product(D& device, const StepOptions& o) {
    LargeProduct<D, typename D::Activation> product(device, o.size);
    return timed(device, o, [&] { product.run(); });
}

template <class D>
Timings encode_image(D& device, const StepOptions& o) {
    using T = typename D::Scalar;
    const WeightStorage storage = o.in_place ? WeightStorage::native : WeightStorage::packed;
    const ClipModel<D> model = random_clip(device, o.model, false, storage);
    FrozenImageTower<D> tower(device, model, nullptr, o.batch);
    Buffer<D, T> images(device, random_values<T>(o.batch * 3 * tower.resolution() * tower.resolution()));
    return timed(device, o, [&] {
        tower.encode_raw(images.data(), o.batch);
        device.synchronize();
    });
}

template <class D>
Timings encode_text(D& device, const StepOptions& o) {
    const ClipModel<D> model = random_clip(device, o.model, true, WeightStorage::packed);
    const TokenRows texts = random_texts(o.classes);
    return timed(device, o, [&] { encode_texts(device, model, texts); });
}

/// What a teacher's prompts would be.
template <class D>
TensorMap random_visual_prompts(D& device, const StepOptions& o, Index width) {
    ParamSet<D> prompts(device);
    add_visual_prompts(prompts, o.ctx, o.depth, width);
    prompts.bind_frozen();
    for (const std::string& name : prompts.names()) initialize_normal(prompts, name, 1);
    TensorMap values;
    prompts.save(values);
    return values;
}

/// The distiller's step recorded once and repeated with one call.
template <class D, class Step>
Timings recorded_step(D& device, const StepOptions& o, Distiller<D>& distiller, const Step& step) {
    if constexpr (GraphDevice<D>) {
        step();
        device.begin_capture();
        step();
        const typename D::Graph graph = device.end_capture();
        return timed(device, o, [&] {
            device.replay(graph);
            distiller.loss();
        });
    } else {
        fail("--graph needs a GPU");
    }
}

template <class D>
Timings promptkd_step(D& device, const StepOptions& o) {
    using T = typename D::Scalar;
    const WeightStorage kept = o.int8_teacher ? WeightStorage::int8 : WeightStorage::packed;
    const ClipModel<D> teacher_model = random_clip(device, o.teacher, true, kept);
    const ClipModel<D> student_model = random_clip(device, o.model, false, WeightStorage::native);
    const std::vector<T> vectors = class_vectors(device, teacher_model, random_texts(o.classes));
    const TensorMap learned = random_visual_prompts(device, o, teacher_model.vision().width());
    LiveTeachers<D> teacher(device, TeacherGives::logits, o.batch);
    teacher.add(teacher_model, &learned, vectors);
    StudentConfig shape;
    shape.prompts = o.ctx;
    shape.depth = o.depth;
    shape.embed = teacher_model.vision().embed();
    Student<D> student(device, student_model, shape, o.batch);
    student.initialize(1);
    Distiller<D> distiller(student, {vectors, {}}, {});
    const Index resolution = teacher_model.vision().resolution();
    Buffer<D, T> images(device, random_values<T>(o.batch * 3 * resolution * resolution));
    const auto live_step = [&] {
        distiller.step(images.data(), teacher.targets(images.data(), o.batch), o.batch, 0.005);
    };
    if (o.graph) return recorded_step(device, o, distiller, live_step);
    std::vector<T> known(static_cast<std::size_t>(o.batch * distiller.target_size()));
    device.download(known.data(), teacher.targets(images.data(), o.batch), known.size() * sizeof(T));
    const Buffer<D, T> stored(device, known);
    return timed(device, o, [&] {
        if (o.published) class_vectors(device, teacher_model, random_texts(o.classes));
        if (o.stored)
            distiller.step(images.data(), stored.data(), o.batch, 0.005);
        else
            live_step();
        distiller.loss();
    });
}

/// A student whose encoder is adapted too, from stored targets, by the recipe of distill/adapted_recipe.hpp.
template <class D>
Timings adapted_step(D& device, const StepOptions& o) {
    using T = typename D::Scalar;
    const ClipModel<D> model = random_clip(device, o.model, false, WeightStorage::native);
    StudentConfig shape;
    shape.prompts = o.ctx;
    shape.depth = o.depth;
    shape.embed = 768;
    shape.training = parse_encoder_training(o.task);
    Student<D> student(device, model, shape, o.batch);
    student.initialize(1);
    std::vector<T> vectors = random_values<T>(o.classes * shape.embed);
    normalize_rows(vectors, shape.embed);
    DistillationConfig settings;
    settings.kd_weight = static_cast<double>(o.classes);
    settings.optimizer.kind = OptimizerKind::adamw;
    settings.optimizer.clip = 1;
    settings.optimizer.rate_factors = body_rates(o.task == "full" ? 0.3 : 1);
    Distiller<D> distiller(student, {vectors, {}}, settings);
    const Index resolution = model.vision().resolution();
    const Buffer<D, T> images(device, random_values<T>(o.batch * 3 * resolution * resolution));
    const Buffer<D, T> targets(device, random_values<T>(o.batch * o.classes));
    return timed(device, o, [&] {
        distiller.step(images.data(), targets.data(), o.batch, 0.003);
        distiller.loss();
    });
}

/// A learner of the registry on random images and labels.
template <class D>
Timings learner_step(D& device, const StepOptions& o) {
    using T = typename D::Scalar;
    const ClipModel<D> model = random_clip(device, o.model, true, WeightStorage::native);
    const FrozenClip<D> clip{device, model};
    Recipe recipe = published_recipe(o.task, 16);
    if (recipe.text > 0) recipe.text = o.ctx;
    if (recipe.visual > 0) recipe.visual = o.ctx;
    if (recipe.depth > 1) recipe.depth = o.depth;
    const auto learner = make_learner(o.task, clip, recipe, {}, o.classes);
    learner->initialize(1, {});
    LearnerTexts<T> texts{{random_texts(o.classes), ContextLayout::after_start(o.classes, o.ctx)},
                          random_values<T>(o.classes * model.text().embed())};
    normalize_rows(texts.frozen, model.text().embed());
    TrainerOptions<D> options;
    options.max_batch = o.batch;
    const auto trainer = make_trainer(o.task, clip, *learner, texts, recipe, options);
    const Index resolution = model.vision().resolution();
    Buffer<D, T> images(device, random_values<T>(o.batch * 3 * resolution * resolution));
    std::vector<std::int32_t> labels;
    for (int i = 0; i < o.batch; ++i) labels.push_back(i % o.classes);
    Buffer<D, std::int32_t> targets(device, labels);
    return timed(device, o, [&] {
        trainer->step(images.data(), targets.data(), o.batch, 0.0025);
        trainer->loss();
    });
}

template <class D>
Timings run_task(D& device, const StepOptions& options) {
    if (options.task == "product") return large_product(device, options);
    if (options.task == "encode_image") return encode_image(device, options);
    if (options.task == "encode_text") return encode_text(device, options);
    if (options.task == "lora" || options.task == "full") return adapted_step(device, options);
    if (try_find_learner(options.task)) return learner_step(device, options);
    return promptkd_step(device, options);
}

#if defined(__CUDACC__)
template <class D>
void run_on(D& device, const StepOptions& options) {
    const Timings timings = run_task(device, options);
    if (options.serve) return;
    const nlohmann::ordered_json more{{"peak_gpu_mb", device.peak_memory() >> 20}, {"device", device.name()}};
    std::cout << step_report(options, timings, more).dump() << std::endl;
}

template <class D>
void run_on(const StepOptions& options, bool profile) {
    CudaOptions on;
    on.tf32 = options.dtype == "tf32";
    on.attention = parse_attention_kernel(options.attention, "--attention");
    if (!profile) {
        Counted<D> device(on);
        return run_on(device, options);
    }
    Profiled<D> device(on);
    run_on(device, options);
    device.print(stderr);
}

/// The program step_cuda: the same tasks on the GPU.
void run_step(const StepOptions& options, bool profile) {
    const bool brief = options.dtype == "bf16" || options.dtype == "fp16";
    require(options.attention != "mma" || brief, "--attention mma needs --dtype bf16 or fp16");
    if (options.dtype == "bf16") return run_on<Cuda<float, bf16>>(options, profile);
    if (options.dtype == "fp16") return run_on<Cuda<float, half>>(options, profile);
    run_on<Cuda<float>>(options, profile);
}
#else
/// GFLOP/s of a large product: the best of some.
template <class D>
double product_peak(D& device) {
    const Index size = 2048;
    LargeProduct<D, typename D::Scalar> product(device, size);
    return 2.0 * static_cast<double>(size * size * size) / measure([&] { product.run(); }, 5).min * 1e-9;
}

template <class D>
void run_on(Profiled<D>&& device, const StepOptions& options, bool profile) {
    const double peak_before = product_peak(device);
    const Timings timings = run_task(device, options);
    if (profile) device.print(stderr);
    if (options.serve) return;
    const double peak = std::max(peak_before, product_peak(device));
    const char* weights = std::is_same_v<typename D::Activation, bf16> ? "bf16" : "f16";
    std::cout << step_report(options, timings,
                             {{"product_peak_gflops", peak},
                              {"peak_share", timings.flops / timings.median * 1e-9 / peak},
                              {"device", "cpu"},
                              {"weights", weights}})
                     .dump()
              << std::endl;
}

void run_step(const StepOptions& options, bool profile) {
    require(options.dtype != "tf32", "--dtype tf32 needs a GPU: step_cuda");
    require(options.dtype != "fp16", "--dtype fp16 needs a GPU: step_cuda");
    require(options.attention == "composed", "--attention ", options.attention, " needs a GPU: step_cuda");
    if (options.dtype == "bf16") return run_on(Profiled<Cpu<float, bf16>>(options.threads), options, profile);
    run_on(Profiled<Cpu<float>>(options.threads), options, profile);
}
#endif

int run(int argc, char** argv) {
    StepOptions options;
    CLI::App app{"One whole step on random weights of a published size"};
    add_step_options(app, options,
                     {"encode_image", "encode_text", "promptkd", "promptsrc", "coop", "product", "lora", "full"});
    bool profile = false;
    app.add_flag("--graph", options.graph, "on the GPU, promptkd: record the step and repeat it with one call");
    app.add_flag("--in-place", options.in_place,
                 "encode_image: weights where they lie in the mapped file, not rearranged for the product");
    app.add_flag("--profile", profile, "print time and rate of every kind of operation to standard error");
    CLI11_PARSE(app, argc, argv);
    run_step(options, profile);
    return 0;
}

}  // namespace

}  // namespace promptkd::bench

int main(int argc, char** argv) {
    try {
        return promptkd::bench::run(argc, argv);
    } catch (const std::exception& error) {
        std::cerr << "step: " << error.what() << std::endl;
        return 1;
    }
}
