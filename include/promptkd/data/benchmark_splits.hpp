// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/rng.hpp>
#include <promptkd/data/benchmark_names.hpp>
#include <promptkd/data/benchmark_table.hpp>
#include <promptkd/data/dataset.hpp>
#include <promptkd/data/files.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace promptkd::detail {

/// An image of a benchmark: path below the image folder, and its label.
struct BenchmarkEntry {
    std::string path;
    Index label = 0;
};

/// The parts of a benchmark. The validation part is kept apart: neither training nor test sees it.
struct BenchmarkParts {
    std::vector<std::string> class_names;
    std::vector<BenchmarkEntry> train, val, test;
    std::vector<std::string> class_ids;  ///< (N), or empty: WordNet numbers
};

/// Whether a path from a file stays below the folder it starts from.
inline bool stays_below(const std::string& path) {
    if (path.empty() || path[0] == '/' || path.find('\0') != std::string::npos) return false;
    for (std::size_t begin = 0; begin <= path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        if (path.compare(begin, end - begin, "..") == 0) return false;
        begin = end + 1;
    }
    return true;
}

/// Class names by label, as split files name them image by image.
class NamesByLabel {
public:
    explicit NamesByLabel(std::string source) : source_(std::move(source)) {}

    void add(Index label, const std::string& name) {
        require(label >= 0 && label < 100000, source_, ": label ", label, " is out of range");
        if (label >= static_cast<Index>(names_.size())) names_.resize(static_cast<std::size_t>(label + 1));
        std::string& known = names_[static_cast<std::size_t>(label)];
        require(!trimmed(name).empty(), source_, ": the class name of label ", label, " is empty");
        require(known.empty() || known == name, source_, ": label ", label, " is called '", known, "' and '", name,
                "'");
        known = name;
    }

    /// All names. Throws Error for a label without images and for two labels of one name.
    std::vector<std::string> finish() const {
        std::map<std::string, Index> labels;
        for (std::size_t i = 0; i < names_.size(); ++i) {
            require(!names_[i].empty(), source_, ": label ", i, " has no image");
            const auto [known, fresh] = labels.emplace(readable_name(names_[i]), static_cast<Index>(i));
            require(fresh, source_, ": labels ", known->second, " and ", i, " have the same class name '", names_[i],
                    "'");
        }
        require(!names_.empty(), source_, ": no images");
        return names_;
    }

private:
    std::string source_;
    std::vector<std::string> names_;
};

/// One part of a split_zhou file: [[path, label, class name], …].
inline std::vector<BenchmarkEntry> read_split_part(const nlohmann::json& json, const char* part,
                                                   const std::string& path, NamesByLabel& names) {
    require(json.contains(part) && json.at(part).is_array(), path, ": the list \"", part, "\" is missing");
    std::vector<BenchmarkEntry> entries;
    for (const auto& item : json.at(part)) {
        const bool good = item.is_array() && item.size() == 3 && item[0].is_string() && item[1].is_number_unsigned() &&
                          item[2].is_string();
        require(good, path, ": entry ", entries.size(), " of \"", part, "\" is not [path, label, class name]");
        const std::string image = item[0].get<std::string>();
        require(stays_below(image), path, ": \"", part, "\" names the path '", image, "' outside the image folder");
        const auto label = item[1].get<std::uint64_t>();
        require(label < 100000, path, ": label ", label, " is out of range");
        names.add(static_cast<Index>(label), item[2].get<std::string>());
        entries.push_back({image, static_cast<Index>(label)});
    }
    return entries;
}

/// Reads split_zhou_<Name>.json: {"train": [[path, label, class name], …], "val": …, "test": …} (CoOp's DATASETS.md).
inline BenchmarkParts read_split_file(const std::string& path) {
    const std::string text = read_file(path, std::size_t{1} << 30);
    require(is_utf8(text), path, ": not valid UTF-8");
    const auto shallow = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
        require(depth <= 4, path, ": values are nested too deeply");
        return true;
    };
    nlohmann::json json;
    try {
        json = nlohmann::json::parse(text, shallow);
    } catch (const nlohmann::json::exception& error) {
        fail(path, ": not valid JSON: ", error.what());
    }
    require(json.is_object(), path, ": not an object with \"train\", \"val\" and \"test\"");
    NamesByLabel names(path);
    BenchmarkParts parts;
    parts.train = read_split_part(json, "train", path, names);
    parts.val = read_split_part(json, "val", path, names);
    parts.test = read_split_part(json, "test", path, names);
    parts.class_names = names.finish();
    return parts;
}

/// A fixed shuffle of the images of a class.
inline void shuffle_class(std::vector<BenchmarkEntry>& images, Index label) {
    constexpr std::uint64_t stream = 0x62656e63686d6172;  // "benchmar": apart from every other stream
    RandomStream random(1, stream, static_cast<std::uint32_t>(label));
    for (std::size_t i = images.size(); i > 1; --i)
        std::swap(images[i - 1], images[random.below(static_cast<std::uint32_t>(i))]);
}

/// `share` of n as Python rounds it: halves to even.
inline std::size_t share_of(std::size_t n, double share) {
    return static_cast<std::size_t>(std::nearbyint(static_cast<double>(n) * share));
}

inline void append(std::vector<BenchmarkEntry>& to, const std::vector<BenchmarkEntry>& from, std::size_t first,
                   std::size_t last) {
    to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(first),
              from.begin() + static_cast<std::ptrdiff_t>(last));
}

/// 50 % of each class for training, 20 % for validation, the rest for testing: what the published loaders do without a
/// split file (with a draw of their own). Caltech101's background and easy faces are left out.
inline BenchmarkParts draw_parts(const BenchmarkInfo& info, const std::string& images) {
    BenchmarkParts parts;
    NamesByLabel names(images);
    Index label = 0;
    for (const std::string& folder : folder_names(images)) {
        if (info.name == "caltech101" && (folder == "BACKGROUND_Google" || folder == "Faces_easy")) continue;
        require(is_utf8(folder), images, ": the name of class folder '", folder, "' is not valid UTF-8");
        std::vector<BenchmarkEntry> found;
        for (const std::string& path : find_images(images + "/" + folder))
            found.push_back({path.substr(images.size() + 1), label});
        require(!found.empty(), images, ": class '", folder, "' has no image (.jpg, .jpeg, .png)");
        names.add(label, published_name(info.name, folder));
        shuffle_class(found, label++);
        const std::size_t train = share_of(found.size(), 0.5), val = share_of(found.size(), 0.2);
        append(parts.train, found, 0, train);
        append(parts.val, found, train, train + val);
        append(parts.test, found, train + val, found.size());
    }
    require(label > 0, "'", images, "' has no class folders");
    parts.class_names = names.finish();
    return parts;
}

/// Moves 20 % of each class of the training part to the validation part.
inline void split_off_validation(BenchmarkParts& parts) {
    std::vector<std::vector<BenchmarkEntry>> of_class(parts.class_names.size());
    for (const BenchmarkEntry& entry : parts.train) of_class[static_cast<std::size_t>(entry.label)].push_back(entry);
    parts.train.clear();
    for (std::size_t c = 0; c < of_class.size(); ++c) {
        shuffle_class(of_class[c], static_cast<Index>(c));
        const std::size_t val = share_of(of_class[c].size(), 0.2);
        append(parts.val, of_class[c], 0, val);
        append(parts.train, of_class[c], val, of_class[c].size());
    }
}

/// OxfordPets: lines "Abyssinian_100 1 …"; the class is the name without its number, in lower case.
inline BenchmarkParts read_pets(const std::string& root) {
    BenchmarkParts parts;
    NamesByLabel names(root + "/annotations");
    const auto read = [&](const char* file, std::vector<BenchmarkEntry>& to) {
        const std::string path = root + "/annotations/" + file;
        for (const auto& [image, rest] : read_pairs(path)) {
            const Index label = std::atoll(rest.c_str()) - 1;
            const std::size_t number = image.rfind('_');
            require(label >= 0 && number != std::string::npos && stays_below(image), path, ": '", image, " ", rest,
                    "' is not an image and its label");
            std::string name = image.substr(0, number);
            for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
            names.add(label, name);
            to.push_back({image + ".jpg", label});
        }
    };
    read("trainval.txt", parts.train);
    read("test.txt", parts.test);
    parts.class_names = names.finish();
    split_off_validation(parts);
    return parts;
}

/// SUN397: ClassName.txt gives the labels, Training_01.txt and Testing_01.txt the images ("/a/abbey/sun_….jpg").
inline BenchmarkParts read_sun(const std::string& root) {
    BenchmarkParts parts;
    std::map<std::string, Index> labels;
    NamesByLabel names(root + "/SUN397/ClassName.txt");
    for (const std::string& line : read_lines(root + "/SUN397/ClassName.txt")) {
        const Index label = static_cast<Index>(labels.size());
        names.add(label, sun_name(line));
        labels.emplace(line, label);
    }
    parts.class_names = names.finish();
    const auto read = [&](const std::string& file, std::vector<BenchmarkEntry>& to) {
        for (const std::string& line : read_lines(file)) {
            const auto label = labels.find(line.substr(0, line.rfind('/')));
            require(label != labels.end() && line[0] == '/' && stays_below(line.substr(1)), file, ": '", line,
                    "' belongs to no class of ClassName.txt");
            to.push_back({line.substr(1), label->second});
        }
    };
    read(root + "/SUN397/Training_01.txt", parts.train);
    read(root + "/SUN397/Testing_01.txt", parts.test);
    split_off_validation(parts);
    return parts;
}

/// FGVCAircraft: variants.txt gives the labels, images_variant_{train,val,test}.txt "number variant" a line.
inline BenchmarkParts read_aircraft(const std::string& root) {
    BenchmarkParts parts;
    NamesByLabel names(root + "/variants.txt");
    std::map<std::string, Index> labels;
    for (const std::string& line : read_lines(root + "/variants.txt")) {
        const Index label = static_cast<Index>(labels.size());
        names.add(label, line);
        labels.emplace(line, label);
    }
    parts.class_names = names.finish();
    const auto read = [&](const char* part, std::vector<BenchmarkEntry>& to) {
        const std::string path = root + "/images_variant_" + part + ".txt";
        for (const auto& [image, variant] : read_pairs(path)) {
            const auto label = labels.find(variant);
            require(label != labels.end() && stays_below(image), path, ": '", image, " ", variant,
                    "' names no variant of variants.txt");
            to.push_back({image + ".jpg", label->second});
        }
    };
    read("train", parts.train);
    read("val", parts.val);
    read("test", parts.test);
    return parts;
}

}  // namespace promptkd::detail
