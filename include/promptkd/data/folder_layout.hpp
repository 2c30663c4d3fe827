// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_names.hpp>
#include <promptkd/data/folder_tree.hpp>
#include <promptkd/data/part_names.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A folder whose images are all of one class.
struct ClassFolder {
    std::string name;          ///< of the class
    const FolderNode* folder;  ///< where they are, at any depth
};

/// What a part, or a whole set, consists of.
struct PartLayout {
    const FolderNode* folder = nullptr;  ///< what holds the class folders
    std::vector<ClassFolder> classes;    ///< sorted by name; empty: images without classes
};

/// How a tree was understood. Refers to the tree, which must outlive it.
struct FolderLayout {
    std::optional<PartLayout> whole;                            ///< where there are no parts
    std::map<DataPart, PartLayout> parts;                       ///< otherwise
    std::vector<std::pair<std::string, std::string>> left_out;  ///< folders that are not used, and why
    std::vector<std::string> notes;                             ///< decisions that are not plain

    /// All parts, or the whole.
    std::vector<const PartLayout*> all() const {
        std::vector<const PartLayout*> list;
        if (whole) list.push_back(&*whole);
        for (const auto& entry : parts) list.push_back(&entry.second);
        return list;
    }
    /// Names of the class folders of all parts.
    std::set<std::string> class_names() const {
        std::set<std::string> names;
        for (const PartLayout* part : all())
            for (const ClassFolder& one : part->classes) names.insert(one.name);
        return names;
    }
};

namespace detail {

/// "'a', 'b'": names of folders.
inline std::string folder_list(const std::vector<const FolderNode*>& folders, std::size_t most = 4) {
    std::vector<std::string> names;
    for (const FolderNode* folder : folders) names.push_back(folder->name);
    return joined(names, most);
}

/// The folders below with images of any kind.
inline std::vector<const FolderNode*> image_folders(const FolderNode& node) {
    std::vector<const FolderNode*> list;
    for (const FolderNode& folder : node.folders)
        if (folder.holds_images()) list.push_back(&folder);
    return list;
}

/// Understands a tree.
class LayoutReader {
public:
    LayoutReader(const FolderNode& root, const ClassNames& names) : root_(root), names_(names) {}

    FolderLayout read() {
        const FolderNode& base = inside(root_);
        const std::map<DataPart, std::vector<const FolderNode*>> parts = part_folders(base);
        if (!parts.empty()) {
            for (const auto& [part, folders] : parts) {
                require(folders.size() == 1, "'", base.path, "': both ", folder_list(folders), " could be the ",
                        name_of(part), " part; rename or move one of them");
                out_.parts[part] = part_layout(inside(*folders.front(), true));
            }
            leave_others(base, parts);
        } else if (!read_inner_parts(base)) {
            out_.whole = part_layout(base);
        }
        flatten_lone_containers();
        choose_depth();
        return std::move(out_);
    }

private:
    /// The folder that holds the images' folders: below wrappers, which hold one folder with folders and no image. A
    /// part may hold another folder of its name (train/train).
    const FolderNode& inside(const FolderNode& node, bool is_part = false) {
        const FolderNode* at = &node;
        for (;;) {
            const std::vector<const FolderNode*> found = image_folders(*at);
            const bool wrapper = found.size() == 1 && at->images.empty() && at->other_kinds.empty() &&
                                 (is_part || part_folders(*at).empty()) && !image_folders(*found[0]).empty() &&
                                 no_bare_folder(*at);
            if (!wrapper) break;
            leave_without_images(*at);
            at = found[0];
        }
        if (at != &node) out_.notes.push_back(concat("the images are below '", at->path, "'"));
        return *at;
    }

    static bool no_bare_folder(const FolderNode& node) {
        return std::none_of(node.folders.begin(), node.folders.end(), [](const FolderNode& f) { return f.bare(); });
    }

    /// The parts that `node` is divided into, by name: a training and another part, or nothing but parts, or a training
    /// part with class folders beside folders that have none. ("train" alone may be a class of vehicles.)
    static std::map<DataPart, std::vector<const FolderNode*>> part_folders(const FolderNode& node) {
        std::map<DataPart, std::vector<const FolderNode*>> parts;
        std::vector<const FolderNode*> others;
        for (const FolderNode& folder : node.folders) {
            if (const std::optional<DataPart> part = part_named(folder.name))
                parts[*part].push_back(&folder);
            else if (folder.holds_images())
                others.push_back(&folder);
        }
        if (parts.empty()) return parts;
        const auto deep = [](const FolderNode* folder) { return !image_folders(*folder).empty(); };
        const bool trains = parts.count(DataPart::train) != 0;
        const bool only = others.empty() && node.images.empty();
        const bool alone =
            trains && deep(parts[DataPart::train].front()) && std::none_of(others.begin(), others.end(), deep);
        const bool divided = (trains && parts.size() > 1) || only || alone;
        if (!divided) parts.clear();
        return parts;
    }

    void leave_others(const FolderNode& base, const std::map<DataPart, std::vector<const FolderNode*>>& parts) {
        for (const FolderNode& folder : base.folders) {
            const std::optional<DataPart> part = part_named(folder.name);
            if (part && parts.count(*part) != 0) continue;
            out_.left_out.emplace_back(folder.path, concat("is no part (", folder.count(), " images)"));
        }
        if (!base.images.empty())
            out_.left_out.emplace_back(base.path,
                                       concat("has ", base.images.size(), " images beside the parts, the first is '",
                                              base.images.front(), "'"));
    }

    void leave_without_images(const FolderNode& node) {
        for (const FolderNode& folder : node.folders)
            if (!folder.holds_images() && !folder.bare()) out_.left_out.emplace_back(folder.path, "holds no image");
    }

    PartLayout part_layout(const FolderNode& node) {
        for (const FolderNode& folder : node.folders)
            if (!folder.holds_images() && !folder.bare())
                out_.left_out.emplace_back(folder.path, "holds files but no image, so it is no class");
        PartLayout part;
        part.folder = &node;
        for (const FolderNode& folder : node.folders)
            if (folder.holds_images() || folder.bare()) part.classes.push_back({folder.name, &folder});
        return part;
    }

    /// Class folders that hold the parts: cat/train, cat/test, dog/train, ….
    bool read_inner_parts(const FolderNode& base) {
        const std::vector<const FolderNode*> classes = image_folders(base);
        std::set<DataPart> found;
        for (const FolderNode* one : classes) {
            if (!one->images.empty()) return false;
            for (const FolderNode* folder : image_folders(*one)) {
                const std::optional<DataPart> part = part_named(folder->name);
                if (!part) return false;
                found.insert(*part);
            }
        }
        if (found.size() < 2 || base.images.size() > 0) return false;
        for (const DataPart part : found) {
            out_.parts[part].folder = &base;
            for (const FolderNode* one : classes)
                for (const FolderNode& folder : one->folders)
                    if (part_named(folder.name) == part) out_.parts[part].classes.push_back({one->name, &folder});
        }
        out_.notes.push_back(concat("'", base.path, "': the parts are inside the class folders"));
        return true;
    }

    /// test/images/*.jpg, test/unknown/*.jpg: one folder whose name says nothing of its content is no class.
    void flatten_lone_containers() {
        const std::set<std::string> names = out_.class_names();
        const auto flatten = [&](PartLayout& part) {
            if (part.classes.size() != 1 || !part.folder->images.empty()) return;
            const ClassFolder& only = part.classes.front();
            const bool unknown =
                only.name == "unknown" || only.name == "unlabeled" || only.name == "unlabelled" || only.name == "all";
            const bool says_nothing = is_plain_container(only.name) || part_named(only.name) || unknown;
            if (only.folder->folders.empty() && !only.folder->bare() && says_nothing && !names_class(only.name))
                part = {only.folder, {}};
        };
        if (out_.whole) flatten(*out_.whole);
        for (auto& entry : out_.parts) flatten(entry.second);
    }

    bool names_class(const std::string& name) const { return ClassFinder(names_).find(name) >= 0; }

    /// Folders at depth `depth` below the class folders of a part, 0: these.
    static void collect(const FolderNode& node, int depth, std::vector<ClassFolder>& found) {
        if (depth == 0) return found.push_back({node.name, &node});
        for (const FolderNode& folder : node.folders)
            if (folder.holds_images() || folder.bare()) collect(folder, depth - 1, found);
    }

    static PartLayout deeper(const PartLayout& part, int depth) {
        PartLayout below{part.folder, {}};
        for (const ClassFolder& one : part.classes) collect(*one.folder, depth, below.classes);
        std::stable_sort(below.classes.begin(), below.classes.end(),
                         [](const ClassFolder& a, const ClassFolder& b) { return a.name < b.name; });
        return below;
    }

    bool any_named(int depth) const {
        const ClassFinder finder(names_);
        for (const PartLayout* part : out_.all())
            for (const ClassFolder& one : deeper(*part, depth).classes)
                if (finder.find(one.name) >= 0) return true;
        return false;
    }

    /// Where class folders hold no image but several folders of other names, either could be the classes: the names
    /// given decide.
    void choose_depth() {
        if (!names_.empty()) {
            for (int depth = 0; depth < 8; ++depth) {
                if (!any_named(depth)) continue;
                return take_depth(depth);
            }
            return;
        }
        for (const PartLayout* part : out_.all()) refuse_two_levels(*part);
    }

    void take_depth(int depth) {
        if (depth == 0) return;
        if (out_.whole) out_.whole = deeper(*out_.whole, depth);
        for (auto& entry : out_.parts) entry.second = deeper(entry.second, depth);
        out_.notes.push_back(concat("the class folders lie ", depth + 1, " levels deep"));
    }

    /// Refuses class folders without images of their own where the folders below them tell something: those could be
    /// the classes, and where they are the same in each, the upper ones parts or domains.
    static void refuse_two_levels(const PartLayout& part) {
        std::set<std::string> below;
        std::vector<std::string> paths, names;
        bool several = false, same = false;
        for (const ClassFolder& one : part.classes) {
            const std::vector<const FolderNode*> folders = image_folders(*one.folder);
            if (!one.folder->images.empty() || folders.empty()) return;
            several = several || folders.size() > 1;
            names.push_back(one.name);
            for (const FolderNode* folder : folders) {
                if (is_plain_container(folder->name) || is_number(folder->name)) return;
                same = !below.insert(folder->name).second || same;
                paths.push_back(one.name + "/" + folder->name);
            }
        }
        require(part.classes.size() < 2 || !several, "'", part.folder->path, "': the classes could be ",
                joined(names, 3), " or the folders below them, ", joined(paths, 3),
                same ? "; give the class names, or name the root of one of them; parts are called train, val and test"
                     : "; name the root of the classes, or give the class names");
    }

    const FolderNode& root_;
    const ClassNames& names_;
    FolderLayout out_;
};

}  // namespace detail

/// Understands the tree below `root`: wrappers, parts under their usual names, class folders, also some levels deeper
/// or with the parts inside. `names` (which may be empty) tell which level the classes are. Throws Error with what was
/// understood where it could be meant in two ways.
inline FolderLayout read_layout(const FolderNode& root, const ClassNames& names) {
    return detail::LayoutReader(root, names).read();
}

}  // namespace promptkd
