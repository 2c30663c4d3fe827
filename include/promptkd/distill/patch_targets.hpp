// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/dense_method.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/core/tensor.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace promptkd {

/// What the patches of pictures are taught, on the host: a picture has some answers of the teacher, and each of its
/// patches takes one of them, or none.
struct PatchTargetTable {
    GridSize grid;                       ///< patches of a picture
    Index classes = 0;                   ///< logits of an answer
    std::vector<std::int64_t> first{0};  ///< (pictures + 1): where each picture's answers begin
    std::vector<float> logits;           ///< (answers, classes)
    std::vector<std::int32_t> answer;    ///< (pictures, cells): number among the picture's answers, −1: none
    std::vector<float> weight;           ///< (pictures, cells): how much the patch counts, 0 to 1

    /// Number of pictures.
    Index pictures() const { return static_cast<Index>(first.size()) - 1; }
    /// Number of answers.
    Index answers() const { return first.back(); }

    /// Adds a picture whose patches take answers that come later, by add_logits(), as many as `answers`.
    void add_picture(const std::vector<std::int32_t>& cells, const std::vector<float>& weights, Index answers) {
        require(static_cast<Index>(cells.size()) == grid.cells() && weights.size() == cells.size(),
                "targets of patches: ", cells.size(), " for a grid of ", grid.rows, " x ", grid.columns);
        answer.insert(answer.end(), cells.begin(), cells.end());
        weight.insert(weight.end(), weights.begin(), weights.end());
        first.push_back(first.back() + answers);
    }

    /// The targets of a picture's patches: logits (cells, classes) and weights (cells), mirrored left to right where
    /// asked for. Patches without an answer get zeros.
    template <class T>
    void copy(Index picture, bool mirrored, T* to_logits, T* to_weights) const {
        const Index cells = grid.cells();
        for (Index k = 0; k < cells; ++k) {
            const Index row = k / grid.columns, column = k % grid.columns;
            const Index from = mirrored ? row * grid.columns + grid.columns - 1 - column : k;
            const std::size_t at = static_cast<std::size_t>(picture * cells + from);
            T* const out = to_logits + k * classes;
            to_weights[k] = answer[at] < 0 ? T(0) : static_cast<T>(weight[at]);
            if (answer[at] < 0)
                std::fill_n(out, classes, T(0));
            else
                std::copy_n(logits.begin() + (first[static_cast<std::size_t>(picture)] + answer[at]) * classes, classes,
                            out);
        }
    }
};

/// The table as tensors.
inline TensorMap to_tensors(const PatchTargetTable& table) {
    TensorMap map;
    const Index pictures = table.pictures(), cells = table.grid.cells();
    map.tensors["grid"] = make_tensor(std::vector<std::int64_t>{table.grid.rows, table.grid.columns}, {2});
    map.tensors["first"] = make_tensor(table.first, {pictures + 1});
    map.tensors["logits"] = make_tensor(table.logits, {table.answers(), table.classes});
    const std::vector<std::int64_t> answer(table.answer.begin(), table.answer.end());
    map.tensors["answer"] = make_tensor(answer, {pictures, cells});
    map.tensors["weight"] = make_tensor(table.weight, {pictures, cells});
    return map;
}

/// What to_tensors() made. Throws Error for tensors that do not fit each other.
inline PatchTargetTable patch_targets(const TensorMap& map) {
    PatchTargetTable table;
    const std::vector<std::int64_t> grid = map.at("grid", {2}).to<std::int64_t>();
    table.grid = {grid[0], grid[1]};
    table.first = map.at("first").to<std::int64_t>();
    table.logits = map.at("logits").to<float>();
    const std::vector<std::int64_t> answer = map.at("answer").to<std::int64_t>();
    table.weight = map.at("weight").to<float>();
    require(!table.first.empty() && table.first.front() == 0 && table.first.back() > 0 && table.grid.rows > 0 &&
                table.grid.columns > 0,
            map.source, ": damaged targets of patches");
    const auto values = static_cast<std::size_t>(table.pictures() * table.grid.cells());
    table.classes = static_cast<Index>(table.logits.size()) / table.answers();
    require(answer.size() == values && table.weight.size() == values && table.classes > 0 &&
                static_cast<Index>(table.logits.size()) == table.classes * table.answers(),
            map.source, ": damaged targets of patches");
    for (std::size_t i = 0; i < values; ++i) {
        const auto picture = i / static_cast<std::size_t>(table.grid.cells());
        require(answer[i] >= -1 && answer[i] < table.first[picture + 1] - table.first[picture], map.source,
                ": damaged targets of patches");
        table.answer.push_back(static_cast<std::int32_t>(answer[i]));
    }
    return table;
}

}  // namespace promptkd
