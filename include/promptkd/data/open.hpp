// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/benchmarks.hpp>
#include <promptkd/data/folder.hpp>
#include <promptkd/data/idx.hpp>
#include <promptkd/data/list.hpp>

#include <functional>
#include <map>
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

/// Whom the opening of a data set tells what should be known of it.
struct DataTeller {
    std::function<void(const std::string&)> note;  ///< how it was understood where that is not plain
    std::function<void(const std::string&)> warn;  ///< what may not be meant
    std::function<void(const std::string&)> test;  ///< which images are tested on where that is not plain
};

/// Whether "NAME:ROOT" is a folder or a list of a user's own images.
inline bool is_own_images(const std::string& spec_text) {
    const std::string name = parse_data_spec(spec_text).name;
    return name == "folder" || name == "list";
}

/// Tells `tell` that several classes have the same text.
inline void warn_of_one_text(const std::vector<std::string>& class_names, const DataTeller& tell) {
    const std::vector<std::string> same = names_of_one_text(class_names);
    if (!same.empty() && tell.warn)
        tell.warn(concat("several classes have the same text (", detail::joined(same, 4),
                         "): a model cannot tell them apart by it"));
}

/// Tells `tell` what should be known of a folder or a list.
inline void tell_remarks(const DataContents& contents, const DataTeller& tell) {
    for (const std::string& text : contents.warnings)
        if (tell.warn) tell.warn(text);
    for (const std::string& text : contents.notes)
        if (tell.note) tell.note(text);
}

/// A folder or a list as a whole: see read_folder(), read_list().
inline DataContents read_own_images(const std::string& spec_text, const ClassNames& class_names = {},
                                    FolderLabels labels = FolderLabels::automatic) {
    const DataSpec spec = parse_data_spec(spec_text);
    if (spec.name == "folder") return read_folder(spec.root, class_names, labels);
    return read_list(spec.root, class_names, labels != FolderLabels::none);
}

namespace detail {

/// The names given instead of the data set's own, by their ids where both have some, else in the set's order. Throws
/// Error when their number is another.
inline Dataset renamed(Dataset data, const ClassNames& given) {
    if (given.empty()) return data;
    const bool by_id = !given.ids.empty() && !data.class_ids.empty();
    require(by_id || given.names.size() == data.class_names.size(), data.name, " has ", data.class_names.size(),
            " classes, but ", given.names.size(), " class names are given");
    if (!by_id) {
        data.class_names = given.names;
        return data;
    }
    std::map<std::string, std::string> name_of_id;
    for (std::size_t i = 0; i < given.ids.size(); ++i) name_of_id.emplace(given.ids[i], given.names[i]);
    for (std::size_t i = 0; i < data.class_ids.size(); ++i) {
        const auto name = name_of_id.find(data.class_ids[i]);
        require(name != name_of_id.end(), data.name, ": the class names given have none for '", data.class_ids[i], "'");
        data.class_names[i] = name->second;
    }
    return data;
}

/// A part of a folder or a list.
inline Dataset open_own_images(const std::string& spec_text, Split split, const ClassNames& class_names,
                               FolderLabels labels, const DataTeller& tell) {
    const DataContents contents = read_own_images(spec_text, class_names, labels);
    const bool needed = labels == FolderLabels::required;
    const TestOrigin origin = contents.test_origin(labels != FolderLabels::none);
    const bool all = labels == FolderLabels::none && origin == TestOrigin::absent;  // no one asks what they are for
    const Dataset& data = contents.images(all ? Split::train : split, labels != FolderLabels::none);
    tell_remarks(contents, tell);
    if (split == Split::test && origin == TestOrigin::validation && tell.test)
        tell.test(concat("there is no test part with labels: the ", data.size(), " images of '", data.name,
                         "' serve as the test"));
    require(!needed || data.labelled(), "'", data.name, "': its images have no labels, which are needed here",
            contents.no_labels.empty() ? "" : ": ", contents.no_labels);
    return data;
}

/// A data set of a kind of its own, which is no row of benchmarks(): its name, and what reads a part of it.
struct OwnKind {
    const char* name;
    Dataset (*load)(const std::string& root, Split split);
};

inline constexpr OwnKind own_kinds[] = {{"fashion-mnist", &load_fashion_mnist}};

inline Dataset open_known_set(const DataSpec& spec, Split split, const ClassNames& class_names) {
    std::string known = "folder, list";
    for (const OwnKind& kind : own_kinds) {
        if (spec.name == kind.name) return renamed(kind.load(spec.root, split), class_names);
        known = concat(kind.name, ", ", known);
    }
    if (const BenchmarkInfo* benchmark = find_benchmark(spec.name))
        return renamed(load_benchmark(*benchmark, spec.root, split), class_names);
    for (const BenchmarkInfo& benchmark : benchmarks()) known += ", " + benchmark.name;
    fail("unknown data set '", spec.name, "'; known: ", known);
}

}  // namespace detail

/// Opens a part of the data set "NAME:ROOT": fashion-mnist, folder (see read_folder()), list (see read_list()) or one
/// of benchmarks(). `class_names`, when given, are the classes in label order; for fashion-mnist and the benchmarks
/// they replace the set's own. `tell` hears what should be known of it. Throws Error listing the known names for an
/// unknown one, and where the part is not there.
inline Dataset open_dataset(const std::string& spec_text, Split split, const ClassNames& class_names = {},
                            FolderLabels labels = FolderLabels::automatic, const DataTeller& tell = {}) {
    Dataset data = is_own_images(spec_text) ? detail::open_own_images(spec_text, split, class_names, labels, tell)
                                            : detail::open_known_set(parse_data_spec(spec_text), split, class_names);
    if (labels != FolderLabels::none) warn_of_one_text(data.class_names, tell);
    return data;
}

}  // namespace promptkd
