// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/config.hpp>
#include <promptkd/nn/frozen.hpp>
#include <promptkd/op/rotate.hpp>

#include <cmath>
#include <utility>
#include <vector>

namespace promptkd {

/// The angles φ (cells, c/2) by which an image tower turns queries and keys, c components of a head, row by row of
/// cells: with n = c/4 and θⱼ = 10000^(−j/n), a cell's angles are first·θ₀ … first·θₙ₋₁, second·θ₀ … second·θₙ₋₁, first
/// and second its coordinates in the order of the design: (column or row + offset), times design.grid / grid where that
/// is given (Heo et al., Rotary Position Embedding for Vision Transformer, 2024; EVA-02; PE).
inline std::vector<double> rotation_angles(const VisionConfig& config) {
    const Index n = config.width / config.heads / 4;
    const RotationDesign& design = config.rotation;
    const double scale = design.grid > 0 ? static_cast<double>(design.grid) / static_cast<double>(config.grid) : 1.0;
    std::vector<double> angles;
    for (Index y = 0; y < config.grid; ++y)
        for (Index x = 0; x < config.grid; ++x) {
            const bool columns = design.order == RotationOrder::columns_first;
            for (const Index coordinate : {columns ? x : y, columns ? y : x})
                for (Index j = 0; j < n; ++j)
                    angles.push_back(static_cast<double>(coordinate + design.offset) * scale *
                                     std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(n)));
        }
    return angles;
}

/// The rotation of an image tower, its tables in `store`; empty where the tower has none.
template <Device D>
Rotation<typename D::Scalar> read_rotation(FrozenStore<D>& store, const VisionConfig& config) {
    Rotation<typename D::Scalar> rotation;
    if (config.rotation.order == RotationOrder::none) return rotation;
    const std::vector<double> angles = rotation_angles(config);
    std::vector<double> cosine, sine;
    for (const double angle : angles) {
        cosine.push_back(std::cos(angle));
        sine.push_back(std::sin(angle));
    }
    const Index count = static_cast<Index>(angles.size());
    rotation.cosine = store.vector(make_tensor(std::move(cosine), {count}));
    rotation.sine = store.vector(make_tensor(std::move(sine), {count}));
    rotation.first = config.class_tokens();
    rotation.cells = config.cells();
    rotation.pairs = count / config.cells();
    return rotation;
}

}  // namespace promptkd
