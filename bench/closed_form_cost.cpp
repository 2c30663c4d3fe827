// SPDX-License-Identifier: Apache-2.0
// What a fit in closed form costs once the images are encoded: synthetic features, kept on the disk in 16 bits, fitted
// from there. Prints seconds of the whole fit and of its passes, and the largest memory. With --write the hidden
// features and the targets as .npy, for bench/closed_form_cost.py.
//   closed_form_cost [--images 6000] [--student-width 512] [--teacher-width 768] [--classes 1000] [--width 2048] …
#include <promptkd/core/heap.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/distill/closed_form/feature_store.hpp>
#include <promptkd/distill/closed_form/fit.hpp>
#include <promptkd/format/npy.hpp>

#include <CLI/CLI.hpp>

#include <sys/resource.h>
#include <chrono>
#include <cstdio>
#include <filesystem>

namespace promptkd::bench {

namespace {

struct Options {
    Index images = 6000, student_width = 512, teacher_width = 768, classes = 1000, width = 2048;
    std::string folder = "closed_form_cost.features", write;
    int threads = 0;
};

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::vector<double> unit_rows(Index rows, Index width, std::uint64_t seed) {
    RandomStream random(seed, 0);
    std::vector<double> x(static_cast<std::size_t>(rows * width));
    for (Index i = 0; i < rows; ++i) {
        double square = 0;
        for (Index j = 0; j < width; ++j) {
            const double value = random.uniform(-1, 1);
            x[static_cast<std::size_t>(i * width + j)] = value;
            square += value * value;
        }
        for (Index j = 0; j < width; ++j) x[static_cast<std::size_t>(i * width + j)] /= std::sqrt(square);
    }
    return x;
}

ClassGeometry geometry_of(const Options& o) {
    ClassGeometry g;
    g.classes = o.classes;
    g.class_vectors = unit_rows(o.classes, o.teacher_width, 1);
    g.student_text = unit_rows(o.classes, o.student_width, 2);
    g.teacher_scale = g.student_scale = 100;
    return g;
}

/// Images of random classes: text features of student and teacher, with noise of their own.
FeatureRows<float> rows_of(const Options& o, const ClassGeometry& g, Index first, Index n) {
    FeatureRows<float> rows;
    RandomStream random(3, static_cast<std::uint64_t>(first));
    for (Index i = first; i < first + n; ++i) {
        const Index label = static_cast<Index>(random.below(static_cast<std::uint32_t>(o.classes)));
        rows.images.push_back(i);
        for (Index j = 0; j < o.student_width; ++j)
            rows.student.push_back(static_cast<float>(
                g.student_text[static_cast<std::size_t>(label * o.student_width + j)] + random.uniform(-0.1, 0.1)));
        double square = 0;
        const std::size_t start = rows.teacher.size();
        for (Index j = 0; j < o.teacher_width; ++j) {
            const double value =
                g.class_vectors[static_cast<std::size_t>(label * o.teacher_width + j)] + random.uniform(-0.05, 0.05);
            rows.teacher.push_back(static_cast<float>(value));
            square += value * value;
        }
        for (std::size_t k = start; k < rows.teacher.size(); ++k)
            rows.teacher[k] /= static_cast<float>(std::sqrt(square));
    }
    return rows;
}

FeatureStoreOptions store_options(const Options& o) {
    FeatureStoreOptions s;
    s.folder = o.folder;
    s.identity = {{"images", o.images}, {"student", o.student_width}, {"teacher", o.teacher_width}, {"K", o.classes}};
    s.type = DType::f16;
    s.images = o.images;
    s.student_width = o.student_width;
    s.teacher_width = o.teacher_width;
    return s;
}

/// φ (N, h) and T (N, e_t) as RidgeCV takes them.
void write_features(const Options& o, Cpu<float>& device, const FeatureStore<float>& store) {
    const ClosedFormPasses<Cpu<float>> passes(device, store, 256);
    HiddenLayer layer = random_hidden_layer(o.student_width, o.width, 1);
    Cpu<double> host;
    set_statistics(layer, passes.moments(), host);
    const HiddenFeatures<Cpu<float>> hidden(device, layer);
    std::vector<float> x(static_cast<std::size_t>(o.images * o.student_width));
    std::vector<float> t(static_cast<std::size_t>(o.images * o.teacher_width));
    std::vector<float> phi(static_cast<std::size_t>(o.images * o.width));
    store.read(0, o.images, x.data(), t.data());
    hidden.forward(Matrix<const float>(x.data(), o.images, o.student_width),
                   Matrix<float>(phi.data(), o.images, o.width));
    write_npy(o.write + "/phi.npy", make_tensor(std::move(phi), {o.images, o.width}));
    write_npy(o.write + "/t.npy", make_tensor(std::move(t), {o.images, o.teacher_width}));
}

void run(const Options& o) {
    Cpu<float> device(o.threads);
    const ClassGeometry geometry = geometry_of(o);
    {
        FeatureStore<float> store(store_options(o));
        for (const Slice& gap : store.missing({0, o.images})) {
            store.begin(gap.first);
            for (Index i = 0; i < gap.count; i += 256)
                store.add(rows_of(o, geometry, gap.first + i, std::min<Index>(256, gap.count - i)));
            store.end(gap.first + gap.count);
        }
    }
    const FeatureStore<float> store(store_options(o));
    if (!o.write.empty()) return write_features(o, device, store);
    ClosedFormSpec spec;
    spec.width = o.width;
    const auto start = Clock::now();
    std::string pass;
    auto began = start;
    const auto progress = [&](const std::string& name, Index done, Index total) {
        if (name != pass) began = Clock::now();
        pass = name;
        if (done == total) std::printf("%-17s %.2f s\n", name.c_str(), seconds_since(began));
    };
    const ClosedFormFit fit = fit_closed_form(device, spec, store, geometry, {progress, {}});
    const double seconds = seconds_since(start);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    std::printf("lambda %.4g, a %.2f\nfit %.2f s, largest memory %.0f MB\n", fit.rho, fit.weight.chosen, seconds,
                static_cast<double>(usage.ru_maxrss) / 1024);
}

}  // namespace

}  // namespace promptkd::bench

int main(int argc, char** argv) {
    using namespace promptkd::bench;
    promptkd::return_large_blocks();
    Options o;
    CLI::App app{"Cost of a fit in closed form, from synthetic features on the disk."};
    app.add_option("--images", o.images, "N")->capture_default_str();
    app.add_option("--student-width", o.student_width, "e_s")->capture_default_str();
    app.add_option("--teacher-width", o.teacher_width, "e_t")->capture_default_str();
    app.add_option("--classes", o.classes, "K")->capture_default_str();
    app.add_option("--width", o.width, "h")->capture_default_str();
    app.add_option("--features", o.folder, "folder for the features, which stay there")->capture_default_str();
    app.add_option("--write", o.write, "instead of a fit: hidden features and targets into this folder");
    app.add_option("--threads", o.threads, "CPU threads; 0: all cores")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        run(o);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "closed_form_cost: %s\n", error.what());
        return 1;
    }
    return 0;
}
