// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

namespace promptkd {

/// The images of a distillation, divided into those that are held out of a training and those that it learns from.
struct Fold {
    std::vector<Index> held_out, kept;        ///< positions of the images, ascending
    std::vector<Index> held_rows, kept_rows;  ///< numbers of the same among the images that could be read
    std::vector<Index> kept_places;           ///< places of `kept_rows` in `kept`

    /// Finds out which of the images at `positions`, ascending, are which.
    void find_rows(const std::vector<Index>& positions) {
        for (std::size_t row = 0; row < positions.size(); ++row) {
            const Index image = positions[row];
            if (std::binary_search(held_out.begin(), held_out.end(), image)) {
                held_rows.push_back(static_cast<Index>(row));
                continue;
            }
            kept_rows.push_back(static_cast<Index>(row));
            kept_places.push_back(std::lower_bound(kept.begin(), kept.end(), image) - kept.begin());
        }
    }
};

/// Holds the `number`th `count` images out, counted from the end of `order`, a permutation of all.
inline Fold make_fold(std::vector<Index> order, Index count, Index number) {
    const auto last = order.end() - number * count;
    const auto first = last - count;
    Fold fold;
    fold.held_out.assign(first, last);
    order.erase(first, last);
    fold.kept = std::move(order);
    std::sort(fold.held_out.begin(), fold.held_out.end());
    std::sort(fold.kept.begin(), fold.kept.end());
    return fold;
}

/// All of `images` images, none of which is held out.
inline Fold whole_fold(Index images) {
    Fold fold;
    fold.kept.resize(static_cast<std::size_t>(images));
    std::iota(fold.kept.begin(), fold.kept.end(), Index{0});
    return fold;
}

}  // namespace promptkd
