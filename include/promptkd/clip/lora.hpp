// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/schema/lookup.hpp>
#include <promptkd/nn/initialize.hpp>
#include <promptkd/nn/transformer.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace promptkd {

/// The linear maps of a block that a low-rank update may stand beside.
enum class BlockMap { attention_in, attention_out, mlp_in, mlp_gate, mlp_out };

/// All of them.
inline constexpr std::array<BlockMap, 5> block_maps{BlockMap::attention_in, BlockMap::attention_out, BlockMap::mlp_in,
                                                    BlockMap::mlp_gate, BlockMap::mlp_out};

/// Low-rank updates of an encoder: which maps of each block, and of what rank.
struct LoraConfig {
    Index rank = 32;              ///< r
    double scale = 1;             ///< factor of B·A
    std::vector<BlockMap> maps;   ///< empty: all that a block has
    bool separate_parts = false;  ///< queries, keys and values have an A each, of this rank
};

/// The names of an image encoder's updates begin so: `lora.{block}.{map}.A` and `.B`, as `lora.0.attn.in_proj.A`.
inline constexpr const char* lora_prefix = "lora.";

/// The same of a text encoder.
inline constexpr const char* text_lora_prefix = "text_lora.";

/// Whether a parameter of this name belongs to a low-rank update of an image encoder.
inline bool is_lora_name(const std::string& name) { return name.rfind(lora_prefix, 0) == 0; }

namespace detail {

/// The name of a map in a block's tensors, without its number and without what says weight or bias. Layouts that keep
/// queries, keys and values apart need a third, 0, 1 or 2.
inline std::string named_map(BlockMap map, schema::Layout layout = schema::Layout::openai, int third = -1) {
    using schema::Role;
    constexpr Role roles[] = {Role::attention_in, Role::attention_out, Role::mlp_in, Role::mlp_gate, Role::mlp_out};
    schema::Weight weight = *schema::find(schema::vision_transformer, roles[static_cast<int>(map)],
                                          schema::Part::weight, schema::Numbers{});
    weight.third = third;
    const std::string name = schema::name_of(weight, layout);
    const std::size_t begin = name.find('.', schema::block_prefix(weight, layout).size()) + 1;
    return name.substr(begin, name.size() - begin - std::string_view(".weight").size());  // or "_weight"
}

/// Where a block has a map.
template <Device D>
Linear<typename D::Scalar>& map_of(Block<D>& block, BlockMap map) {
    switch (map) {
        case BlockMap::attention_in:
            return block.attention.in_proj;
        case BlockMap::attention_out:
            return block.attention.out_proj;
        case BlockMap::mlp_in:
            return block.mlp.c_fc;
        case BlockMap::mlp_gate:
            return block.mlp.c_gate;
        default:
            return block.mlp.c_proj;
    }
}

}  // namespace detail

namespace detail {

/// Rank and parts of the update `name` in `map`, whose A and B fit together. Throws Error when they do not.
inline std::pair<Index, Index> rank_of_update(const TensorMap& map, const std::string& name) {
    const Shape& a = map.at(name + ".A").shape;
    const Shape& b = map.at(name + ".B").shape;
    require(a.size() == 2 && b.size() == 2 && a[0] > 0 && b[1] > 0 && a[0] % b[1] == 0, map.source, ": '", name,
            "' is no low-rank update: A has shape ", to_string(a), ", B ", to_string(b));
    const Index parts = a[0] / b[1];
    require(parts == 1 || (parts == 3 && name.ends_with(named_map(BlockMap::attention_in))), map.source, ": '", name,
            ".A' has ", a[0], " rows for a B of rank ", b[1]);
    return {b[1], parts};
}

}  // namespace detail

/// The form of the low-rank updates that `map` holds under lora_prefix; empty where it holds none. Throws Error where
/// they are not of one rank and one kind.
inline std::optional<LoraConfig> lora_config(const TensorMap& map) {
    std::optional<LoraConfig> config;
    for (const auto& [name, tensor] : map.tensors) {
        if (!is_lora_name(name) || !name.ends_with(".A")) continue;
        const std::string update = name.substr(0, name.size() - 2);
        const auto [rank, parts] = detail::rank_of_update(map, update);
        const bool first = !config;
        if (first) config.emplace().rank = rank;
        require(config->rank == rank, map.source, ": low-rank updates of rank ", config->rank, " and ", rank,
                " in one file");
        for (const BlockMap m : block_maps) {
            if (!update.ends_with(std::string(".") + detail::named_map(m))) continue;
            if (std::count(config->maps.begin(), config->maps.end(), m) == 0) config->maps.push_back(m);
            if (m == BlockMap::attention_in) config->separate_parts = parts == 3;
        }
    }
    return config;
}

/// The low-rank updates of a transformer's blocks as parameters of a ParamSet: A (r, in) and B (out, r) of each map.
/// Only these are learned; the weights beside them stay frozen, in whatever precision they are stored.
template <Device D>
class LoraWeights {
public:
    using T = typename D::Scalar;

    /// Registers the updates of `transformer` in `params` as `prefix` + "{block}.{map}.A" and ".B"; bind those, then
    /// call adopt(). Throws Error for a rank below 1 or above the width of the encoder.
    LoraWeights(ParamSet<D>& params, Transformer<D>& transformer, const LoraConfig& config,
                const std::string& prefix = lora_prefix)
        : config_(config) {
        const Index width = transformer.width();
        require(config.rank >= 1 && config.rank <= width, "LoRA of rank ", config.rank, " for an encoder of width ",
                width, "; give a rank from 1 to ", width);
        for (std::size_t i = 0; i < transformer.blocks.size(); ++i)
            for (const BlockMap map : block_maps) {
                const Linear<T>& layer = detail::map_of(transformer.blocks[i], map);
                if (layer.outputs() == 0 || !is_chosen(map)) continue;
                const std::string name = prefix + std::to_string(i) + "." + detail::named_map(map);
                const Param<T>& a = params.add(name + ".A", {parts_of(map) * config.rank, layer.inputs()});
                const Param<T>& b = params.add(name + ".B", {layer.outputs(), config.rank});
                updates_.push_back({i, map, name, &a, &b});
            }
    }

    /// Points the layers of `transformer`, the one of the constructor or a copy of it, to the bound parameters.
    void adopt(Transformer<D>& transformer) const {
        for (const Update& u : updates_) {
            LowRank<T>& to = detail::map_of(transformer.blocks[u.block], u.map).low_rank;
            to.a = u.a->value;
            to.b = u.b->value;
            to.a_gradient = u.a->grad;
            to.b_gradient = u.b->grad;
            to.rank = config_.rank;
            to.parts = parts_of(u.map);
            to.scale = config_.scale;
        }
    }

    /// Dropout of the updates' inputs in `transformer` from now on, a stream of its own for each; 0: none.
    void set_dropout(Transformer<D>& transformer, const InputDropout& dropout) const {
        for (const Update& u : updates_) {
            InputDropout& to = detail::map_of(transformer.blocks[u.block], u.map).low_rank.dropout;
            to = dropout;
            to.stream = detail::stream_of(u.name);
        }
    }

    /// A ~ U(−1/√in, 1/√in), B = 0: what PyTorch's layers begin with.
    void initialize_uniform(ParamSet<D>& params, std::uint64_t seed) const {
        for (const Update& u : updates_) {
            const double bound = 1 / std::sqrt(static_cast<double>(u.a->shape[1]));
            detail::initialize(params, u.name + ".A", seed, [=](RandomStream& r) { return r.uniform(-bound, bound); });
            initialize_constant(params, u.name + ".B", 0);
        }
    }

    /// A ~ N(0, 1/in), B = 0: the encoder is what it was.
    void initialize(ParamSet<D>& params, std::uint64_t seed) const {
        for (const Update& u : updates_) {
            initialize_normal(params, u.name + ".A", seed, 1 / std::sqrt(static_cast<double>(u.a->shape[1])));
            initialize_constant(params, u.name + ".B", 0);
        }
    }

private:
    struct Update {
        std::size_t block;
        BlockMap map;
        std::string name;
        const Param<T>*a, *b;
    };

    bool is_chosen(BlockMap map) const {
        return config_.maps.empty() || std::find(config_.maps.begin(), config_.maps.end(), map) != config_.maps.end();
    }
    Index parts_of(BlockMap map) const { return map == BlockMap::attention_in && config_.separate_parts ? 3 : 1; }

    LoraConfig config_;
    std::vector<Update> updates_;
};

}  // namespace promptkd
