// SPDX-License-Identifier: Apache-2.0
// One product as a Linear layer has it, y (M, N) = x (M, K)·Wᵀ, or with --backward its gradient dx (M, K) = dy (M,
// N)·W, or with
// --batch B that many products of one size: seconds and rate. products.py runs it beside PyTorch.
//   product M N K [--batch B] [--backward] [--dtype bf16] [--threads 2]
#include "support/measure.hpp"

#include <promptkd/device/cpu.hpp>
#include <promptkd/device/memory.hpp>

#include <CLI/CLI.hpp>

#include <cmath>

namespace promptkd::bench {

namespace {

struct Shape {
    Index m = 0, n = 0, k = 0, batch = 1;
    bool backward = false;
    std::string dtype = "fp32";
    int threads = 2;
};

template <class A>
std::vector<A> values(Index n) {
    std::vector<A> out(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = A(std::sin(static_cast<float>(i % 10007)));
    return out;
}

template <class A>
nlohmann::ordered_json run(const Shape& s) {
    Cpu<float, A> device(s.threads);
    using D = Cpu<float, A>;
    const Buffer<D, A> x(device, values<A>(s.batch * s.m * (s.backward ? s.n : s.k))),
        w(device, values<A>(s.batch * s.n * s.k));
    Buffer<D, A> y(device, s.batch * s.m * (s.backward ? s.k : s.n));
    Gemm g;
    g.m = s.m;
    g.n = s.backward ? s.k : s.n;
    g.k = s.backward ? s.n : s.k;
    g.batch = s.batch;
    g.a = strided(operand(x.data(), g.k), s.m * g.k);
    g.b = strided(s.backward ? operand(w.data(), s.k) : transposed(w.data(), s.k), s.n * s.k);
    g.c = y.data();
    g.c_type = dtype_of<A>;
    g.ldc = g.n;
    g.stride_c = s.m * g.n;
    const double flops = 2.0 * static_cast<double>(s.batch) * static_cast<double>(s.m) * static_cast<double>(s.n) *
                         static_cast<double>(s.k);
    const int repeat = std::max(5, static_cast<int>(5e10 / flops));
    const Timings t = measure([&] { device.gemm(g); }, repeat);
    return {{"seconds", t.median}, {"min", t.min}, {"gflops", flops / t.median * 1e-9}};
}

}  // namespace

}  // namespace promptkd::bench

int main(int argc, char** argv) {
    promptkd::bench::Shape shape;
    CLI::App app{"One product"};
    app.add_option("M", shape.m, "rows of x")->required()->check(CLI::PositiveNumber);
    app.add_option("N", shape.n, "outputs")->required()->check(CLI::PositiveNumber);
    app.add_option("K", shape.k, "inputs")->required()->check(CLI::PositiveNumber);
    app.add_option("--batch", shape.batch, "products")->check(CLI::PositiveNumber);
    app.add_flag("--backward", shape.backward, "dx = dy·W");
    app.add_option("--dtype", shape.dtype, "fp32 or bf16")->check(CLI::IsMember({"fp32", "bf16"}));
    app.add_option("--threads", shape.threads, "threads")->check(CLI::PositiveNumber);
    CLI11_PARSE(app, argc, argv);
    try {
        const auto line =
            shape.dtype == "bf16" ? promptkd::bench::run<promptkd::bf16>(shape) : promptkd::bench::run<float>(shape);
        std::cout << line.dump() << std::endl;
    } catch (const std::exception& error) {
        std::cerr << "product: " << error.what() << std::endl;
        return 1;
    }
}
