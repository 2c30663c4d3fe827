// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/lora.hpp>
#include <promptkd/clip/schema/lookup.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

namespace detail {

/// Where the schema has a map.
inline schema::Role role_of(BlockMap map) {
    constexpr schema::Role roles[] = {schema::Role::attention_in, schema::Role::attention_out, schema::Role::mlp_in,
                                      schema::Role::mlp_gate, schema::Role::mlp_out};
    return roles[static_cast<int>(map)];
}

/// W + scale·B·A in fp32, with rows of A of their own for each of some parts of the outputs.
inline HostTensor with_update(const HostTensor& weight, const HostTensor& a, const HostTensor& b, double scale) {
    const Index out = weight.shape[0], in = weight.shape[1], rank = b.shape[1], parts = a.shape[0] / rank;
    const std::vector<double> first = a.to<double>(), second = b.to<double>();
    const std::vector<double> before = weight.to<double>();
    std::vector<float> sum(before.size());
    std::vector<double> row(static_cast<std::size_t>(in));
    for (Index o = 0; o < out; ++o) {
        std::copy_n(before.begin() + o * in, in, row.begin());
        const double* rows = first.data() + o / (out / parts) * rank * in;
        for (Index k = 0; k < rank; ++k)
            for (Index i = 0; i < in; ++i)
                row[static_cast<std::size_t>(i)] +=
                    scale * second[static_cast<std::size_t>(o * rank + k)] * rows[k * in + i];
        std::copy_n(row.begin(), in, sum.begin() + o * in);
    }
    return make_tensor(std::move(sum), weight.shape);
}

}  // namespace detail

/// Where updates belong in a model, and their factor.
struct LoraBranch {
    std::string prefix = lora_prefix;                                        ///< of the updates' names
    const schema::Architecture* architecture = &schema::vision_transformer;  ///< of the branch
    std::optional<double> scale = 1.0;                                       ///< of B·A; none: 1/√rank
};

namespace detail {

/// Adds the update `name` = prefix + "{block}.{map}" of `updates` to `model`.
inline void merge_update(TensorMap& model, const TensorMap& updates, const std::string& name,
                         const LoraBranch& branch) {
    const std::string place = name.substr(branch.prefix.size());
    const std::size_t dot = place.find('.');
    for (const BlockMap map : block_maps) {
        if (dot == std::string::npos || place.substr(dot + 1) != named_map(map)) continue;
        const Index block = std::strtoll(place.c_str(), nullptr, 10);
        const auto weight =
            schema::find(*branch.architecture, role_of(map), schema::Part::weight, schema::Numbers{block, 0});
        const std::string matrix = schema::name_of(*weight);
        require(model.contains(matrix), updates.source, ": '", name, "' belongs to another model: there is no '",
                matrix, "' in ", model.source);
        const HostTensor& old = model.at(matrix);
        const HostTensor &a = updates.at(name + ".A"), &b = updates.at(name + ".B");
        const Index rank = rank_of_update(updates, name).first;
        require(old.shape.size() == 2 && a.shape[1] == old.shape[1] && b.shape == Shape{old.shape[0], rank},
                updates.source, ": '", name, "' belongs to another model: ", to_string(a.shape), " and ",
                to_string(b.shape), " for a matrix of ", to_string(old.shape));
        model.tensors[matrix] = with_update(old, a, b, branch.scale.value_or(1 / std::sqrt(static_cast<double>(rank))));
        return;
    }
    fail(updates.source, ": '", name, "' is not a map of a block");
}

}  // namespace detail

/// Adds low-rank updates, those of an image branch unless `branch` says otherwise, to the weights in `model` (OpenAI's
/// names), which become fp32. Throws Error for an update of a matrix that is not there or has other sizes.
inline void merge_lora(TensorMap& model, const TensorMap& updates, const LoraBranch& branch = {}) {
    for (const auto& [name, a] : updates.tensors)
        if (name.rfind(branch.prefix, 0) == 0 && name.ends_with(".A"))
            detail::merge_update(model, updates, name.substr(0, name.size() - 2), branch);
}

}  // namespace promptkd
