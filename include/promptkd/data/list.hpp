// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/image_table.hpp>
#include <promptkd/data/named_images.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// Reads a list into DataContents.
class ListReader {
public:
    ListReader(const std::string& path, const ClassNames& given, bool labels)
        : table_(path, given), given_(given), labels_(labels) {}

    DataContents read() {
        entries_ = table_.entries();
        out_.source = table_.source();
        add_entries();
        const bool labelled = labels_ && table_.labelled() && !entries_.front().label.empty();
        ContentsBuilder builder(named_, out_);
        if (labelled && given_.empty())
            take_own_classes(builder);
        else if (!given_.empty())
            builder.take_classes(given_, named_.classes, matched());
        builder.build(labelled);
        if (!table_.labelled()) out_.no_labels = table_.columns_expected();
        if (!table_.note().empty()) out_.notes.push_back(table_.note());
        warn_of_repeated();
        return std::move(out_);
    }

private:
    void add_entries() {
        std::set<std::string> labels;
        for (const ImageTable::Entry& entry : entries_) {
            NamedImages& images = table_.has_parts() ? named_.parts[*entry.part] : whole();
            images.where = table_.source();
            images.paths.push_back(entry.path);
            if (entry.label.empty() || !labels_) continue;
            images.labels.push_back(entry.label);
            labels.insert(entry.label);
        }
        named_.classes = sorted_labels(labels);
    }

    NamedImages& whole() {
        if (!named_.whole) named_.whole.emplace();
        return *named_.whole;
    }

    /// Labels that differ only in _ and space are one class.
    void take_own_classes(ContentsBuilder& builder) {
        std::map<std::string, std::string> label_of;
        std::set<std::string> readable;
        for (const std::string& label : named_.classes) {
            label_of.emplace(readable_name(label), label);
            readable.insert(readable_name(label));
        }
        const std::vector<std::string> classes = sorted_labels(readable);
        if (classes.size() == named_.classes.size()) {
            std::vector<std::string> labels;
            for (const std::string& name : classes) labels.push_back(label_of[name]);
            return builder.take_classes(labels, classes);
        }
        builder.take_classes(ClassNames(classes), named_.classes, match_classes(named_.classes, ClassNames(classes)));
    }

    /// Which classes the labels are. Throws Error naming the first line whose label is none.
    ClassMatch matched() const {
        ClassMatch match = match_classes(named_.classes, given_);
        std::map<std::string, Index> unknown;
        for (std::size_t i = 0; i < match.labels.size(); ++i)
            if (match.labels[i] < 0) unknown.emplace(named_.classes[i], match.labels[i]);
        for (const ImageTable::Entry& entry : entries_) {
            const auto found = unknown.find(entry.label);
            if (found == unknown.end()) continue;
            fail(table_.where(entry.line), "label '", entry.label, "' is ",
                 found->second == -2 ? "the name of several of the class names given; give them with ids"
                                     : "not among the class names given (" + joined(given_.names, 3) + ")");
        }
        return match;
    }

    void warn_of_repeated() {
        std::set<std::string> seen;
        Index repeated = 0;
        for (const ImageTable::Entry& entry : entries_) repeated += !seen.insert(entry.path).second;
        if (repeated > 0)
            out_.warnings.push_back(
                concat(table_.source(), ": ", repeated, " images stand in the list more than once"));
    }

    ImageTable table_;
    const ClassNames& given_;
    bool labels_;
    std::vector<ImageTable::Entry> entries_;
    NamedParts named_;
    DataContents out_;
};

}  // namespace detail

/// Images listed in a table (see read_table() for its forms and ImageTable for its columns): paths, which start at the
/// list's folder, and labels, which are class names, ids or positions among `class_names`. Without `class_names` the
/// sorted labels are the classes; with them every label must be among them; without `labels` they are not looked at. A
/// column of parts divides the set. Throws Error with the line's number for a malformed line, a missing file or an
/// unknown label.
inline DataContents read_list(const std::string& path, const ClassNames& class_names = {}, bool labels = true) {
    return detail::ListReader(path, class_names, labels).read();
}

}  // namespace promptkd
