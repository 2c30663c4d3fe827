// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/positions.hpp>
#include <promptkd/nn/block.hpp>

#include <array>
#include <cmath>
#include <string>
#include <vector>

namespace promptkd {

/// A published way of reading features of patches: what the last block of the image encoder is.
struct DenseMethod {
    const char* name;                            ///< as it is chosen
    Compared compared = Compared::queries_keys;  ///< what the last attention compares
    bool near = false;                           ///< with a Gaussian of the distance on its scores
    bool alone = false;                          ///< the attention's output alone, without residual and MLP
    const char* meaning;                         ///< in words, and whose it is
};

/// All of them. A method is one row.
inline constexpr std::array<DenseMethod, 9> dense_methods{{
    {"plain", Compared::queries_keys, false, false, "the model's own last block (CLIP)"},
    {"maskclip", Compared::nothing, false, false, "values alone, whole block (MaskCLIP)"},
    {"maskclip_reduced", Compared::nothing, false, true, "values alone, no residual, no MLP (ClearCLIP's code)"},
    {"sclip", Compared::queries_and_keys, false, false, "S(q, q) + S(k, k), whole block (SCLIP)"},
    {"clearclip", Compared::queries, false, true, "S(q, q), no residual, no MLP (ClearCLIP)"},
    {"naclip", Compared::keys, true, true, "S(k, k) with a Gaussian on the scores, no residual, no MLP (NACLIP)"},
    {"naclip_full", Compared::keys, true, false, "the same, whole block"},
    {"kk", Compared::keys, false, true, "S(k, k), no residual, no MLP"},
    {"plain_reduced", Compared::queries_keys, false, true, "S(q, k), no residual, no MLP"},
}};

/// "plain, maskclip, …".
inline std::string dense_method_names() {
    std::string names;
    for (const DenseMethod& method : dense_methods) names += (names.empty() ? "" : ", ") + std::string(method.name);
    return names;
}

/// The method of a name. Throws Error when there is none.
inline const DenseMethod& dense_method(const std::string& name) {
    for (const DenseMethod& method : dense_methods)
        if (name == method.name) return method;
    fail("'", name, "' is no way of reading patches; there are ", dense_method_names());
}

/// How features of patches are read.
struct DenseOptions {
    std::string method = "naclip";                               ///< see dense_methods
    double sigma = 5;                                            ///< of NACLIP's Gaussian, in patches
    PositionFilter positions = PositionFilter::bicubic_shifted;  ///< at another size than the model's own
};

/// "shifted" (SCLIP, ClearCLIP, NACLIP) or "size" (MaskCLIP, CLIPSelf): how positions are resized.
inline PositionFilter parse_position_rule(const std::string& name) {
    if (name == "shifted") return PositionFilter::bicubic_shifted;
    require(name == "size", "'", name, "' is no rule for positions; there are shifted and size");
    return PositionFilter::bicubic;
}

/// ω (tokens, tokens) of NACLIP (Hajimiri et al., 2024, section 3): exp(−(Δrow² + Δcolumn²)/(2σ²)) between two patches,
/// 0 where one of the two is none. `first` tokens stand in front of the patches.
inline std::vector<double> nearness(const GridSize& grid, Index first, Index tokens, double sigma) {
    require(sigma > 0 && std::isfinite(sigma), "the Gaussian of nearness needs a sigma above 0, not ", sigma);
    const Index cells = grid.rows * grid.columns;
    std::vector<double> out(static_cast<std::size_t>(tokens * tokens), 0.0);
    for (Index i = 0; i < cells; ++i)
        for (Index j = 0; j < cells; ++j) {
            const auto down = static_cast<double>(i / grid.columns - j / grid.columns);
            const auto across = static_cast<double>(i % grid.columns - j % grid.columns);
            out[static_cast<std::size_t>((first + i) * tokens + first + j)] =
                std::exp(-(down * down + across * across) / (2 * sigma * sigma));
        }
    return out;
}

}  // namespace promptkd
