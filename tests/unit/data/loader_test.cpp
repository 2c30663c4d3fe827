// SPDX-License-Identifier: Apache-2.0
#include <promptkd/data/loader.hpp>
#include <promptkd/data/open.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <set>
#include <stdexcept>

namespace loader_test {

namespace {

using namespace promptkd;

/// Images of one colour (their number). Some cannot be read, one fails otherwise; delays shuffle the threads.
class Colours final : public ImageSource {
public:
    Colours(Index n, Index side, std::set<Index> bad = {}) : n_(n), side_(side), bad_(std::move(bad)) {}
    Index size() const override { return n_; }
    std::string name(Index i) const override { return "colour " + std::to_string(i); }
    void load(Index i, Image& out) const override {
        ++loads;
        if (delay) std::this_thread::sleep_for(std::chrono::microseconds((i * 7919) % 300));
        require(bad_.count(i) == 0, name(i), ": damaged");
        if (i == disaster) throw std::logic_error("a fault of the source");
        if (i == huge) throw std::bad_alloc();
        if (i == empty) {
            out = Image();
            return;
        }
        out.height = out.width = side_;
        out.pixels.assign(static_cast<std::size_t>(3 * side_ * side_), static_cast<std::uint8_t>(i));
    }

    bool delay = false;
    Index disaster = -1, empty = -1, huge = -1;
    mutable std::atomic<int> loads{0};

private:
    Index n_, side_;
    std::set<Index> bad_;
};

Dataset make_data(const std::shared_ptr<Colours>& source) {
    Dataset data;
    data.name = "colours";
    data.class_names = {"even", "odd"};
    for (Index i = 0; i < source->size(); ++i) data.items.push_back({i, i % 2});
    data.source = source;
    return data;
}

/// Everything an epoch delivers.
struct Epoch {
    std::vector<Index> sizes, labels, indices;
    std::vector<float> images;
    std::vector<std::string> warnings;
    Index unreadable = 0;
    bool operator==(const Epoch& o) const {
        return sizes == o.sizes && labels == o.labels && indices == o.indices && images == o.images &&
               warnings == o.warnings && unreadable == o.unreadable;
    }
};

Epoch drain(BatchLoader& loader) {
    Epoch epoch;
    const Index side = 4;
    while (const Batch* batch = loader.next()) {
        epoch.sizes.push_back(batch->size);
        CHECK(static_cast<Index>(batch->labels.size()) == batch->size);
        epoch.labels.insert(epoch.labels.end(), batch->labels.begin(), batch->labels.end());
        epoch.indices.insert(epoch.indices.end(), batch->indices.begin(), batch->indices.end());
        epoch.images.insert(epoch.images.end(), batch->images.begin(),
                            batch->images.begin() + batch->size * 3 * side * side);
    }
    epoch.unreadable = loader.unreadable();
    return epoch;
}

LoaderOptions small_options(int threads) {
    LoaderOptions options;
    options.batch = 5;
    options.preprocessing = Preprocessing::clip(4);
    options.threads = threads;
    return options;
}

Epoch run(const Dataset& data, LoaderOptions options, const std::vector<Index>& order, std::uint32_t number = 0) {
    std::vector<std::string> warnings;
    options.warn = [&](const std::string& text) { warnings.push_back(text); };
    BatchLoader loader(data, options);
    loader.start(order, number);
    Epoch epoch = drain(loader);
    epoch.warnings = std::move(warnings);
    return epoch;
}

TEST_CASE("loader: delivers the order in batches, normalised, labelled") {
    const Dataset data = make_data(std::make_shared<Colours>(12, 4));
    for (const int threads : {0, 1, 3}) {
        CAPTURE(threads);
        const Epoch epoch = run(data, small_options(threads), {3, 1, 4, 11, 5, 9, 2});
        CHECK(epoch.sizes == std::vector<Index>{5, 2});
        CHECK(epoch.indices == std::vector<Index>{3, 1, 4, 11, 5, 9, 2});
        CHECK(epoch.labels == std::vector<Index>{1, 1, 0, 1, 1, 1, 0});
        CHECK(epoch.images[0] == doctest::Approx((3 / 255.0 - 0.48145466) / 0.26862954));   // red of image 3
        CHECK(epoch.images[16] == doctest::Approx((3 / 255.0 - 0.4578275) / 0.26130258));   // green
        CHECK(epoch.images[48] == doctest::Approx((1 / 255.0 - 0.48145466) / 0.26862954));  // red of image 1
    }
}

TEST_CASE("loader: further inputs of the same images, also where unreadable ones are replaced") {
    const Dataset data = make_data(std::make_shared<Colours>(14, 6, std::set<Index>{2, 5, 6, 7, 8, 9}));
    Preprocessing other = Preprocessing::clip(3);
    other.normalization = {{0, 0, 0}, {1, 1, 1}};
    other.interpolation = Interpolation::nearest;
    LoaderOptions options = small_options(2);
    options.augmentation = Augmentation::random_resized_crop;
    options.further = {other, options.preprocessing};
    LoaderOptions alone = options;
    alone.preprocessing = other;
    alone.further.clear();
    BatchLoader loader(data, options), single(data, alone);
    loader.start(in_order(14), 1);
    single.start(in_order(14), 1);
    while (const Batch* batch = loader.next()) {
        const Batch* want = single.next();
        REQUIRE(want != nullptr);
        CHECK(batch->indices == want->indices);
        CHECK(batch->further.at(0) == want->images);
        CHECK(batch->further.at(1) == batch->images);
        CHECK(batch->images.size() == 5u * 48);
        CHECK(batch->further.at(0).size() == 5u * 27);
    }
    CHECK(single.next() == nullptr);
}

TEST_CASE("loader: an incomplete last batch can be dropped") {
    const Dataset data = make_data(std::make_shared<Colours>(12, 4));
    LoaderOptions options = small_options(2);
    options.drop_last = true;
    CHECK(run(data, options, in_order(12)).sizes == std::vector<Index>{5, 5});
    CHECK(run(data, options, in_order(10)).sizes == std::vector<Index>{5, 5});
    CHECK(run(data, options, in_order(4)).sizes.empty());
    CHECK(run(data, options, {}).sizes.empty());
}

TEST_CASE("loader: the number of threads changes nothing, whatever the timing, images missing or not") {
    for (const std::set<Index>& bad : {std::set<Index>{}, std::set<Index>{0, 7, 8, 9, 10, 11, 12, 13, 14, 40, 99}}) {
        const auto source = std::make_shared<Colours>(100, 6, bad);
        const Dataset data = make_data(source);
        LoaderOptions options = small_options(0);
        options.augmentation = Augmentation::flip;
        options.seed = 3;
        const std::vector<Index> order = shuffled(100, 1, 2);
        const Epoch want = run(data, options, order, 2);
        CHECK(want.unreadable == static_cast<Index>(bad.size()));
        CHECK(want.warnings.size() == bad.size());
        source->delay = true;
        for (const int threads : {1, 2, 5}) {
            CAPTURE(threads);
            options.threads = threads;
            CHECK(run(data, options, order, 2) == want);
            options.prefetch = 1;
            CHECK(run(data, options, order, 2) == want);
            options.prefetch = 0;
        }
    }
}

TEST_CASE("loader: unreadable images are replaced by the next readable ones") {
    const Dataset data = make_data(std::make_shared<Colours>(14, 4, std::set<Index>{2, 5, 6, 7, 8, 9}));
    const Epoch epoch = run(data, small_options(2), in_order(14));
    CHECK(epoch.sizes == std::vector<Index>{5, 3});
    CHECK(epoch.indices == std::vector<Index>{0, 1, 3, 4, 10, 11, 12, 13});
    CHECK(epoch.unreadable == 6);
    REQUIRE(epoch.warnings.size() == 6);
    CHECK(epoch.warnings[0] == "colour 2: damaged");
    LoaderOptions options = small_options(2);
    options.drop_last = true;
    CHECK(run(data, options, in_order(14)).indices == std::vector<Index>{0, 1, 3, 4, 10});
}

TEST_CASE("loader: images that decode but cannot be preprocessed count as unreadable") {
    const auto source = std::make_shared<Colours>(6, 4);
    source->empty = 3;
    const Epoch epoch = run(make_data(source), small_options(1), in_order(6));
    CHECK(epoch.indices == std::vector<Index>{0, 1, 2, 4, 5});
    REQUIRE(epoch.warnings.size() == 1);
    CHECK(epoch.warnings[0].find("colour 3: ") == 0);
}

TEST_CASE("loader: another normalisation can be asked for") {
    const Dataset data = make_data(std::make_shared<Colours>(3, 4));
    LoaderOptions options = small_options(0);
    options.preprocessing.normalization.mean = {0, 0.5f, 0};
    options.preprocessing.normalization.deviation = {1, 0.5f, 1};
    const Epoch epoch = run(data, options, {2});
    CHECK(epoch.images[0] == doctest::Approx(2 / 255.0));
    CHECK(epoch.images[16] == doctest::Approx((2 / 255.0 - 0.5) / 0.5));
}

TEST_CASE("loader: a folder of photos of mixed sizes and formats") {
    const Dataset data = open_dataset("folder:" PROMPTKD_TEST_DATA "/golden/images", Split::train, {"cat", "dog"});
    REQUIRE(data.size() >= 12);
    LoaderOptions options = small_options(2);
    options.augmentation = Augmentation::random_resized_crop;
    const Epoch epoch = run(data, options, in_order(data.size()));
    CHECK(epoch.unreadable == 0);
    CHECK(static_cast<Index>(epoch.indices.size()) == data.size());
    CHECK(epoch.labels[0] == -1);
    options.threads = 0;
    CHECK(run(data, options, in_order(data.size())) == epoch);
}

TEST_CASE("loader: an error when not one image can be read") {
    const Dataset data = make_data(std::make_shared<Colours>(3, 4, std::set<Index>{0, 1, 2}));
    for (const int threads : {0, 2})
        CHECK_THROWS_WITH_AS(run(data, small_options(threads), in_order(3)), doctest::Contains("not one of 3 images"),
                             Error);
}

TEST_CASE("loader: other exceptions of the threads reach the caller") {
    const auto source = std::make_shared<Colours>(30, 4);
    source->disaster = 17;
    const Dataset data = make_data(source);
    for (const int threads : {0, 3}) {
        BatchLoader loader(data, small_options(threads));
        loader.start(in_order(30));
        for (int i = 0; i < 3; ++i) CHECK(loader.next() != nullptr);
        CHECK_THROWS_AS(loader.next(), std::logic_error);
    }
}

TEST_CASE("loader: an image too large for the memory costs that image alone") {
    const auto source = std::make_shared<Colours>(30, 4);
    source->huge = 17;
    const Epoch epoch = run(make_data(source), small_options(2), in_order(30));
    CHECK(epoch.unreadable == 1);
    CHECK(epoch.indices.size() == 29);
    REQUIRE(epoch.warnings.size() == 1);
    CHECK(epoch.warnings[0].find("colour 17: this image is too large") == 0);
}

TEST_CASE("loader: ends and restarts in the middle of an epoch") {
    const auto source = std::make_shared<Colours>(500, 4);
    source->delay = true;
    const Dataset data = make_data(source);
    {
        BatchLoader loader(data, small_options(3));
        loader.start(in_order(500));
        REQUIRE(loader.next() != nullptr);
        loader.start({7, 8});
        const Batch* batch = loader.next();
        REQUIRE(batch != nullptr);
        CHECK(batch->indices == std::vector<Index>{7, 8});
        CHECK(loader.next() == nullptr);
        CHECK(loader.next() == nullptr);
        loader.start(in_order(500));
        CHECK(loader.next()->indices == std::vector<Index>{0, 1, 2, 3, 4});
    }
    CHECK(source->loads < 200);  // the rest was not decoded
    const BatchLoader never_started(data, small_options(2));
}

TEST_CASE("loader: batch memory is reused from epoch to epoch") {
    const Dataset data = make_data(std::make_shared<Colours>(40, 4));
    BatchLoader loader(data, small_options(2));
    std::set<const float*> buffers;
    for (std::uint32_t epoch = 0; epoch < 5; ++epoch) {
        loader.start(in_order(38), epoch);
        while (const Batch* batch = loader.next()) buffers.insert(batch->images.data());
    }
    CHECK(buffers.size() <= 3);
}

TEST_CASE("loader: augmentation depends on seed, image and epoch") {
    class Ramp final : public ImageSource {
    public:
        Index size() const override { return 64; }
        std::string name(Index) const override { return "ramp"; }
        void load(Index, Image& out) const override {
            out = Image(4, 4);
            for (std::size_t i = 0; i < out.pixels.size(); ++i) out.pixels[i] = static_cast<std::uint8_t>(i * 5);
        }
    };
    Dataset data;
    data.source = std::make_shared<Ramp>();
    for (Index i = 0; i < 64; ++i) data.items.push_back({i, -1});
    LoaderOptions options = small_options(2);
    options.augmentation = Augmentation::flip;
    const Epoch first = run(data, options, in_order(64), 0);
    CHECK(first == run(data, options, in_order(64), 0));
    CHECK(first.images != run(data, options, in_order(64), 1).images);
    // the views of an image do not depend on its place in the order
    std::vector<Index> reversed = in_order(64);
    std::reverse(reversed.begin(), reversed.end());
    const Epoch backwards = run(data, options, reversed, 0);
    CHECK(std::equal(first.images.begin(), first.images.begin() + 48, backwards.images.end() - 48));
    options.seed = 1;
    CHECK(first.images != run(data, options, in_order(64), 0).images);
}

TEST_CASE("loader: senseless options and orders are refused") {
    const Dataset data = make_data(std::make_shared<Colours>(3, 4));
    LoaderOptions options = small_options(1);
    options.batch = 0;
    CHECK_THROWS_WITH_AS(BatchLoader(data, options), doctest::Contains("batch size"), Error);
    options = small_options(1);
    options.preprocessing = Preprocessing::clip(0);
    CHECK_THROWS_WITH_AS(BatchLoader(data, options), doctest::Contains("resolution"), Error);
    CHECK_THROWS_WITH_AS(BatchLoader(data, small_options(-1)), doctest::Contains("loader threads"), Error);
    BatchLoader loader(data, small_options(1));
    CHECK_THROWS_WITH_AS(loader.start({0, 3}), doctest::Contains("image 3 does not exist"), Error);
    CHECK_THROWS_WITH_AS(loader.start({-1}), doctest::Contains("image -1 does not exist"), Error);
}

TEST_CASE("shuffled: a permutation that depends on seed and epoch") {
    const std::vector<Index> order = shuffled(100, 1, 0);
    CHECK(std::set<Index>(order.begin(), order.end()).size() == 100);
    CHECK(*std::max_element(order.begin(), order.end()) == 99);
    CHECK(order == shuffled(100, 1, 0));
    CHECK(order != shuffled(100, 1, 1));
    CHECK(order != shuffled(100, 2, 0));
    CHECK(order != in_order(100));
    CHECK(shuffled(0, 1, 0).empty());
    CHECK_THROWS_AS(shuffled(-1, 1, 0), Error);
    std::vector<int> first(4);  // every element comes first equally often
    for (std::uint32_t epoch = 0; epoch < 4000; ++epoch) ++first[static_cast<std::size_t>(shuffled(4, 9, epoch)[0])];
    for (const int n : first) CHECK(std::abs(n - 1000) < 130);  // standard deviation 27
}

}  // namespace

}  // namespace loader_test
