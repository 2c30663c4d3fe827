// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/folder_layout.hpp>
#include <promptkd/data/image_table.hpp>
#include <promptkd/data/named_images.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// How the subfolders of an image folder are read.
enum class FolderLabels {
    automatic,  ///< as class folders when they carry the class names (or none are given), else as a mere tree
    required,   ///< as class folders; an error when they are not
    none        ///< as a mere tree of unlabelled images
};

namespace detail {

/// What kinds are read, for messages.
inline constexpr const char* read_kinds = "(.jpg, .png, .webp, .gif, .bmp, .tif)";

/// Reads a folder into DataContents.
class FolderReader {
public:
    FolderReader(const FolderNode& tree, const ClassNames& given, FolderLabels labels)
        : tree_(tree), given_(given), labels_(labels), layout_(read_layout(tree, given)) {}

    DataContents read() {
        out_.source = tree_.path;
        out_.notes = layout_.notes;
        out_.left_out = layout_.left_out;
        for (const auto& [path, why] : out_.left_out) warn_of_left_out(path, why);
        count_other_kinds();
        bool labelled = labels_ != FolderLabels::none && (read_metadata() || has_classes());
        if (labelled && named_.classes.empty()) name_class_folders();
        if (!labelled) name_all_images();
        take_classes(labelled);
        return std::move(out_);
    }

private:
    void warn_of_left_out(const std::string& path, const std::string& why) {
        if (why != "holds no image") out_.warnings.push_back(concat("'", path, "' ", why, ": left out"));
    }

    void count_other_kinds() {
        const std::map<std::string, Index> kinds = tree_.all_other_kinds();
        if (kinds.empty()) return;
        const std::string files = list_kinds(kinds);
        out_.left_out.emplace_back(files, "are of kinds that are not read");
        out_.warnings.push_back(concat("'", tree_.path, "': ", files, " left out: their kinds are not read"));
    }

    NamedImages named(const PartLayout& part) const {
        NamedImages images;
        images.where = part.folder->path;
        return images;
    }

    template <class F>
    void for_each_part(const F& f) {
        if (layout_.whole) f(*layout_.whole, named_.whole.emplace(named(*layout_.whole)));
        for (const auto& [part, layout] : layout_.parts)
            f(layout, named_.parts.emplace(part, named(layout)).first->second);
    }

    /// Hugging Face's image folder: a metadata file beside the images, or at the root, with a column of labels.
    bool read_metadata() {
        std::map<const PartLayout*, std::vector<ImageTable::Entry>> entries;
        std::string file;
        for (const PartLayout* part : layout_.all()) {
            file = metadata_of(*part);
            if (file.empty()) return false;
            entries[part] = listed_images(*part, file);
        }
        std::set<std::string> labels;
        for_each_part([&](const PartLayout& part, NamedImages& images) {
            for (const ImageTable::Entry& entry : entries[&part]) {
                images.paths.push_back(entry.path);
                images.labels.push_back(entry.label);
                labels.insert(entry.label);
            }
            leave_unlisted(part, part.folder->count() - static_cast<Index>(images.paths.size()));
        });
        named_.classes = sorted_labels(labels);
        out_.notes.push_back(concat("the labels are those of '", file, "'"));
        return true;
    }

    /// The table of a part, or of the root; empty: none that has labels.
    std::string metadata_of(const PartLayout& part) const {
        for (const FolderNode* folder : {part.folder, &tree_})
            for (const std::string& path : folder->tables)
                if (std::filesystem::path(path).stem() == "metadata" && ImageTable(path, given_).labelled())
                    return path;
        return "";
    }

    static std::vector<ImageTable::Entry> listed_images(const PartLayout& part, const std::string& file) {
        std::vector<ImageTable::Entry> found;
        const std::string below = part.folder->path + "/";
        for (ImageTable::Entry& entry : ImageTable(file, {}).entries())
            if (entry.path.compare(0, below.size(), below) == 0) found.push_back(std::move(entry));
        return found;
    }

    void leave_unlisted(const PartLayout& part, Index images) {
        if (images <= 0) return;
        const std::string why = concat("has ", images, " images that its metadata does not name");
        out_.left_out.emplace_back(part.folder->path, why);
        warn_of_left_out(part.folder->path, why);
    }

    /// Whether the folders are classes. Throws Error saying which folder is in the way when they are neither that nor a
    /// mere tree.
    bool has_classes() {
        const std::set<std::string> found = layout_.class_names();
        const std::vector<std::string> folders(found.begin(), found.end());
        if (given_.empty()) {
            require(!folders.empty(), "'", tree_.path, "' has no class folders", hint(),
                    "; give a list of class names to use its images unlabelled");
            return true;
        }
        const ClassMatch match = match_classes(folders, given_);
        std::vector<std::string> unknown;
        for (std::size_t i = 0; i < folders.size(); ++i) {
            require(match.labels[i] != -2, "'", tree_.path, "': folder '", folders[i],
                    "' has the name of several classes; give the class names with the folders' names as ids");
            if (match.labels[i] < 0) unknown.push_back(folders[i]);
        }
        if (labels_ == FolderLabels::automatic && unknown.size() == folders.size()) {
            if (!folders.empty())
                out_.notes.push_back(concat("'", tree_.path, "': its folders (", joined(folders, 3),
                                            ") are none of the class names: the images are used without labels"));
            return false;
        }
        require(!folders.empty(), "'", tree_.path, "' has no class folders", hint(),
                "; labelled images are needed here");
        require(unknown.empty(), "'", tree_.path, "': folder ", joined(unknown),
                " is not among the class names given (", joined(given_.names, 3), ")");
        return true;
    }

    /// What else is there that could be meant.
    std::string hint() const {
        std::string text;
        if (!tree_.archives.empty()) text += concat("; unpack '", tree_.archives.front(), "'?");
        if (!tree_.tables.empty())
            text += concat("; is '", tree_.tables.front(), "' a list of its images (list:FILE)?");
        return text;
    }

    void name_class_folders() {
        std::map<std::string, Index> images_of;
        for_each_part([&](const PartLayout& part, NamedImages& images) {
            const std::vector<std::string>& stray = part.folder->images;
            require(
                stray.empty() || part.classes.empty(), "'", part.folder->path, "': image '",
                stray.empty() ? "" : stray[0],
                "' lies beside the class folders; move it into one, or give class names to use all images unlabelled");
            for (const ClassFolder& one : part.classes) {
                const std::vector<std::string> found = one.folder->all_images();
                images_of[one.name] += static_cast<Index>(found.size());
                images.paths.insert(images.paths.end(), found.begin(), found.end());
                images.labels.resize(images.paths.size(), one.name);
            }
            if (part.classes.empty()) images.paths = stray;
        });
        for (const auto& [name, count] : images_of) {
            require(count > 0, "'", tree_.path, "': class '", name, "' has no image ", read_kinds, kinds_of(name));
            named_.classes.push_back(name);
        }
    }

    /// ", but 3 files .heic", where a class has images of other kinds.
    std::string kinds_of(const std::string& name) const {
        std::map<std::string, Index> kinds;
        for (const PartLayout* part : layout_.all())
            for (const ClassFolder& one : part->classes)
                if (one.name == name)
                    for (const auto& [kind, files] : one.folder->all_other_kinds()) kinds[kind] += files;
        return kinds.empty() ? "" : ", but " + list_kinds(kinds);
    }

    void name_all_images() {
        named_ = {};
        for_each_part([&](const PartLayout& part, NamedImages& images) { images.paths = part.folder->all_images(); });
        const std::vector<const PartLayout*> parts = layout_.all();
        const bool any =
            std::any_of(parts.begin(), parts.end(), [](const PartLayout* part) { return part->folder->count() > 0; });
        require(any, "'", tree_.path, "' has no image ", read_kinds, hint());
    }

    void take_classes(bool labelled) {
        ContentsBuilder builder(named_, out_);
        if (!given_.empty()) {
            builder.take_classes(given_, named_.classes, match_classes(named_.classes, given_));
        } else if (labelled) {
            std::vector<std::string> texts;
            for (const std::string& name : named_.classes) {
                require(is_utf8(name), "'", tree_.path, "': the name of class folder '", name, "' is not valid UTF-8");
                texts.push_back(readable_name(name));
            }
            require(std::set<std::string>(texts.begin(), texts.end()).size() == texts.size(), "'", tree_.path,
                    "': two class folders differ only in _ and space");
            builder.take_classes(named_.classes, texts);
        }
        builder.build(labelled);
    }

    const FolderNode& tree_;
    const ClassNames& given_;
    FolderLabels labels_;
    FolderLayout layout_;
    NamedParts named_;
    DataContents out_;
};

}  // namespace detail

/// Images below `root`, as read_layout() understands the tree. Three uses:
///  - a labelled tree, one folder a class: without `class_names` the sorted folder names (underscores read as spaces)
///    are the classes; with them, folders are matched with names (see match_classes()), and labels follow their order;
///  - any folder of unlabelled images, searched recursively, with `class_names` for the prompts;
///  - `FolderLabels::required` or `none` decide where `automatic` is not wanted.
/// Labels of a metadata.csv or metadata.jsonl in each part go before folder names. Images are in sorted order. Throws
/// Error naming the class without image, the folder that is no class, or two folders with one name; and when there is
/// no image at all.
inline DataContents read_folder(const FolderNode& tree, const ClassNames& class_names = {},
                                FolderLabels labels = FolderLabels::automatic) {
    return detail::FolderReader(tree, class_names, labels).read();
}
/// The same of the tree below `root`.
inline DataContents read_folder(const std::string& root, const ClassNames& class_names = {},
                                FolderLabels labels = FolderLabels::automatic) {
    return read_folder(read_tree(root), class_names, labels);
}

/// Whether nothing in a tree can be classes: neither folders nor labels beside the images.
inline bool has_no_class_folders(const FolderNode& tree) {
    const FolderLayout layout = read_layout(tree, {});
    const std::vector<const PartLayout*> parts = layout.all();
    const bool tables =
        std::any_of(parts.begin(), parts.end(), [](const PartLayout* part) { return !part->folder->tables.empty(); });
    return layout.class_names().empty() && !tables && tree.tables.empty();
}

}  // namespace promptkd
