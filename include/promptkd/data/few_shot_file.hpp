// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/benchmarks.hpp>
#include <promptkd/format/pickle.hpp>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd {

namespace detail {

/// Path and label of one `Datum` of the published few-shot files, whose class is only a name to us.
inline BenchmarkEntry read_datum(const Pickle& pickle, Pickle::Ref ref, const std::string& where) {
    const Pickle::Node& datum = pickle[ref];
    require(datum.kind == Pickle::Kind::object && datum.state != 0, where, " is not an image record");
    const Pickle::Node& path = pickle[pickle.find(datum.state, "_impath")];
    const Pickle::Node& label = pickle[pickle.find(datum.state, "_label")];
    require(path.kind == Pickle::Kind::text && label.kind == Pickle::Kind::integer, where,
            " has no '_impath' and '_label'");
    return {std::string(path.text), static_cast<Index>(label.integer)};
}

/// The list `part` of a few-shot file: {"train": [Datum, …], "val": [Datum, …]}.
inline std::vector<BenchmarkEntry> read_few_shot_part(const std::string& path, const char* part) {
    const std::string bytes = read_file(path, PickleLimits{}.bytes);
    const Pickle pickle = Pickle::parse(bytes, path);
    const Pickle::Node& list = pickle[pickle.find(pickle.root(), part)];
    require(list.kind == Pickle::Kind::list, path, ": there is no list '", part, "'");
    std::vector<BenchmarkEntry> entries;
    for (const Pickle::Ref ref : list.items)
        entries.push_back(read_datum(pickle, ref, concat(path, ": entry ", entries.size(), " of '", part, "'")));
    require(!entries.empty(), path, ": the list '", part, "' is empty");
    return entries;
}

}  // namespace detail

/// The published few-shot draw split_fewshot/shot_K-seed_S.pkl of a benchmark below `root`; nothing where there is
/// none.
inline std::optional<std::string> published_draw(const std::string& name, const std::string& root, Index shots,
                                                 std::uint64_t seed) {
    const BenchmarkInfo* info = find_benchmark(name);
    if (info == nullptr) return std::nullopt;
    std::string path = concat(root, "/", info->folder, "/split_fewshot/shot_", shots, "-seed_", seed, ".pkl");
    if (!std::filesystem::exists(path)) return std::nullopt;
    return path;
}

/// The images of `data` (the training part of the benchmark) that the published draw of `path` names. Those files hold
/// the paths of the machine they were made on, so what stands behind the folder of images counts. Throws Error for an
/// image that is not in the training part, or has another label there.
inline Dataset read_few_shot(const BenchmarkInfo& info, const std::string& path, const Dataset& data) {
    const std::string marker = "/" + (info.images.empty() ? info.folder : info.images) + "/";
    const auto below = [&](const std::string& image) {
        const std::size_t at = image.rfind(marker);
        return at == std::string::npos ? image : image.substr(at + marker.size());
    };
    std::map<std::string, Index> items;
    for (Index i = 0; i < data.size(); ++i) items.emplace(below(data.item_name(i)), i);
    std::vector<Index> drawn;
    for (const detail::BenchmarkEntry& entry : detail::read_few_shot_part(path, "train")) {
        const auto item = items.find(below(entry.path));
        require(item != items.end(), path, ": image '", entry.path, "' is not in the training part of ", info.name);
        require(data.label(item->second) == entry.label, path, ": image '", entry.path, "' has label ", entry.label,
                ", but ", data.label(item->second), " in the split");
        drawn.push_back(item->second);
    }
    return subset(data, drawn);
}

}  // namespace promptkd
