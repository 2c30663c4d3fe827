// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Part of a data set.
enum class Split { train, test };

/// "train" or "test".
inline const char* name_of(Split split) { return split == Split::train ? "train" : "test"; }

/// What tells one state of an image from another without reading it.
struct ImageVersion {
    std::int64_t size = 0;      ///< bytes
    std::int64_t modified = 0;  ///< of a file the modification time in nanoseconds; of bytes in memory their checksum
};

/// Where images come from: files, or arrays in memory. All members may be called from several threads at once.
class ImageSource {
public:
    virtual ~ImageSource() = default;
    /// Number of images.
    virtual Index size() const = 0;
    /// Image `i` into `out`, whose memory is reused. Throws Error naming the image when it cannot be read.
    virtual void load(Index i, Image& out) const = 0;
    /// What to call image `i` in messages and results: its path, or its place in an array file.
    virtual std::string name(Index i) const = 0;
    /// The state of image `i`; zeros where nothing is known, or it cannot be found.
    virtual ImageVersion version(Index /*i*/) const { return {}; }
    /// The bytes of image `i` as they are stored, or its pixels; empty where it cannot be read.
    virtual std::string contents(Index i) const {
        Image image;
        try {
            load(i, image);
        } catch (const Error&) {  // whoever asks wants to tell states apart: unreadable is one of them
            return {};
        }
        return {image.pixels.begin(), image.pixels.end()};
    }
};

/// One image of a data set: where it is in the source, and its class (−1: unlabelled).
struct Item {
    Index source = 0;  ///< position in the source
    Index label = -1;  ///< class, −1: unlabelled
};

/// Images of a source with labels and class names. Copies and subsets share the source.
struct Dataset {
    std::string name;                           ///< for messages
    std::vector<std::string> class_names;       ///< (N); labels index them; underscores are kept (see prompt_text)
    std::vector<std::string> class_ids;         ///< (N), or empty: what tells classes of one name apart
    std::vector<Item> items;                    ///< the images, in order
    std::shared_ptr<const ImageSource> source;  ///< what the items' positions count in

    /// Number of images.
    Index size() const { return static_cast<Index>(items.size()); }
    /// Number of classes N.
    Index classes() const { return static_cast<Index>(class_names.size()); }
    /// Class of item `i`, −1: unlabelled.
    Index label(Index i) const { return item(i).label; }
    /// Path or display name of item `i`.
    std::string item_name(Index i) const { return from().name(item(i).source); }
    /// The state of item `i`, see ImageSource.
    ImageVersion version(Index i) const { return from().version(item(i).source); }
    /// The bytes of item `i`, see ImageSource.
    std::string contents(Index i) const { return from().contents(item(i).source); }
    /// Image of item `i` into `out`, whose memory is reused. Throws Error naming the image when it cannot be read.
    void load(Index i, Image& out) const { from().load(item(i).source, out); }
    /// Image of item `i`. Throws Error naming the image when it cannot be read.
    Image load(Index i) const {
        Image image;
        load(i, image);
        return image;
    }
    /// Whether every item has a label.
    bool labelled() const {
        for (const Item& item : items)
            if (item.label < 0) return false;
        return !items.empty();
    }

private:
    const ImageSource& from() const {
        require(source != nullptr, name.empty() ? "a data set" : name,
                ": it has no source of images (Dataset::source)");
        return *source;
    }
    const Item& item(Index i) const {
        require(i >= 0 && i < size(), name, ": image ", i, " does not exist, there are ", size());
        return items[static_cast<std::size_t>(i)];
    }
};

/// The items at `indices`, in that order.
inline Dataset subset(const Dataset& data, const std::vector<Index>& indices) {
    Dataset result = data;
    result.items.clear();
    result.items.reserve(indices.size());
    for (const Index i : indices) {
        require(i >= 0 && i < data.size(), data.name, ": image ", i, " does not exist, there are ", data.size());
        result.items.push_back(data.items[static_cast<std::size_t>(i)]);
    }
    return result;
}

/// The first `n` items (all when there are fewer).
inline Dataset take(Dataset data, Index n) {
    if (n < data.size()) data.items.resize(static_cast<std::size_t>(std::max<Index>(n, 0)));
    return data;
}

}  // namespace promptkd
