// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/open.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A benchmark beside its published numbers.
struct BenchmarkDescription {
    BenchmarkInfo published;  ///< what it should hold
    BenchmarkReport found;    ///< what the root holds
};

/// A part of a data set as a run uses it.
struct PartDescription {
    std::string part;                                      ///< "train", "validation", "test"; "all" of an undivided set
    std::string place;                                     ///< its folder or list
    Index images = 0;                                      ///< how many it has
    bool labelled = false;                                 ///< whether every image has a label
    std::vector<std::pair<std::string, Index>> per_class;  ///< class name, told apart from equal ones, and its images
    std::vector<std::string> first;                        ///< names of its first images
};

/// What a data set holds: exactly what a run uses.
struct DataDescription {
    std::string source;                             ///< as it was named
    std::optional<BenchmarkDescription> benchmark;  ///< one of benchmarks(); then nothing of what follows is set
    Index classes = 0, train = 0, test = 0;         ///< classes; images that are learned from, that are tested on
    bool labelled = false;                          ///< whether every test image has a label
    std::vector<std::pair<std::string, Index>> test_per_class;  ///< class name and its test images
    std::vector<std::string> class_names;                       ///< in label order, as texts
    std::vector<PartDescription> parts;                         ///< what there is
    std::string tested_on;                                      ///< the part that is tested on, and why it is that one
    std::vector<std::pair<std::string, std::string>> left_out;  ///< what is not used, and why
    std::vector<std::string> notes, warnings;                   ///< how it was understood, and what may not be meant

    /// Why it is not the published data set; empty where it is, or where none is published.
    const std::vector<std::string>& problems() const {
        static const std::vector<std::string> none;
        return benchmark ? benchmark->found.problems : none;
    }
};

namespace detail {

inline PartDescription describe_part(const std::string& part, const Dataset& data) {
    PartDescription info;
    info.part = part;
    info.place = data.name;
    info.images = data.size();
    info.labelled = data.labelled();
    for (const std::string& name : distinct_names(data.class_names, data.class_ids))
        info.per_class.emplace_back(name, 0);
    for (const Item& item : data.items)
        if (item.label >= 0) ++info.per_class[static_cast<std::size_t>(item.label)].second;
    for (Index i = 0; i < std::min<Index>(3, data.size()); ++i) info.first.push_back(data.item_name(i));
    return info;
}

inline void describe_test(const Dataset& test, DataDescription& info) {
    info.classes = test.classes();
    info.class_names = test.class_names;
    info.test = test.size();
    info.labelled = test.labelled();
    info.test_per_class = describe_part("", test).per_class;
}

/// The parts of a folder or a list and which of them a run takes.
inline void describe_own_images(const DataContents& contents, DataDescription& info) {
    info.classes = static_cast<Index>(contents.class_names.size());
    info.class_names = contents.class_names;
    info.left_out = contents.left_out;
    if (contents.whole) info.parts.push_back(describe_part("all", *contents.whole));
    for (const auto& [part, data] : contents.parts) info.parts.push_back(describe_part(name_of(part), data));
    if (contents.whole || contents.parts.count(DataPart::train) != 0)
        info.train = contents.images(Split::train, true).size();
    switch (contents.test_origin(true)) {
        case TestOrigin::own:
            info.tested_on = "the test part";
            break;
        case TestOrigin::validation:
            info.tested_on = "the validation part: there is no test part with labels";
            break;
        case TestOrigin::whole:
            info.tested_on = "all images: the set is not divided; a training that uses all of them has none to test on";
            break;
        case TestOrigin::absent:
            info.tested_on = "nothing: there is only a training part";
            return;
    }
    describe_test(contents.images(Split::test, true), info);
    if (!info.labelled) info.tested_on += ", but its images have no labels: there is nothing to compare with";
}

}  // namespace detail

/// Looks at the data set "NAME:ROOT" as a run with these class names would. Of a benchmark everything that is missing
/// is found; any other data set must open.
inline DataDescription describe_data(const std::string& source, const ClassNames& class_names = {}) {
    DataDescription info;
    info.source = source;
    const DataSpec spec = parse_data_spec(source);
    if (const BenchmarkInfo* published = find_benchmark(spec.name)) {
        info.benchmark = BenchmarkDescription{*published, check_benchmark(*published, spec.root)};
        return info;
    }
    DataTeller tell;
    tell.note = [&](const std::string& text) { info.notes.push_back(text); };
    tell.warn = [&](const std::string& text) { info.warnings.push_back(text); };
    if (is_own_images(source)) {
        bool flat = false;
        const auto read = [&] {
            if (spec.name != "folder") return read_own_images(source, class_names);
            const FolderNode tree = read_tree(spec.root);
            flat = class_names.empty() && has_no_class_folders(tree);
            return read_folder(tree, class_names, flat ? FolderLabels::none : FolderLabels::automatic);
        };
        const DataContents contents = read();
        if (flat)
            info.notes.push_back(
                "there are no class folders: the images have no labels, and class names must be given");
        detail::describe_own_images(contents, info);
        tell_remarks(contents, tell);
        warn_of_one_text(contents.class_names, tell);
        if (info.classes == 1) info.warnings.push_back("there is one class alone, so there is nothing to decide");
        return info;
    }
    const Dataset train = open_dataset(source, Split::train, class_names, FolderLabels::automatic, tell);
    const Dataset test = open_dataset(source, Split::test, class_names);
    info.train = train.size();
    info.parts = {detail::describe_part("train", train), detail::describe_part("test", test)};
    info.tested_on = "the test part";
    detail::describe_test(test, info);
    return info;
}

}  // namespace promptkd
