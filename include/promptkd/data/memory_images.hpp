// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/dataset.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Images that a host program has in memory.
class MemoryImages final : public ImageSource {
public:
    /// Takes them over. `name` is for messages.
    explicit MemoryImages(std::vector<Image> images, std::string name = "memory")
        : images_(std::move(images)), name_(std::move(name)) {}

    Index size() const override { return static_cast<Index>(images_.size()); }
    void load(Index i, Image& out) const override { out = at(i); }
    std::string name(Index i) const override { return concat(name_, "[", i, "]"); }

private:
    const Image& at(Index i) const {
        require(i >= 0 && i < size(), name_, ": image ", i, " does not exist, there are ", size());
        return images_[static_cast<std::size_t>(i)];
    }

    std::vector<Image> images_;
    std::string name_;
};

/// A data set of images in memory: one label an image, or none at all. Throws Error for another number of labels, and
/// for labels that are not classes.
inline Dataset memory_dataset(std::vector<Image> images, std::vector<std::string> class_names,
                              const std::vector<Index>& labels = {}) {
    require(labels.empty() || labels.size() == images.size(), "memory: ", labels.size(), " labels for ", images.size(),
            " images");
    Dataset data;
    data.name = "memory";
    data.class_names = std::move(class_names);
    for (std::size_t i = 0; i < images.size(); ++i) {
        const Index label = labels.empty() ? -1 : labels[i];
        require(label >= -1 && label < data.classes(), "memory: image ", i, " has label ", label, ", there are ",
                data.classes(), " classes");
        data.items.push_back({static_cast<Index>(i), label});
    }
    data.source = std::make_shared<const MemoryImages>(std::move(images));
    return data;
}

}  // namespace promptkd
