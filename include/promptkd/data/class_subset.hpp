// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/rng.hpp>
#include <promptkd/data/dataset.hpp>

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Which classes take part in the base-to-novel protocol.
enum class ClassSubset { all, base, novel };

/// "all", "base" or "new". Throws Error for any other name.
inline ClassSubset parse_class_subset(const std::string& name) {
    if (name == "all") return ClassSubset::all;
    if (name == "base") return ClassSubset::base;
    if (name == "new") return ClassSubset::novel;
    fail("unknown classes '", name, "'; known: base, new, all");
}

/// As parse_class_subset() reads it.
inline const char* name_of(ClassSubset subset) {
    return subset == ClassSubset::all ? "all" : subset == ClassSubset::base ? "base" : "new";
}

/// Labels [first, last) of a subset of `classes` sorted classes: base are the first ⌈classes/2⌉, new the rest.
inline std::pair<Index, Index> class_range(Index classes, ClassSubset subset) {
    const Index middle = (classes + 1) / 2;
    return {subset == ClassSubset::novel ? middle : 0, subset == ClassSubset::base ? middle : classes};
}

/// Whether both halves of so many classes hold two or more, so that there is something to decide in each.
inline bool has_halves(Index classes) { return classes >= 4; }

/// The images and class names of `labels` (in that order), relabelled from 0. Unlabelled images are dropped.
inline Dataset select_labels(const Dataset& data, const std::vector<Index>& labels) {
    std::vector<Index> new_label(data.class_names.size(), -1);
    Dataset result;
    result.name = data.name;
    result.source = data.source;
    for (const Index label : labels) {
        require(label >= 0 && label < data.classes(), data.name, ": class ", label, " does not exist, there are ",
                data.classes());
        require(new_label[static_cast<std::size_t>(label)] < 0, data.name, ": class ", label, " is selected twice");
        new_label[static_cast<std::size_t>(label)] = result.classes();
        result.class_names.push_back(data.class_names[static_cast<std::size_t>(label)]);
        if (!data.class_ids.empty()) result.class_ids.push_back(data.class_ids[static_cast<std::size_t>(label)]);
    }
    for (const Item& item : data.items) {
        const Index label = item.label < 0 ? -1 : new_label[static_cast<std::size_t>(item.label)];
        if (label >= 0) result.items.push_back({item.source, label});
    }
    return result;
}

/// The images and class names of a subset (see class_range), relabelled from 0; the data itself for ClassSubset::all.
/// Throws Error when no class is left.
inline Dataset select_subset(const Dataset& data, ClassSubset which) {
    if (which == ClassSubset::all) return data;
    const auto [first, last] = class_range(data.classes(), which);
    require(first < last, data.name, ": ", data.classes(), " class(es) leave none for the half '", name_of(which), "'");
    std::vector<Index> labels(static_cast<std::size_t>(last - first));
    std::iota(labels.begin(), labels.end(), first);
    return select_labels(data, labels);
}

/// The labelled images of a subset of the classes (all images for ClassSubset::all), with the labels and class names of
/// the whole. Throws Error when there is none.
inline Dataset keep_subset(const Dataset& data, ClassSubset which) {
    if (which == ClassSubset::all) return data;
    const auto [first, last] = class_range(data.classes(), which);
    std::vector<Index> kept;
    for (Index i = 0; i < data.size(); ++i)
        if (data.label(i) >= first && data.label(i) < last) kept.push_back(i);
    require(!kept.empty(), data.name, ": there is no labelled image of the classes '", name_of(which), "'");
    return subset(data, kept);
}

/// Whether each half of the classes has two or more, and images among the labelled ones, so that its figure says
/// something.
inline bool has_both_halves(const Dataset& data) {
    if (!has_halves(data.classes())) return false;
    const Index middle = class_range(data.classes(), ClassSubset::base).second;
    bool base = false, novel = false;
    for (const Item& item : data.items) {
        base = base || (item.label >= 0 && item.label < middle);
        novel = novel || item.label >= middle;
    }
    return base && novel;
}

/// The images of `data` that are not in `others`, a part of it.
inline Dataset without(const Dataset& data, const Dataset& others) {
    std::vector<Index> taken, kept;
    for (const Item& item : others.items) taken.push_back(item.source);
    std::sort(taken.begin(), taken.end());
    for (Index i = 0; i < data.size(); ++i)
        if (!std::binary_search(taken.begin(), taken.end(), data.items[static_cast<std::size_t>(i)].source))
            kept.push_back(i);
    return subset(data, kept);
}

/// `shots` images of each class, drawn without replacement by `seed`, class after class. The draw of a class depends
/// only on the seed, its label and its number of images.
/// Throws Error naming class and count when a class has fewer, unless `allow_fewer` (then all of it is taken).
inline Dataset draw_few_shot(const Dataset& data, Index shots, std::uint64_t seed, bool allow_fewer = false) {
    constexpr std::uint64_t stream = 0x6665775f73686f74;  // "few_shot": apart from the streams of images and shuffles
    require(shots >= 1, "shots must be at least 1, found ", shots);
    std::vector<std::vector<Index>> of_class(data.class_names.size());
    for (Index i = 0; i < data.size(); ++i)
        if (data.label(i) >= 0) of_class[static_cast<std::size_t>(data.label(i))].push_back(i);
    std::vector<Index> drawn;
    for (std::size_t c = 0; c < of_class.size(); ++c) {
        std::vector<Index>& images = of_class[c];
        const auto found = static_cast<Index>(images.size());
        require(found >= shots || (allow_fewer && found > 0), data.name, ": class '", data.class_names[c], "' has ",
                found, " labelled image(s), fewer than the ", shots, " shots wanted; lower the shots or allow fewer");
        RandomStream random(seed, stream, static_cast<std::uint32_t>(c));
        for (Index i = 0; i < std::min(shots, found); ++i) {
            const Index j = i + random.below(static_cast<std::uint32_t>(found - i));
            std::swap(images[static_cast<std::size_t>(i)], images[static_cast<std::size_t>(j)]);
            drawn.push_back(images[static_cast<std::size_t>(i)]);
        }
    }
    return subset(data, drawn);
}

}  // namespace promptkd
