// SPDX-License-Identifier: Apache-2.0
// Micro-benchmarks of the operations at the sizes of ViT-B/16 with batch 8 (1,608 rows of 768), on all cores.
#include <benchmark/benchmark.h>

#include <promptkd/core/rng.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/image/preprocess.hpp>
#include <promptkd/op/attention.hpp>
#include <promptkd/op/elementwise.hpp>
#include <promptkd/op/norm.hpp>

namespace {

using namespace promptkd;
using D = Cpu<float>;

D& device() {
    static D cpu;
    return cpu;
}

template <class T = float>
std::vector<T> values(Index n) {
    std::vector<T> out(static_cast<std::size_t>(n));
    RandomStream random(1, 1);
    for (T& x : out) x = T(static_cast<float>(random.uniform(-1, 1)));
    return out;
}

void rate(benchmark::State& state, double flops) {
    state.counters["GFLOP/s"] =
        benchmark::Counter(flops * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

/// x·Wᵀ with the weight stored as W: arguments rows, out, in.
template <class W>
void product(benchmark::State& state) {
    const Index m = state.range(0), n = state.range(1), k = state.range(2);
    const auto a = values(m * k);
    const auto b = values<W>(n * k);
    std::vector<float> c(static_cast<std::size_t>(m * n));
    const Gemm g = matrix_product(operand(a.data(), k), transposed(b.data(), k), k, Matrix<float>(c.data(), m, n));
    for (auto _ : state) device().gemm(g);
    rate(state, 2.0 * static_cast<double>(m * n * k));
}
BENCHMARK_TEMPLATE(product, float)
    ->Args({1608, 2304, 768})
    ->Args({1608, 3072, 768})
    ->Args({1608, 768, 3072})
    ->Args({432, 384, 128})
    ->UseRealTime();
BENCHMARK_TEMPLATE(product, half)->Args({1608, 3072, 768})->Args({1608, 768, 3072})->UseRealTime();

void attention(benchmark::State& state) {
    const Index batch = 8, tokens = state.range(0), d = 768;
    AttentionShape shape;
    shape.sequences = {0, batch, tokens, false};
    shape.heads = 12;
    shape.head_dim = 64;
    const auto qkv = values(batch * tokens * 3 * d);
    std::vector<float> p(static_cast<std::size_t>(shape.scores())), o(static_cast<std::size_t>(batch * tokens * d));
    Arena<D> arena(device());
    const Matrix<const float> all(qkv.data(), batch * tokens, 3 * d);
    const QueriesKeysValues<const float> x(all.column_range(0, d), all.column_range(d, d), all.column_range(2 * d, d));
    for (auto _ : state)
        attention_forward(Workspace<D>{device(), arena}, shape, x, p.data(),
                          Matrix<float>(o.data(), batch * tokens, d));
    rate(state, 4.0 * static_cast<double>(batch * tokens * tokens * d));
}
BENCHMARK(attention)->Arg(50)->Arg(201)->UseRealTime();

void layer_norm(benchmark::State& state) {
    const Index rows = 1608, d = 768;
    const auto x = values(rows * d), w = values(d), b = values(d);
    std::vector<float> y(x.size()), mean(static_cast<std::size_t>(rows)), rstd(mean);
    for (auto _ : state)
        layer_norm_forward(device(), Matrix<const float>(x.data(), rows, d), {w.data(), b.data()},
                           Matrix<float>(y.data(), rows, d), {mean.data(), rstd.data()});
    state.SetItemsProcessed(state.iterations() * rows * d);
}
BENCHMARK(layer_norm)->UseRealTime();

void gelu(benchmark::State& state) {
    const Index rows = 1608, d = 3072;
    const auto x = values(rows * d);
    std::vector<float> y(x.size());
    const Gelu kind = state.range(0) ? Gelu::exact : Gelu::quick;
    for (auto _ : state)
        gelu_forward(device(), kind, Matrix<const float>(x.data(), rows, d), Matrix<float>(y.data(), rows, d));
    state.SetItemsProcessed(state.iterations() * rows * d);
}
BENCHMARK(gelu)->ArgName("exact")->Arg(0)->Arg(1)->UseRealTime();

/// A 500×375 photo to 224×224 (one thread).
void preprocess(benchmark::State& state) {
    Image image(375, 500);
    RandomStream random(2, 2);
    for (auto& byte : image.pixels) byte = static_cast<std::uint8_t>(random.below(256));
    for (auto _ : state) benchmark::DoNotOptimize(preprocess_image(image, 224).pixels.data());
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(preprocess);

}  // namespace

BENCHMARK_MAIN();
