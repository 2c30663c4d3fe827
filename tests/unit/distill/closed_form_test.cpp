// SPDX-License-Identifier: Apache-2.0
// The closed-form student on a case small enough to be written down: its numbers were computed by two other programs.
#include "support/devices.hpp"
#include "support/temporary_folder.hpp"
#include "support/thread_ranks.hpp"

#include <doctest/doctest.h>
#include <promptkd/distill/closed_form/feature_store.hpp>
#include <promptkd/distill/closed_form/predictor.hpp>
#include <promptkd/distill/closed_form/sums_file.hpp>

namespace promptkd::test::closed_form_test {

namespace {

constexpr Index N = 60, e_s = 5, e_t = 7, h = 12, K = 4;

std::vector<double> unit_rows(std::vector<double> x, Index width) {
    for (std::size_t first = 0; first < x.size(); first += static_cast<std::size_t>(width)) {
        double square = 0;
        for (Index j = 0; j < width; ++j)
            square += x[first + static_cast<std::size_t>(j)] * x[first + static_cast<std::size_t>(j)];
        for (Index j = 0; j < width; ++j) x[first + static_cast<std::size_t>(j)] /= std::sqrt(square);
    }
    return x;
}

/// f(i, j) for every element of a matrix.
template <class F>
std::vector<double> matrix(Index rows, Index columns, const F& f) {
    std::vector<double> x;
    for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j) x.push_back(f(static_cast<double>(i), static_cast<double>(j)));
    return x;
}

struct Case {
    ClassGeometry geometry;
    std::vector<double> x, t;
    HiddenLayer first;

    Case() {
        geometry.classes = K;
        geometry.teacher_scale = 12;
        geometry.student_scale = 4;
        geometry.class_vectors =
            unit_rows(matrix(K, e_t, [](double k, double j) { return std::cos(2.1 * k + 1.7 * j) + 0.3; }), e_t);
        geometry.student_text =
            unit_rows(matrix(K, e_s, [](double k, double j) { return std::sin(1.1 * k * (1 + j)) + 0.2; }), e_s);
        x = matrix(N, e_s, [&](double i, double j) {
            const auto y = static_cast<std::size_t>(i) % K;
            return 2 * geometry.student_text[y * e_s + static_cast<std::size_t>(j)] +
                   0.8 * std::sin(1.3 * i + 0.7 * j + 0.11 * i * j);
        });
        t = unit_rows(matrix(N, e_t,
                             [&](double i, double j) {
                                 const auto y = static_cast<std::size_t>(i) % K, row = static_cast<std::size_t>(i);
                                 return geometry.class_vectors[y * e_t + static_cast<std::size_t>(j)] +
                                        0.15 * std::cos(0.37 * i * (1 + j)) +
                                        0.25 * x[row * e_s + static_cast<std::size_t>(j) % e_s];
                             }),
                      e_t);
        const double root = std::sqrt(5.0);
        first = {e_s,
                 h,
                 matrix(e_s, h, [&](double j, double k) { return std::sin(1 + 3 * j + 7 * k + j * k) / root; }),
                 matrix(1, h, [&](double, double k) { return std::cos(k) / root; }),
                 {},
                 {}};
    }

    template <class T>
    FeaturesInMemory<T> features() const {
        return {std::vector<T>(x.begin(), x.end()), e_s, std::vector<T>(t.begin(), t.end()), e_t};
    }
    ClosedFormSpec spec() const {
        ClosedFormSpec spec;
        spec.first = first;
        spec.block = 16;
        return spec;
    }
};

double at(const std::vector<double>& x, Index i) { return x[static_cast<std::size_t>(i)]; }

}  // namespace

TEST_CASE_TEMPLATE("closed form: the numbers of the worked example", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const Case c;
    const double fine = std::is_same_v<T, double> ? 2e-8 : 1e-4;  // the digits given
    CHECK(at(c.x, 0) == doctest::Approx(0.89442719).epsilon(1e-8));
    CHECK(at(c.x, 4) == doctest::Approx(1.16241771).epsilon(1e-8));
    const ClosedFormFit fit = fit_closed_form(device, c.spec(), c.features<T>(), c.geometry);
    CHECK(at(fit.hidden.mean, 0) == doctest::Approx(0.447189564).epsilon(fine));
    CHECK(at(fit.hidden.variance, 0) == doctest::Approx(0.548347842).epsilon(fine));
    const double divergences[] = {0.35759045, 0.35640398, 0.35300438, 0.34483901, 0.33113221, 0.31657398, 0.31958621,
                                  0.36464005, 0.45037012, 0.65560386, 0.98819905, 1.52393088, 1.94070160};
    REQUIRE(fit.divergences.size() == 13);
    for (Index j = 0; j < 13; ++j) CHECK(at(fit.divergences, j) == doctest::Approx(divergences[j]).epsilon(fine));
    CHECK(fit.rho == doctest::Approx(std::pow(10.0, -1.5)));
    CHECK(fit.lambda == doctest::Approx(0.650132064).epsilon(fine));
    CHECK(at(fit.ridge.weight, 0) == doctest::Approx(-0.0355932312).epsilon(fine * 10));
    CHECK(fit.eta == doctest::Approx(0.0210848252).epsilon(1e-7));
    CHECK(at(fit.output.weight, 0) == doctest::Approx(-0.00850665802).epsilon(fine * 40));
    CHECK(at(fit.output.weight, 11 * e_t + 6) == doctest::Approx(-0.108986853).epsilon(fine * 10));
    CHECK(at(fit.output.bias, 0) == doctest::Approx(0.334483740).epsilon(fine));
    CHECK(fit.temperature == doctest::Approx(0.69310104).epsilon(std::max(1e-6, fine)));
    CHECK(fit.weight.least == doctest::Approx(0.85));
    CHECK(fit.weight.chosen == doctest::Approx(0.48));
    REQUIRE(fit.guard);
    CHECK(fit.guard->cutoff == doctest::Approx(0.146942819).epsilon(fine));

    ClosedFormPredictor<D> predictor(device, fit, c.geometry, 2);
    std::vector<double> rows(c.x.begin(), c.x.begin() + e_s);
    for (const double value : {2.0, -3.0, 4.0, -1.0, 2.5}) rows.push_back(value);
    const Buffer<D, T> x(device, std::vector<T>(rows.begin(), rows.end()));
    const MixturePrediction p = predictor.predict(x.data(), 2);
    const double near[] = {0.68979843, 0.05573446, 0.06563010, 0.18883700};
    const double far[] = {0.42637926, 0.12307123, 0.42437536, 0.02617415};
    const double zero_shot[] = {0.73791133, 0.07004931, 0.08248434, 0.10955502};
    for (Index k = 0; k < K; ++k) {
        CHECK(at(p.probabilities, k) == doctest::Approx(near[k]).epsilon(std::max(1e-6, fine)));
        CHECK(at(p.probabilities, K + k) == doctest::Approx(far[k]).epsilon(std::max(1e-6, fine)));
        CHECK(at(p.zero_shot, k) == doctest::Approx(zero_shot[k]).epsilon(std::max(1e-6, fine)));
    }
    CHECK(at(p.student, 0) == doctest::Approx(0.50247437).epsilon(std::max(1e-7, fine)));
    CHECK(at(p.weight, 0) == doctest::Approx(0.204355744).epsilon(std::max(1e-7, fine)));
    CHECK(at(p.weight, 1) == doctest::Approx(0.00182336799).epsilon(std::max(1e-7, 4 * fine)));
    CHECK(at(p.distance, 1) > 1);
}

TEST_CASE("closed form: blocks and threads do not change it, parts can be added") {
    const Case c;
    Cpu<double> one(1), two(2);
    const ClosedFormFit a = fit_closed_form(one, c.spec(), c.features<double>(), c.geometry);
    const ClosedFormFit b = fit_closed_form(two, c.spec(), c.features<double>(), c.geometry);
    CHECK(a.output.weight == b.output.weight);
    CHECK(a.guard->precision == b.guard->precision);
    CHECK(a.temperature == b.temperature);
    ClosedFormSpec whole = c.spec();
    whole.block = 60;
    const ClosedFormFit w = fit_closed_form(one, whole, c.features<double>(), c.geometry);
    for (std::size_t i = 0; i < w.output.weight.size(); ++i)
        CHECK(w.output.weight[i] == doctest::Approx(a.output.weight[i]).epsilon(1e-9));

    MomentSums<Cpu<double>> first(one, e_s), second(one, e_s), both(one, e_s);
    first.add(c.x.data(), 20);
    second.add(c.x.data() + 20 * e_s, 40);
    both.add(c.x.data(), 20);
    both.add(c.x.data() + 20 * e_s, 40);
    FeatureMoments merged = first.result();
    merged.merge(second.result());
    CHECK(merged.images == 60);
    for (std::size_t i = 0; i < merged.square.size(); ++i)
        CHECK(merged.square[i] == doctest::Approx(both.result().square[i]).epsilon(1e-13));
}

TEST_CASE("closed form: of few images the directions in which they differ are enough") {
    const Case c;
    Cpu<double> device;
    const FeaturesInMemory<double> features(c.x, e_s, c.t, e_t);
    const ClosedFormPasses<Cpu<double>> passes(device, features, 256);
    HiddenLayer layer = random_hidden_layer(e_s, 300, 1);
    set_statistics(layer, passes.moments(), device);
    const RidgeMoments sums = passes.normal_equations(layer);
    const RidgeBasis few = ridge_basis(sums, device);
    REQUIRE(few.rank < few.width);
    const RidgeBasis all = detail::ridge_basis_of_rank(sums, few.width, device);  // the whole matrix decomposed
    for (const double rho : {1e-4, 1e-1, 1e2}) {
        CAPTURE(rho);
        const OutputLayer one = ridge_solution(few, rho * few.scale, device);
        const OutputLayer other = ridge_solution(all, rho * all.scale, device);
        double largest = 0, apart = 0;
        for (std::size_t i = 0; i < one.weight.size(); ++i) {
            largest = std::max(largest, std::abs(other.weight[i]));
            apart = std::max(apart, std::abs(one.weight[i] - other.weight[i]));
        }
        CHECK(apart <= 1e-10 * largest);
    }
}

TEST_CASE("closed form: several ranks have the bits of one") {
    const Case c;
    ClosedFormSpec spec;
    spec.width = 1200;  // three panels of columns
    spec.block = 16;
    Cpu<double> one(1);
    const ClosedFormFit whole = fit_closed_form(one, spec, c.features<double>(), c.geometry);
    for (const int size : {2, 3}) {
        std::vector<ClosedFormFit> found(static_cast<std::size_t>(size));
        as_ranks<Cpu<double>>(size, [&](const Ranks<Cpu<double>>& ranks, int rank) {
            Cpu<double> device(1);
            found[static_cast<std::size_t>(rank)] =
                fit_closed_form(device, spec, c.features<double>(), c.geometry, {{}, ranks});
        });
        for (const ClosedFormFit& fit : found) {
            CHECK(fit.output.weight == whole.output.weight);
            CHECK(fit.output.bias == whole.output.bias);
            CHECK(fit.guard->precision == whole.guard->precision);
            CHECK(fit.weight.chosen == whole.weight.chosen);
        }
    }
}

TEST_CASE("closed form: features on the disk, in parts, with images that cannot be read") {
    const Case c;
    const TemporaryFolder folder;
    FeatureStoreOptions options;
    options.folder = folder.path() + "/features";
    options.identity = {{"number of images", N + 3}};
    options.type = DType::f64;
    options.images = N + 3;  // 5, 20 and the last one cannot be read
    options.student_width = e_s;
    options.teacher_width = e_t;
    options.seconds = 0;  // each batch is a part
    const auto add = [&](FeatureStore<double>& store, Index first, Index last) {
        store.begin(first);
        FeatureRows<double> rows;
        for (Index i = first; i < last; ++i) {
            if (i == 5 || i == 20 || i == N + 2) continue;
            const Index row = i - (i > 5) - (i > 20);
            rows.images.push_back(i);
            rows.student.insert(rows.student.end(), c.x.begin() + row * e_s, c.x.begin() + (row + 1) * e_s);
            rows.teacher.insert(rows.teacher.end(), c.t.begin() + row * e_t, c.t.begin() + (row + 1) * e_t);
            if (rows.images.size() == 7) store.add(std::exchange(rows, {}));
        }
        store.add(rows);
        store.end(last);
    };
    {
        FeatureStore<double> store(options);
        CHECK(store.missing({0, N + 3}).size() == 1);
        add(store, 30, 41);
    }
    FeatureStore<double> store(options);
    const std::vector<Slice> gaps = store.missing({0, N + 3});
    REQUIRE(gaps.size() == 2);
    CHECK(gaps[0].count == 30);
    CHECK(gaps[1].first == 41);
    for (const Slice& gap : gaps) add(store, gap.first, gap.first + gap.count);
    CHECK(store.missing({0, N + 3}).empty());
    CHECK(store.images() == N);
    CHECK(store.unreadable() == 3);
    CHECK(store.rows_of({4, 5, 6, N + 2}) == std::vector<Index>{4, 5});
    Cpu<double> device(1);
    const ClosedFormFit kept = fit_closed_form(device, c.spec(), store, c.geometry);
    const ClosedFormFit fit = fit_closed_form(device, c.spec(), c.features<double>(), c.geometry);
    CHECK(kept.output.weight == fit.output.weight);
    CHECK(kept.weight.chosen == fit.weight.chosen);
    options.identity = {{"number of images", N}};
    CHECK_THROWS_WITH_AS(FeatureStore<double>{options}, doctest::Contains("the number of images: 63 there, 60"), Error);
    options.identity = {{"number of images", N + 3}};
    options.folder += "/nowhere";
    FeatureStore<double> twice(options);
    add(twice, 35, 36);
    CHECK_THROWS_WITH_AS(twice.append(folder.path() + "/features"), doctest::Contains("overlap"), Error);
}

TEST_CASE("closed form: sums of parts, added and read from files") {
    const Case c;
    const TemporaryFolder folder;
    Cpu<double> device(1);
    ClosedFormSpec spec;
    spec.width = 40;
    const auto part = [&](Index first, Index last, const HiddenLayer* layer) {
        const FeaturesInMemory<double> rows({c.x.begin() + first * e_s, c.x.begin() + last * e_s}, e_s,
                                            {c.t.begin() + first * e_t, c.t.begin() + last * e_t}, e_t);
        const ClosedFormPasses<Cpu<double>> passes(device, rows, 16);
        FitSums sums;
        sums.source = "part";
        sums.run = {{"seed", 1}};
        sums.images = nlohmann::json::array({{{"number of images", N}}});
        sums.ranges = {{first, last - first}};
        sums.moments = passes.moments();
        if (layer) add_second_pass(sums, passes, *layer, rows, in_order(last - first));
        const std::string path = folder.path() + "/sums.safetensors";
        write_sums(path, sums);
        return read_sums(path);
    };
    FitSums moments = part(0, 23, nullptr);
    CHECK_THROWS_WITH_AS(moments.require_complete(N), doctest::Contains("23 images of a set of 60"), Error);
    CHECK_THROWS_WITH_AS(FitSums(moments).merge(part(20, N, nullptr)), doctest::Contains("twice"), Error);
    FitSums other = part(23, N, nullptr);
    moments.merge(other);
    moments.require_complete(N);
    other.run["seed"] = 2;
    CHECK_THROWS_WITH_AS(moments.merge(other), doctest::Contains("the seed: 2 there, 1"), Error);
    HiddenLayer layer = random_hidden_layer(e_s, spec.width, spec.seed);
    set_statistics(layer, moments.moments, device);
    FitSums all = part(0, 23, &layer);
    CHECK_THROWS_WITH_AS(all.merge(part(23, N, nullptr)), doctest::Contains("lacks the sums of the second round"),
                         Error);
    all.merge(part(23, N, &layer));
    spec.kl_step = false;
    const ClosedFormFit whole = fit_closed_form(device, spec, c.features<double>(), c.geometry);
    const ClosedFormFit added = solve_sums(device, spec, all, c.geometry);
    CHECK(added.lambda == doctest::Approx(whole.lambda).epsilon(1e-9));
    CHECK(added.weight.chosen == doctest::Approx(whole.weight.chosen).epsilon(0.011));
    for (std::size_t i = 0; i < whole.output.weight.size(); ++i)
        CHECK(added.output.weight[i] == doctest::Approx(whole.output.weight[i]).epsilon(1e-6).scale(1e-3));
    // Today's images behind yesterday's.
    FitSums yesterday = part(0, 23, &layer), today = part(23, N, &layer);
    CHECK_THROWS_WITH_AS(FitSums(yesterday).merge_further(today, 5000, 1), doctest::Contains("same images"), Error);
    today.images = nlohmann::json::array({"today"});
    today.ranges = {{0, N - 23}};
    yesterday.merge_further(today, 20, 1);
    CHECK(yesterday.moments.images == N);
    CHECK(yesterday.chosen() == 20);
    yesterday.require_complete(N);
}

TEST_CASE("closed form: features of logits give the logits back") {
    const Case c;
    Cpu<double> host(1);
    // Logits s·t·Wᵀ of the teacher: the least-norm features have the same directions as far as W can tell.
    std::vector<double> logits = detail::HostProduct{N, K, e_t, false, true}(host, c.t, c.geometry.class_vectors);
    for (double& value : logits) value *= c.geometry.teacher_scale;
    LogitFeatures features(host, c.geometry.class_vectors, K);
    std::vector<double> found = features.add({logits.begin(), logits.begin() + 7 * K});
    const std::vector<double> rest = features.add({logits.begin() + 7 * K, logits.end()});
    found.insert(found.end(), rest.begin(), rest.end());
    const std::vector<double> again =
        detail::HostProduct{N, K, e_t, false, true}(host, found, c.geometry.class_vectors);
    for (Index i = 0; i < N; ++i) {
        const double ratio = at(logits, i * K) / at(again, i * K);
        for (Index k = 0; k < K; ++k) CHECK(at(again, i * K + k) * ratio == doctest::Approx(at(logits, i * K + k)));
    }
    REQUIRE(features.norms().size() == rest.size() / e_t);
    for (const double norm : features.norms()) {
        CHECK(norm > 0);
        CHECK(norm <= c.geometry.teacher_scale * (1 + 1e-12));  // what W cannot tell is gone
    }
    CHECK_THROWS_WITH_AS(features.add(std::vector<double>(K, 0)), doctest::Contains("image 60"), Error);
}

TEST_CASE("closed form: what cannot be fitted is refused") {
    const Case c;
    Cpu<double> device(1);
    const auto fit = [&](std::vector<double> x, std::vector<double> t) {
        fit_closed_form(device, c.spec(), FeaturesInMemory<double>(std::move(x), e_s, std::move(t), e_t), c.geometry);
    };
    CHECK_THROWS_WITH_AS(fit({c.x.begin(), c.x.begin() + e_s}, {c.t.begin(), c.t.begin() + e_t}),
                         doctest::Contains("give at least 2"), Error);
    CHECK_THROWS_WITH_AS(fit(std::vector<double>(N * e_s, 1.0), c.t), doctest::Contains("are equal"), Error);
    CHECK_THROWS_WITH_AS(fit(std::vector<double>(N * e_s, 0.1), c.t), doctest::Contains("are equal"), Error);
    CHECK_THROWS_WITH_AS(fit(std::vector<double>(N * e_s, 0.0), c.t), doctest::Contains("are equal"), Error);
    std::vector<double> broken = c.t;
    broken[8] = std::nan("");
    CHECK_THROWS_WITH_AS(fit(c.x, broken), doctest::Contains("feature of the teacher is not finite"), Error);
    std::vector<double> infinite = c.x;
    infinite[3] = INFINITY;
    CHECK_THROWS_WITH_AS(fit(infinite, c.t), doctest::Contains("feature of the student is not finite"), Error);
}

}  // namespace promptkd::test::closed_form_test
