// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../support/golden.hpp"

#include <promptkd/clip/model.hpp>
#include <promptkd/format/safetensors.hpp>

#include <nlohmann/json.hpp>

namespace promptkd::test {

/// A golden training or inference case: its tensors, its configuration and the folder its models lie in.
struct GoldenCase {
    std::string directory;
    TensorMap map;
    nlohmann::json config;

    TensorMap model(const char* key) const {
        return read_safetensors(directory + "/" + config.at(key).get<std::string>() + ".safetensors");
    }
    bool has(const std::string& name) const { return map.contains(name); }
    const Shape& shape(const std::string& name) const { return map.at(name).shape; }
    std::vector<double> values(const std::string& name) const { return map.at(name).to<double>(); }
};

/// Rows of `tokens`-shaped tensor `name`; a leading axis is flattened.
inline TokenRows token_rows(const GoldenCase& c, const std::string& name) {
    const HostTensor& tensor = c.map.at(name);
    TokenRows rows;
    rows.context_length = tensor.shape.back();
    rows.count = tensor.count() / rows.context_length;
    rows.ids = tensor.to<std::int32_t>();
    return rows;
}

/// Runs `step` once in planning mode and binds the arena: afterwards the same step may run for real.
template <class D, class Step>
void plan(D& device, Arena<D>& arena, const Step& step) {
    static_cast<void>(device);
    arena.plan(step);
}

}  // namespace promptkd::test
