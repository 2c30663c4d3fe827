// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/rng.hpp>
#include <promptkd/data/class_subset.hpp>
#include <promptkd/data/dataset.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// Positions of the images of each class, or of each folder where they are unlabelled; in order.
inline std::vector<std::vector<Index>> image_groups(const Dataset& data) {
    std::map<std::string, std::vector<Index>> by_folder;
    std::map<Index, std::vector<Index>> by_label;
    const bool labelled = data.labelled();
    for (Index i = 0; i < data.size(); ++i) {
        if (labelled) {
            by_label[data.label(i)].push_back(i);
        } else {
            const std::string name = data.item_name(i);
            by_folder[name.substr(0, name.rfind('/') + 1)].push_back(i);
        }
    }
    std::vector<std::vector<Index>> groups;
    for (auto& entry : by_label) groups.push_back(std::move(entry.second));
    for (auto& entry : by_folder) groups.push_back(std::move(entry.second));
    return groups;
}

/// How many of `sizes` to take for `n` in all: as many of each as of the others, or all of it where it has fewer; what
/// is left over goes to groups at equal distances.
inline std::vector<Index> even_shares(const std::vector<Index>& sizes, Index n) {
    std::vector<Index> shares(sizes.size());
    for (;;) {
        std::vector<std::size_t> open;
        for (std::size_t g = 0; g < sizes.size(); ++g)
            if (shares[g] < sizes[g]) open.push_back(g);
        const auto groups = static_cast<Index>(open.size());
        if (n <= 0 || groups == 0) return shares;
        if (n < groups) {
            for (Index k = 0; k < n; ++k) ++shares[open[static_cast<std::size_t>(k * groups / n)]];
            return shares;
        }
        const Index each = n / groups;
        for (const std::size_t g : open) {
            const Index more = std::min(each, sizes[g] - shares[g]);
            shares[g] += more;
            n -= more;
        }
    }
}

/// The first `n` of `images` after a shuffle by (seed, stream, group).
inline void draw_some(std::vector<Index> images, Index n, RandomStream random, std::vector<Index>& drawn) {
    const auto found = static_cast<Index>(images.size());
    for (Index i = 0; i < n; ++i) {
        const Index j = i + random.below(static_cast<std::uint32_t>(found - i));
        std::swap(images[static_cast<std::size_t>(i)], images[static_cast<std::size_t>(j)]);
        drawn.push_back(images[static_cast<std::size_t>(i)]);
    }
}

}  // namespace detail

/// `n` images (all when there are fewer), drawn by `seed` evenly over the classes, or over the folders where they are
/// unlabelled; in the order of the data set. How many each class gives does not depend on the seed.
inline Dataset draw_evenly(const Dataset& data, Index n, std::uint64_t seed) {
    constexpr std::uint64_t stream = 0x6576656e6c792121;  // "evenly!!": apart from the other draws
    if (n >= data.size()) return data;
    const std::vector<std::vector<Index>> groups = detail::image_groups(data);
    std::vector<Index> sizes;
    for (const std::vector<Index>& group : groups) sizes.push_back(static_cast<Index>(group.size()));
    const std::vector<Index> shares = detail::even_shares(sizes, n);
    std::vector<Index> drawn;
    for (std::size_t g = 0; g < groups.size(); ++g)
        detail::draw_some(groups[g], shares[g], RandomStream(seed, stream, static_cast<std::uint32_t>(g)), drawn);
    std::sort(drawn.begin(), drawn.end());
    return subset(data, drawn);
}

/// A data set in two.
struct HeldOut {
    Dataset train;  ///< what is left to learn from
    Dataset test;   ///< what was held out
};

/// Holds out images of each class, drawn by `seed`: that many, or below 1 that share of them (one at least). Throws
/// Error for unlabelled images, and for a class that would have none left.
inline HeldOut hold_out(const Dataset& data, double share, std::uint64_t seed) {
    constexpr std::uint64_t stream = 0x686f6c645f6f7574;  // "hold_out"
    require(data.labelled(), data.name, ": images are held out of labelled ones only");
    require(share > 0 && (share < 1 || share == std::floor(share)), "images to hold out: ", share,
            " is neither a share below 1 nor a number of images of each class");
    std::vector<Index> test;
    for (const std::vector<Index>& group : detail::image_groups(data)) {
        const auto images = static_cast<Index>(group.size());
        const Index label = data.label(group.front());
        const Index n = share < 1 ? std::max<Index>(1, static_cast<Index>(share * static_cast<double>(images)))
                                  : static_cast<Index>(share);
        require(n < images, data.name, ": class '", data.class_names[static_cast<std::size_t>(label)], "' has ", images,
                " image(s), too few to hold out ", n);
        detail::draw_some(group, n, RandomStream(seed, stream, static_cast<std::uint32_t>(label)), test);
    }
    std::sort(test.begin(), test.end());
    HeldOut parts;
    parts.test = subset(data, test);
    parts.train = without(data, parts.test);
    return parts;
}

/// The images of `data` whose files are not among those of `others`.
inline Dataset without_files(const Dataset& data, const std::vector<const Dataset*>& others) {
    std::set<std::string> taken;
    for (const Dataset* other : others)
        for (Index i = 0; i < other->size(); ++i) taken.insert(other->item_name(i));
    std::vector<Index> kept;
    for (Index i = 0; i < data.size(); ++i)
        if (taken.count(data.item_name(i)) == 0) kept.push_back(i);
    return subset(data, kept);
}

}  // namespace promptkd
