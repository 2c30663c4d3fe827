// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_names.hpp>
#include <promptkd/data/dataset.hpp>
#include <promptkd/data/files.hpp>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Images of one part as a tree or a list names them.
struct NamedImages {
    std::string where;                ///< the folder or list they come from
    std::vector<std::string> paths;   ///< of the files, in order
    std::vector<std::string> labels;  ///< names of their classes; empty: they are unlabelled

    /// Whether every image has a label.
    bool labelled() const { return !paths.empty() && labels.size() == paths.size(); }
};

/// Images in parts, or undivided.
struct NamedParts {
    std::optional<NamedImages> whole;       ///< where there are no parts
    std::map<DataPart, NamedImages> parts;  ///< otherwise
    std::vector<std::string> classes;       ///< names of classes that are announced, with images or without, sorted

    /// All of them, with the name of the part ("" of the whole).
    std::vector<std::pair<std::string, const NamedImages*>> all() const {
        std::vector<std::pair<std::string, const NamedImages*>> list;
        if (whole) list.emplace_back("", &*whole);
        for (const auto& [part, images] : parts) list.emplace_back(name_of(part), &images);
        return list;
    }
};

/// Where the images come from that a run is tested on.
enum class TestOrigin {
    own,         ///< a test part
    validation,  ///< the validation part: there is no test part with labels
    whole,       ///< the set is not divided: they are its training images too
    absent       ///< there are none
};

/// A folder or a list as every run uses it, and what should be known of it.
struct DataContents {
    std::string source;                      ///< its root or file
    std::vector<std::string> class_names;    ///< (N); empty: none are known
    std::vector<std::string> class_ids;      ///< (N), or empty: names of the classes in the tree or list
    std::optional<Dataset> whole;            ///< all images, where there are no parts
    std::map<DataPart, Dataset> parts;       ///< the parts otherwise
    std::map<DataPart, std::string> places;  ///< the folder of each part
    std::vector<std::pair<std::string, std::string>> left_out;  ///< what is not used, and why
    std::string no_labels;                                      ///< why there are no labels, where there are none
    std::vector<std::string> notes;                             ///< how it was understood where that is not plain
    std::vector<std::string> warnings;                          ///< what may not be meant

    /// Where test images come from; `labels`: whether they need labels.
    TestOrigin test_origin(bool labels) const {
        if (whole) return TestOrigin::whole;
        for (const bool labelled : {true, false})
            for (const DataPart part : {DataPart::test, DataPart::validation}) {
                const auto found = parts.find(part);
                if (found == parts.end() || (labels && labelled && !found->second.labelled())) continue;
                return part == DataPart::test ? TestOrigin::own : TestOrigin::validation;
            }
        return TestOrigin::absent;
    }

    /// The images of a part. Throws Error saying which parts there are when it is not among them.
    const Dataset& images(Split split, bool labels) const {
        if (whole) return *whole;
        const TestOrigin origin = test_origin(labels);
        const DataPart part = split == Split::train              ? DataPart::train
                              : origin == TestOrigin::validation ? DataPart::validation
                                                                 : DataPart::test;
        const auto found = parts.find(part);
        if (found != parts.end()) return found->second;
        std::string there;
        for (const auto& [name, data] : parts)
            there += concat(there.empty() ? "" : ", ", places.at(name), " (", data.size(), " images)");
        fail("'", source, "' has no ", split == Split::train ? "training part" : "test or validation part",
             "; there is ", there);
    }
};

namespace detail {

/// Sorts names of classes: numbers by value, else by their bytes.
inline std::vector<std::string> sorted_labels(const std::set<std::string>& labels) {
    std::vector<std::string> names(labels.begin(), labels.end());
    if (std::all_of(names.begin(), names.end(), [](const std::string& n) { return is_number(n) && n.size() < 10; }))
        std::stable_sort(names.begin(), names.end(),
                         [](const std::string& a, const std::string& b) { return std::stoll(a) < std::stoll(b); });
    return names;
}

/// Makes datasets of named images whose labels are known.
class ContentsBuilder {
public:
    ContentsBuilder(const NamedParts& named, DataContents& out) : named_(named), out_(out) {}

    /// The classes of the names, in their order; `names`: how each is written as a class name.
    void take_classes(const std::vector<std::string>& names, const std::vector<std::string>& texts) {
        out_.class_names = texts;
        if (names != texts) out_.class_ids = names;
        for (std::size_t i = 0; i < names.size(); ++i) label_of_[names[i]] = static_cast<Index>(i);
        warn_of_codes(names);
    }

    /// The classes given, and which of them each name is.
    void take_classes(const ClassNames& given, const std::vector<std::string>& names, const ClassMatch& match) {
        out_.class_names = given.names;
        out_.class_ids = given.ids;
        for (std::size_t i = 0; i < names.size(); ++i) label_of_[names[i]] = match.labels[i];
        if (given.ids.empty() && distinct_names(given.names) != given.names) take_ids(names, match);
        out_.notes.insert(out_.notes.end(), match.notes.begin(), match.notes.end());
    }

    void build(bool labelled) {
        if (named_.whole) out_.whole = part("", *named_.whole, labelled);
        for (const auto& [name, images] : named_.parts) {
            if (images.paths.empty()) {
                out_.warnings.push_back(
                    concat("'", images.where, "' has no image: there is no ", name_of(name), " part"));
                continue;
            }
            out_.parts[name] = part(name_of(name), images, labelled);
            out_.places[name] = images.where;
        }
    }

private:
    Dataset part(const std::string& name, const NamedImages& images, bool labelled) {
        Dataset data = dataset(images, labelled);
        if (labelled && data.labelled()) warn_of_missing(name, data);
        if (labelled && !data.labelled())
            out_.warnings.push_back(
                concat("'", images.where, "' has no class folders: its ", data.size(), " images have no labels"));
        return data;
    }

    Dataset dataset(const NamedImages& images, bool labelled) const {
        Dataset data;
        data.name = images.where;
        data.class_names = out_.class_names;
        data.class_ids = out_.class_ids;
        for (std::size_t i = 0; i < images.paths.size(); ++i) {
            const Index label = labelled && images.labelled() ? label_of_.at(images.labels[i]) : -1;
            data.items.push_back({static_cast<Index>(i), label});
        }
        data.source = std::make_shared<ImageFiles>(images.paths);
        return data;
    }

    void take_ids(const std::vector<std::string>& names, const ClassMatch& match) {
        std::vector<std::string> ids(out_.class_names.size());
        for (std::size_t i = 0; i < names.size(); ++i)
            if (match.labels[i] >= 0) ids[static_cast<std::size_t>(match.labels[i])] = names[i];
        if (std::none_of(ids.begin(), ids.end(), [](const std::string& id) { return id.empty(); }))
            out_.class_ids = ids;
    }

    void warn_of_codes(const std::vector<std::string>& names) {
        std::vector<std::string> codes;
        for (const std::string& name : names)
            if (is_code(name)) codes.push_back(name);
        if (codes.empty() || 2 * codes.size() < names.size()) return;
        codes.resize(std::min<std::size_t>(codes.size(), 3));
        out_.warnings.push_back(concat("the classes are called by numbers or ids (", joined(codes),
                                       "): these are their texts, which tell a model nothing; give the class names"));
    }

    void warn_of_missing(const std::string& part, const Dataset& data) {
        std::vector<bool> seen(out_.class_names.size());
        for (const Item& item : data.items)
            if (item.label >= 0) seen[static_cast<std::size_t>(item.label)] = true;
        std::vector<std::string> missing;
        const std::vector<std::string> names = distinct_names(out_.class_names, out_.class_ids);
        for (std::size_t i = 0; i < seen.size(); ++i)
            if (!seen[i]) missing.push_back(names[i]);
        if (missing.empty()) return;
        out_.warnings.push_back(concat(missing.size(), " of the ", names.size(), " classes have no image in ",
                                       part.empty() ? concat("'", data.name, "'") : concat("the ", part, " part"), ": ",
                                       joined(missing, 3), "; they stay among the classes that are decided between"));
    }

    const NamedParts& named_;
    DataContents& out_;
    std::map<std::string, Index> label_of_;
};

}  // namespace detail

}  // namespace promptkd
