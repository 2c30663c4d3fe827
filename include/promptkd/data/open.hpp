// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/benchmarks.hpp>
#include <promptkd/data/folder.hpp>
#include <promptkd/data/idx.hpp>
#include <promptkd/data/list.hpp>

#include <string>
#include <vector>

namespace promptkd {

/// A data set as the programs name it.
struct DataSpec {
    std::string name;  ///< of the set, or "folder", "list"
    std::string root;  ///< folder or file that holds it
};

/// Splits "NAME:ROOT". Throws Error when there is no name or root.
inline DataSpec parse_data_spec(const std::string& text) {
    const std::size_t colon = text.find(':');
    require(colon != std::string::npos && colon > 0 && colon + 1 < text.size(), "data '", text,
            "' must have the form NAME:ROOT, e.g. fashion-mnist:/usr/share/datasets/fashion-mnist, folder:photos, "
            "list:images.csv");
    return {text.substr(0, colon), text.substr(colon + 1)};
}

namespace detail {

/// The names given instead of the data set's own. Throws Error when their number is another.
inline Dataset renamed(Dataset data, const std::vector<std::string>& class_names) {
    if (class_names.empty()) return data;
    require(class_names.size() == data.class_names.size(), data.name, " has ", data.class_names.size(),
            " classes, but ", class_names.size(), " class names are given");
    data.class_names = class_names;
    return data;
}

}  // namespace detail

/// Opens a part of the data set "NAME:ROOT": fashion-mnist, folder (see load_folder, split_folder), list (see
/// load_list; it has no parts) or one of benchmarks(). `class_names`, when given, are the classes in label order; for
/// fashion-mnist and the benchmarks they replace the set's own. Throws Error listing the known names for an unknown
/// one.
inline Dataset open_dataset(const std::string& spec_text, Split split, const std::vector<std::string>& class_names = {},
                            FolderLabels labels = FolderLabels::automatic) {
    const DataSpec spec = parse_data_spec(spec_text);
    if (spec.name == "folder") return load_folder(split_folder(spec.root, split), class_names, labels);
    if (spec.name == "list") return load_list(spec.root, class_names);
    if (const BenchmarkInfo* benchmark = find_benchmark(spec.name))
        return detail::renamed(load_benchmark(*benchmark, spec.root, split), class_names);
    std::string known;
    for (const BenchmarkInfo& benchmark : benchmarks()) known += ", " + benchmark.name;
    require(spec.name == "fashion-mnist", "unknown data set '", spec.name, "'; known: fashion-mnist, folder, list",
            known);
    return detail::renamed(load_fashion_mnist(spec.root, split), class_names);
}

}  // namespace promptkd
