// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/gemm.hpp>

#include <cmath>

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

/// The panels of a quantized matrix W (n × k), its rows w_j ≈ scale_j·q_j with 8-bit q: in each, of all its columns,
/// the scales, then −128·Σ_p q_jp (which the 128 in every value of A adds too much), then the values in quads.
struct Int8Panel {
    static constexpr Index columns = Tile<std::int32_t>::columns;
    static constexpr Index row_extra = 8;  ///< bytes a row of W takes besides its k

    explicit Int8Panel(void* start)
        : scales(static_cast<float*>(start)),
          sums(reinterpret_cast<std::int32_t*>(scales + columns)),
          quads(reinterpret_cast<Int8Quad*>(sums + columns)) {}

    float* scales;
    std::int32_t* sums;
    Int8Quad* quads;
};

/// The largest magnitude of k ≥ 1 values; NaN where one is NaN.
inline float largest_magnitude(const float* x, Index k) {
    return Eigen::Map<const Eigen::ArrayXf>(x, k).abs().maxCoeff<Eigen::PropagateNaN>();
}

/// What values are multiplied by, so that `largest` becomes 127: 0 where it is not finite, or so small that the factor
/// would not be.
inline float quantization_factor(float largest) {
    return largest > 1e-30f && std::isfinite(largest) ? 127 / largest : 0;
}

/// Row `j` of a panel from `w` (k values): the largest magnitude becomes 127.
inline void quantize_weights(const float* w, Index k, Index j, const Int8Panel& to) {
    const float largest = largest_magnitude(w, k), factor = quantization_factor(largest);
    std::int32_t sum = 0;
    auto* bytes = reinterpret_cast<std::int8_t*>(to.quads);
    for (Index p = 0; p < k; ++p) {
        const auto q = static_cast<std::int8_t>(factor > 0 ? std::lround(w[p] * factor) : 0);
        bytes[(p / 4 * Int8Panel::columns + j) * 4 + p % 4] = q;
        sum += q;
    }
    to.scales[j] = largest / 127;
    to.sums[j] = -128 * sum;
}

/// to[p] = 128 + x[p]/scale, rounded, p < k; returns the scale: the largest magnitude becomes 127. It is NaN or
/// infinite where an x[p] is, and then so is every result.
inline float quantize_activations(const float* x, Index k, std::uint8_t* to) {
    const float largest = largest_magnitude(x, k), factor = quantization_factor(largest);
    if (factor > 0)
        for (Index p = 0; p < k; ++p)
            to[p] = static_cast<std::uint8_t>(static_cast<std::int32_t>(x[p] * factor + 128.5f));
    else
        std::fill_n(to, k, std::uint8_t{128});
    return largest / 127;
}

/// A product whose factor B is a matrix in panels of 8 bits; the rows of A are quantized as they are read, each with a
/// scale of its own. The sums are exact: all rounding is in the two factors. The interface is Product's.
class Int8Product {
public:
    using Panel = Int8Quad;

    Int8Product(const Gemm& gemm, Index outer, Index batch)
        : g_(gemm),
          a_(gemm.a.at(outer, batch)),
          b_(static_cast<const char*>(gemm.b.at(outer, batch))),
          finish_(gemm, gemm.offset_c(outer, batch)) {
        require(!gemm.a.transposed, "product: a transposed factor cannot be quantized by rows");
    }

    static TileShape shape(ProcessorLevel level) { return tile_kernels<std::int32_t, Int8Quad, Int8Quad>(level).shape; }
    Index blocks() const { return 1; }
    Index packed_elements() const { return 0; }
    bool prepacked() const { return true; }
    void pack(Index, Index, Index, Panel*, ProductThread&) const {}

    void compute(Index, Index row0, Index rows, Index panel, Index panels, const Panel*, ProductThread& thread) const {
        constexpr Index columns = Int8Panel::columns, most = Tile<std::int32_t>::rows;
        const auto& kernels = tile_kernels<std::int32_t, Int8Quad, Int8Quad>(thread.level);
        const Index height = kernels.shape.rows, width = kernels.shape.columns;
        const Index distance = row_distance<std::uint8_t>(g_.k), stride = distance / terms_of<Int8Quad>;
        auto* a = thread.rows.at_least<std::uint8_t>(rows * distance);
        float* x = thread.lines.at_least<float>(g_.k + rows);
        float* scales = x + g_.k;
        for (Index i = 0; i < rows; ++i) {
            widen(a_, g_.a.type, {(row0 + i) * g_.a.ld, g_.k}, x, 0, thread.level);
            at_level(thread.level, [&](auto) { scales[i] = quantize_activations(x, g_.k, a + i * distance); });
        }
        alignas(64) std::int32_t sums[most * columns];
        alignas(64) float tile[most * columns];
        const Index end = std::min((panel + panels) * columns, g_.n);
        for (Index j = panel * columns; j < end; j += columns) {
            const Int8Panel b(const_cast<char*>(b_) + j * (g_.k + Int8Panel::row_extra));
            for (Index i = 0; i < rows; i += height) {
                const Index count = std::min(height, rows - i);
                const Rows<Int8Quad> quads{reinterpret_cast<const Int8Quad*>(a + i * distance), stride, 1};
                for (Index c = 0; c < columns; c += width)
                    kernels.of(count, width)(g_.k / 4, quads, b.quads + c, sums + c);
                for (Index r = 0; r < count; ++r)
                    for (Index c = 0; c < columns; ++c)
                        tile[r * columns + c] =
                            static_cast<float>(sums[r * columns + c] + b.sums[c]) * (scales[i + r] * b.scales[c]);
                finish_(tile, true, {row0 + i, count, j, std::min(columns, end - j)}, thread.level);
            }
        }
    }

    void compute_alone(ProductThread& thread) const {
        const Index chunk = shape(thread.level).chunk_rows,
                    panels = (g_.n + Int8Panel::columns - 1) / Int8Panel::columns;
        for (Index i = 0; i < g_.m; i += chunk) compute(0, i, std::min(chunk, g_.m - i), 0, panels, nullptr, thread);
    }

private:
    const Gemm& g_;
    const void* a_;
    const char* b_;
    TileFinish<float> finish_;
};

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
