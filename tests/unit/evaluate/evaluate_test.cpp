// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"
#include "support/temporary_folder.hpp"

#include <promptkd/evaluate/evaluate.hpp>
#include <promptkd/evaluate/sharded.hpp>

#include <doctest/doctest.h>

namespace evaluate_test {

namespace {

using namespace promptkd;
using namespace promptkd::test;

/// Images of one grey each: image i has the value 20·i. Those in `damaged` cannot be read.
class Greys final : public ImageSource {
public:
    Greys(Index n, std::vector<Index> damaged) : n_(n), damaged_(std::move(damaged)) {}
    Index size() const override { return n_; }
    std::string name(Index i) const override { return "grey " + std::to_string(i); }
    void load(Index i, Image& out) const override {
        require(std::find(damaged_.begin(), damaged_.end(), i) == damaged_.end(), name(i), ": damaged");
        out.height = 4;
        out.width = 4;
        out.pixels.assign(3 * 4 * 4, static_cast<std::uint8_t>(20 * i));
    }

private:
    Index n_;
    std::vector<Index> damaged_;
};

Dataset greys(Index n, Index classes, std::vector<Index> damaged = {}) {
    Dataset data;
    data.name = "greys";
    for (Index c = 0; c < classes; ++c) data.class_names.push_back("class " + std::to_string(c));
    for (Index i = 0; i < n; ++i) data.items.push_back({i, i % classes});
    data.source = std::make_shared<Greys>(n, std::move(damaged));
    return data;
}

/// Features (first value of the image, calls so far) in device memory: shows which image came where.
template <class D>
struct FirstValue {
    using T = typename D::Scalar;
    D& device;
    Index at_most;
    Buffer<D, T> out{device, at_most * 2};
    Index calls = 0;
    std::vector<Index> sizes{};

    Preprocessing preprocessing() const { return Preprocessing::clip(4); }
    Index embed() const { return 2; }
    const T* encode(const T* images, Index n) {
        std::vector<T> host(static_cast<std::size_t>(n * 3 * 4 * 4));
        device.download(host.data(), images, host.size() * sizeof(T));
        std::vector<T> rows;
        for (Index i = 0; i < n; ++i) {
            rows.push_back(host[static_cast<std::size_t>(i * 3 * 4 * 4)]);
            rows.push_back(static_cast<T>(calls));
        }
        ++calls;
        sizes.push_back(n);
        device.upload(out.data(), rows.data(), rows.size() * sizeof(T));
        device.synchronize();
        return out.data();
    }
};

TEST_CASE_TEMPLATE("features: every image once, in order, whatever the batch", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const Dataset data = greys(7, 2);
    std::vector<T> first;
    for (const Index batch : {1, 3, 7, 20}) {
        FirstValue<D> encoder{device, batch};
        EvaluationOptions options;
        options.batch = batch;
        std::vector<Index> done;
        options.progress = [&](Index n, Index all) {
            CHECK(all == 7);
            done.push_back(n);
        };
        const FeatureSet<T> set = collect_features(device, encoder, data, options);
        CHECK(set.size() == 7);
        CHECK(set.embed == 2);
        CHECK(set.unreadable == 0);
        CHECK(set.indices == std::vector<Index>{0, 1, 2, 3, 4, 5, 6});
        CHECK(set.labels == std::vector<Index>{0, 1, 0, 1, 0, 1, 0});
        CHECK(done.back() == 7);
        std::vector<T> values;
        for (std::size_t i = 0; i < 7; ++i) values.push_back(set.values[2 * i]);
        for (std::size_t i = 1; i < 7; ++i) CHECK(values[i] > values[i - 1]);
        if (first.empty()) first = values;
        CHECK(values == first);
    }
    FirstValue<D> encoder{device, 3};
    EvaluationOptions options;
    options.batch = 3;
    const auto by_function = collect_features(device, data, Preprocessing::clip(4), 2, options,
                                              [&](const T* images, Index n) { return encoder.encode(images, n); });
    CHECK(encoder.sizes == std::vector<Index>{3, 3, 1});
    CHECK(by_function.values[12] == first[6]);
}

TEST_CASE("features: images that cannot be read are left out, counted and reported") {
    Cpu<float> device(2);
    FirstValue<Cpu<float>> encoder{device, 2};
    EvaluationOptions options;
    options.batch = 2;
    std::vector<std::string> warnings;
    options.warn = [&](const std::string& text) { warnings.push_back(text); };
    const auto set = collect_features(device, encoder, greys(6, 2, {1, 4}), options);
    CHECK(set.size() == 4);
    CHECK(set.unreadable == 2);
    CHECK(set.indices == std::vector<Index>{0, 2, 3, 5});
    CHECK(set.labels == std::vector<Index>{0, 0, 1, 1});
    REQUIRE(warnings.size() == 2);
    CHECK(warnings[0].find("grey 1") != std::string::npos);
}

TEST_CASE("features: no image is an error") {
    Cpu<float> device(2);
    FirstValue<Cpu<float>> encoder{device, 2};
    CHECK_THROWS_WITH_AS(collect_features(device, encoder, greys(0, 2)), "greys: there is no image to evaluate", Error);
    CHECK_THROWS_AS(collect_features(device, Ranks<Cpu<float>>{}, encoder, greys(0, 2)), Error);
}

TEST_CASE("features: one process alone collects what collect_features() does") {
    Cpu<float> device(2);
    FirstValue<Cpu<float>> encoder{device, 64};
    const auto alone = collect_features(device, encoder, greys(5, 2));
    encoder.calls = 0;
    const auto shared = collect_features(device, Ranks<Cpu<float>>{}, encoder, greys(5, 2));
    CHECK(shared.values == alone.values);
    CHECK(shared.indices == alone.indices);
}

TEST_CASE_TEMPLATE("nearest classes: the largest cosine, over more rows than one group", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const std::vector<T> vectors{1, 0, 0, 1, -1, 0};  // three directions
    std::vector<T> features;
    std::vector<Index> want;
    for (int i = 0; i < 1500; ++i) {
        const Index c = (i * 7) % 3;
        want.push_back(c);
        features.push_back(vectors[static_cast<std::size_t>(2 * c)] * T(0.9) + T(0.1));
        features.push_back(vectors[static_cast<std::size_t>(2 * c + 1)] * T(0.9) + T(0.2));
    }
    CHECK(nearest_classes(device, features, vectors, 2) == want);
    CHECK(nearest_classes(device, std::vector<T>{}, vectors, 2).empty());
}

/// Five classes in five directions; image i of class i % 5 points at class `guess[i]`.
FeatureSet<float> pointing_at(const std::vector<Index>& guess) {
    FeatureSet<float> set;
    set.embed = 5;
    for (std::size_t i = 0; i < guess.size(); ++i) {
        for (Index j = 0; j < 5; ++j) set.values.push_back(j == guess[i] ? 1.0f : 0.1f * static_cast<float>(j) / 5);
        set.labels.push_back(static_cast<Index>(i % 5));
        set.indices.push_back(static_cast<Index>(i));
    }
    return set;
}

std::vector<float> directions() {
    std::vector<float> vectors(25, 0.0f);
    for (std::size_t c = 0; c < 5; ++c) vectors[6 * c] = 1;
    return vectors;
}

TEST_CASE("evaluation: each subset among its own classes alone") {
    Cpu<float> device(2);
    // Labels 0 … 4 twice. Base: 0, 1, 2; new: 3, 4.
    FeatureSet<float> set = pointing_at({0, 1, 4, 3, 4, 0, 0, 2, 4, 4});
    set.unreadable = 3;
    const BaseNewAll r = evaluate_base_new_all(device, set, directions(), 5);
    // An image of class 2 that points at class 4 is classified among the base classes by its small values: class 2.
    CHECK(r.base.n == 6);
    CHECK(r.base.classes == 3);
    CHECK(r.base.accuracy == doctest::Approx(100.0 * 5 / 6));
    CHECK(r.novel.n == 4);
    CHECK(r.novel.accuracy == doctest::Approx(75));
    CHECK(r.all.n == 10);
    CHECK(r.all.accuracy == doctest::Approx(70));
    CHECK(r.all.unreadable == 3);
    CHECK(r.harmonic() == doctest::Approx(harmonic_mean(100.0 * 5 / 6, 75)));
}

TEST_CASE("evaluation: unlabelled images do not count, and a subset without images is an error") {
    Cpu<float> device(2);
    FeatureSet<float> set = pointing_at({0, 1, 2, 3, 4});
    set.labels[0] = -1;
    CHECK(evaluate_subset(device, set, directions(), 5, ClassSubset::all).n == 4);
    set.labels[3] = -1;
    set.labels[4] = -1;
    CHECK_THROWS_WITH_AS(evaluate_subset(device, set, directions(), 5, ClassSubset::novel),
                         "there is no labelled image of the classes 'new' to evaluate", Error);
}

}  // namespace

}  // namespace evaluate_test
