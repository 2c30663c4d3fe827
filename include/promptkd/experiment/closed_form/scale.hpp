// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/shards.hpp>

#include <string>

namespace promptkd {

/// How a fit in closed form copes with more images than one run sees.
struct ScaleSpec {
    std::string
        features_cache;     ///< folder that keeps the features, in 16 bits; empty: in the output folder, while it runs
    Shard shard;            ///< the sums of this part of the images alone
    bool merge = false;     ///< the fit of the shards in the output folder
    std::string moments;    ///< of a shard: the moments of all (its second round); merging: sums added elsewhere
    std::string add_to;     ///< sums of earlier images, to which this run's are added
    std::string save_sums;  ///< file for the sums of the fit

    /// Whether anything of this is asked for.
    bool is_used() const {
        return !features_cache.empty() || shard.is_part() || merge || !moments.empty() || !add_to.empty() ||
               !save_sums.empty();
    }

    /// Throws Error for what does not go together.
    void check() const {
        require(!shard.is_part() || !merge, "a shard is summed, or all shards are merged, not both");
        require(moments.empty() || shard.is_part() || merge, moments,
                ": moments belong to a shard's second round, or to a merge of shards");
        require(add_to.empty() || (!shard.is_part() && !merge),
                "images are added to earlier sums by a whole run, not by shards");
        require(save_sums.empty() || !shard.is_part(), "a shard's sums have their place in the output folder");
    }
};

}  // namespace promptkd
