// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/schema/lookup.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace promptkd {

/// Tensors that a CLIP model lacks, and tensors that have no place in one.
struct Inventory {
    /// names that a model needs and the file lacks; names that no model knows
    std::vector<std::string> missing, unknown;
};

namespace detail {

/// The numbers of a group's blocks, as far as `map` has any; at least those of the first block (of each stage).
inline std::vector<schema::Numbers> numbers_of(const TensorMap& map, const schema::Architecture& architecture,
                                               const schema::Group& group) {
    if (!schema::is_repeated(group)) return {schema::Numbers{}};
    std::vector<schema::Numbers> all;
    for (Index stage = group.stages > 0 ? 1 : 0; stage <= group.stages; ++stage) {
        const Index blocks = std::max<Index>(1, schema::count_blocks(map, architecture, stage));
        for (Index i = 0; i < blocks; ++i) all.push_back(stage > 0 ? schema::Numbers{stage, i} : schema::Numbers{i, 0});
    }
    return all;
}

/// Appends the names of a tensor in the layout of the file that lacks it.
inline void append_missing(const schema::Weight& w, schema::Layout layout, std::vector<std::string>& missing) {
    if (!schema::is_thirds(schema::cell_of(w, layout).form)) {
        missing.push_back(schema::name_of(w, layout));
        return;
    }
    for (int third = 0; third < 3; ++third) {
        schema::Weight part = w;
        part.third = third;
        missing.push_back(schema::name_of(part, layout));
    }
}

}  // namespace detail

/// Compares the names in `map` (OpenAI's) with those of a CLIP model: logit scale, image branch of the architecture
/// that is there (a ViT where none is), and the text branch where it has one. Names of missing tensors are those of the
/// file from which `map` was read; both lists are sorted.
inline Inventory clip_inventory(const TensorMap& map) {
    const schema::Architecture* image = schema::image_architecture(map);
    std::vector<const schema::Architecture*> parts = {&schema::model, image ? image : &schema::vision_transformer};
    if (schema::has_text_branch(map)) parts.push_back(&schema::text_transformer);
    Inventory result;
    for (const schema::Architecture* part : parts)
        for (const schema::Group& group : part->groups)
            for (const schema::Numbers& numbers : detail::numbers_of(map, *part, group))
                for (const schema::Row& row : group.rows) {
                    const schema::Weight w{part, &group, &row, numbers, -1};
                    if (!schema::is_required(map, w) || map.contains(schema::name_of(w))) continue;
                    detail::append_missing(w, schema::file_layout(map), result.missing);
                }
    for (const auto& named : map.tensors)
        if (std::none_of(parts.begin(), parts.end(),
                         [&](const schema::Architecture* part) { return schema::parse(*part, named.first); }))
            result.unknown.push_back(named.first);
    std::sort(result.missing.begin(), result.missing.end());
    return result;
}

}  // namespace promptkd
