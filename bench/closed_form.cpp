// SPDX-License-Identifier: Apache-2.0
// The parts of a student in closed form, by number of unlabelled images, as Markdown: ridge regression, with the step
// along the KL's gradient, mixed with the zero-shot student, with the guard; distilled on all classes, the base or the
// new ones. Every image is encoded once; each seed draws other images and another first layer.
//   closed_form [--images 10,30,100,…] [--seeds 1,2,3] [--classes all,base,new] [--pool 6000] [--width 0] …
#include <promptkd/data/open.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/distill/closed_form/predictor.hpp>
#include <promptkd/experiment/closed_form/features.hpp>
#include <promptkd/experiment/closed_form/pair_encoder.hpp>
#include <promptkd/experiment/evaluation.hpp>
#include <promptkd/experiment/models.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <map>

namespace promptkd::bench {

namespace {

struct Options {
    std::string assets = PROMPTKD_ASSETS, data = "fashion-mnist:/usr/share/datasets/fashion-mnist";
    std::vector<Index> images = {10, 30, 100, 300, 1000, 6000};
    std::vector<std::uint64_t> seeds = {1, 2, 3};
    std::vector<std::string> classes = {"all"};
    Index pool = 6000, width = 0, test_images = 0;
    int threads = 0;
};

/// Accuracies in percent.
struct Accuracy {
    double base = 0, novel = 0, all = 0;
    double harmonic() const { return harmonic_mean(base, novel); }
};

using Device = Cpu<float>;

/// Both models, all features, and what they are compared with.
class Bench {
public:
    explicit Bench(const Options& o) : device_(o.threads) {
        const ModelFile student_file{o.assets + "/fashion_clip_student.safetensors", "", "quick_gelu"};
        const ModelFile teacher_file{o.assets + "/fashion_clip_teacher.safetensors", "", "quick_gelu"};
        const ClipModel<Device> student(device_, load_weights(student_file, silent_observer()));
        const ClipModel<Device> teacher(device_, load_weights(teacher_file, silent_observer()));
        const Dataset train = take(open_dataset(o.data, Split::train), o.pool);
        Dataset test = open_dataset(o.data, Split::test);
        if (o.test_images > 0) test = take(test, o.test_images);
        const ClassTexts texts{train.class_names, "a photo of a {}.", o.assets + "/fashion_bpe.txt.gz"};
        const std::vector<float> w = text_features(device_, teacher, texts, nullptr);
        const std::vector<float> v = text_features(device_, student, texts, nullptr);
        geometry_.classes = train.classes();
        geometry_.class_vectors.assign(w.begin(), w.end());
        geometry_.student_text.assign(v.begin(), v.end());
        geometry_.teacher_scale = teacher.logit_scale();
        geometry_.student_scale = student.logit_scale();
        LiveTeachers<Device> live(device_, TeacherGives::features, batch);
        live.add(teacher, nullptr, w);
        PairEncoder<Device> pair(device_, student, &live, batch, false);
        const auto start = std::chrono::steady_clock::now();
        const FeatureSet<float> rows = encode_images(device_, pair, train, {"train", batch, silent_observer()});
        encoding_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
                    static_cast<double>(rows.size());
        PairEncoder<Device> single(device_, student, nullptr, batch, false);
        test_ = encode_images(device_, single, test, {"test", batch, silent_observer()});
        labels_ = rows.labels;
        const PairRows<float> parts(rows.values, pair);
        student_ = parts.student;
        teacher_ = parts.teacher;
        student_width_ = pair.student_width();
    }

    /// Seconds that student and teacher take to encode an image.
    double encoding() const { return encoding_; }

    /// Images drawn by `seed`: at most `n` of the classes of a half.
    std::vector<Index> draw(Index n, ClassSubset which, std::uint64_t seed) const {
        const auto range = class_range(geometry_.classes, which);
        std::vector<Index> drawn;
        for (const Index i : shuffled(static_cast<Index>(labels_.size()), seed, 0)) {
            const Index label = labels_[static_cast<std::size_t>(i)];
            if (label < range.first || label >= range.second) continue;
            drawn.push_back(i);
            if (static_cast<Index>(drawn.size()) == n) break;
        }
        std::sort(drawn.begin(), drawn.end());
        return drawn;
    }

    ClosedFormFit fit(const std::vector<Index>& images, Index width, std::uint64_t seed) {
        std::vector<float> x, t;
        const Index e_t = static_cast<Index>(geometry_.class_vectors.size()) / geometry_.classes;
        for (const Index i : images) {
            x.insert(x.end(), student_.begin() + i * student_width_, student_.begin() + (i + 1) * student_width_);
            t.insert(t.end(), teacher_.begin() + i * e_t, teacher_.begin() + (i + 1) * e_t);
        }
        ClosedFormSpec spec;
        spec.width = width;
        spec.seed = seed;
        return fit_closed_form(device_, spec, FeaturesInMemory<float>(x, student_width_, t, e_t), geometry_);
    }

    /// On the test images, half by half among its own classes.
    Accuracy test(const ClosedFormFit& fit) {
        const Index n = test_.size();
        ClosedFormPredictor<Device> predictor(device_, fit, geometry_, n);
        const Buffer<Device, float> x(device_, test_.values);
        const std::vector<double> p = predictor.predict(x.data(), n).probabilities;
        const auto accuracy = [&](ClassSubset which) {
            const auto range = class_range(geometry_.classes, which);
            const std::vector<Index> best = best_columns(p, geometry_.classes, range.first, range.second);
            return detail::subset_metrics(test_.labels, best, range).accuracy;
        };
        return {accuracy(ClassSubset::base), accuracy(ClassSubset::novel), accuracy(ClassSubset::all)};
    }

private:
    static constexpr Index batch = 100;

    Device device_;
    ClassGeometry geometry_;
    FeatureSet<float> test_;
    std::vector<Index> labels_;
    std::vector<float> student_, teacher_;
    Index student_width_ = 0;
    double encoding_ = 0;
};

/// What is left of a fit without its mixture, its guard or its step.
std::vector<std::pair<std::string, ClosedFormFit>> parts_of(const ClosedFormFit& fit) {
    ClosedFormFit zero_shot = fit, ridge = fit, step = fit, mixed = fit;
    for (ClosedFormFit* part : {&zero_shot, &ridge, &step, &mixed}) part->guard.reset();
    zero_shot.weight.chosen = 0;
    ridge.output = fit.ridge;
    ridge.weight.chosen = 1;
    step.weight.chosen = 1;
    return {{"zero-shot student", zero_shot},
            {"ridge", ridge},
            {"ridge, KL step", step},
            {"with mixing", mixed},
            {"with mixing and guard", fit}};
}

std::string cell(const std::vector<double>& values) {
    const Spread spread = spread_of(values);
    char text[40];
    std::snprintf(text, sizeof text, "%.2f ± %.2f", spread.mean, spread.standard_deviation);
    return text;
}

void print_line(const std::string& head, const std::vector<Accuracy>& found) {
    std::vector<double> base, novel, harmonic, all;
    for (const Accuracy& a : found) {
        base.push_back(a.base);
        novel.push_back(a.novel);
        harmonic.push_back(a.harmonic());
        all.push_back(a.all);
    }
    std::printf("| %s | %s | %s | %s | %s |\n", head.c_str(), cell(base).c_str(), cell(novel).c_str(),
                cell(harmonic).c_str(), cell(all).c_str());
    std::fflush(stdout);
}

/// How far single fits with mixing and guard are below the zero-shot student, at most.
struct Worst {
    double harmonic = 0, all = 0;

    void look(const Accuracy& fit, const Accuracy& zero_shot) {
        harmonic = std::min(harmonic, fit.harmonic() - zero_shot.harmonic());
        all = std::min(all, fit.all - zero_shot.all);
    }
};

void run(const Options& o) {
    using Clock = std::chrono::steady_clock;
    Bench bench(o);
    Worst worst;
    std::printf("| images | student | base | new | harmonic mean | all |\n|---|---|---|---|---|---|\n");
    for (const std::string& which : o.classes)
        for (const Index n : o.images) {
            std::map<std::string, std::vector<Accuracy>> found;
            std::vector<std::string> order;
            std::string weights;
            double seconds = 0;
            Index images = 0;
            for (const std::uint64_t seed : o.seeds) {
                const std::vector<Index> drawn = bench.draw(n, parse_class_subset(which), seed);
                images = static_cast<Index>(drawn.size());
                const auto start = Clock::now();
                const ClosedFormFit fit = bench.fit(drawn, o.width, seed);
                seconds += std::chrono::duration<double>(Clock::now() - start).count();
                weights += concat(weights.empty() ? "" : ", ", fit.weight.chosen);
                order.clear();
                for (const auto& [name, part] : parts_of(fit)) {
                    found[name].push_back(bench.test(part));
                    order.push_back(name);
                }
                worst.look(found[order.back()].back(), found[order.front()].back());
            }
            for (const std::string& name : order)
                print_line(concat(images, " of ", which, " classes | ", name), found[name]);
            std::printf("| | a: %s; fit: %.2f s, encoding: %.2f s | | | | |\n", weights.c_str(),
                        seconds / static_cast<double>(o.seeds.size()), bench.encoding() * static_cast<double>(images));
        }
    std::printf(
        "\nSingle fits with mixing and guard beside the zero-shot student, at worst: harmonic mean %.2f, all %.2f\n",
        worst.harmonic, worst.all);
}

}  // namespace

}  // namespace promptkd::bench

int main(int argc, char** argv) {
    using namespace promptkd::bench;
    Options o;
    CLI::App app{"The parts of a student in closed form on Fashion-MNIST, by number of images, as Markdown."};
    app.add_option("--assets", o.assets, "folder with the two CLIP models")->capture_default_str();
    app.add_option("--data", o.data, "the images")->capture_default_str();
    app.add_option("--images", o.images, "unlabelled images")->delimiter(',')->capture_default_str();
    app.add_option("--seeds", o.seeds, "of drawn images and first layer")->delimiter(',')->capture_default_str();
    app.add_option("--classes", o.classes, "whose images are seen: all, base, new")
        ->delimiter(',')
        ->check(CLI::IsMember({"all", "base", "new"}))
        ->capture_default_str();
    app.add_option("--pool", o.pool, "the first so many training images are drawn from")->capture_default_str();
    app.add_option("--width", o.width, "of the hidden layer; 0: default")->capture_default_str();
    app.add_option("--test-images", o.test_images, "only the first so many; 0: all")->capture_default_str();
    app.add_option("--threads", o.threads, "CPU threads; 0: all cores")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        run(o);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "closed_form: %s\n", error.what());
        return 1;
    }
    return 0;
}
