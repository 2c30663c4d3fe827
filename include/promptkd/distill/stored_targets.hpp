// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/checksum.hpp>
#include <promptkd/distill/teachers.hpp>
#include <promptkd/format/safetensors.hpp>
#include <promptkd/train/image_feed.hpp>
#include <promptkd/train/label_feed.hpp>
#include <promptkd/train/loop.hpp>

#include <nlohmann/json.hpp>

#include <limits>

namespace promptkd {

/// Targets of every image and view, kept on the host: (views, images, size).
struct TargetTable {
    Index views = 0, images = 0, size = 0;  ///< epochs with views of their own, images, values of a target
    HostTensor values;                      ///< f32; NaN in the first value of an image that could not be read

    /// The target of one view of one image.
    const float* row(Index view, Index image) const {
        return reinterpret_cast<const float*>(values.bytes) + (view * images + image) * size;
    }
};

/// Targets out of a TargetTable: no teacher is needed any more.
template <Device D>
class StoredTargets final : public TeacherSource<D> {
public:
    using T = typename D::Scalar;

    /// For batches of at most `max_batch` images.
    StoredTargets(D& device, TargetTable table, Index max_batch)
        : table_(std::move(table)), targets_(device, max_batch * table_.size) {}

    Index size() const override { return table_.size; }
    bool recordable() const override { return true; }

    /// Throws Error for an image without a target.
    void prepare(const Batch& batch, Index epoch) override {
        const Index view = table_.views == 1 ? 0 : epoch;
        require(view < table_.views, "there are no stored targets of epoch ", epoch + 1, ", only of ", table_.views);
        require(batch.size * table_.size <= targets_.size(), "stored targets: a batch of ", batch.size,
                " images, planned for ", targets_.size() / table_.size);
        T* staged = targets_.next();
        for (Index i = 0; i < batch.size; ++i) {
            const Index image = batch.indices[static_cast<std::size_t>(i)];
            const float* row = table_.row(view, image);
            require(row[0] == row[0], "image ", image,
                    " has no stored target; it could not be read when they were made");
            std::copy_n(row, table_.size, staged + i * table_.size);
        }
        targets_.upload(batch.size * table_.size);
    }

    const T* targets(const T*, Index) override { return targets_.data(); }

private:
    TargetTable table_;
    StagedUpload<D, T> targets_;
};

/// What stored targets belong to, part by part; parts are compared by name.
using Fingerprint = nlohmann::ordered_json;

/// Number and order of the images (their names below `root`) and the pixels of some of them.
inline std::string images_fingerprint(const Dataset& data, const std::string& root) {
    Checksum sum;
    for (Index i = 0; i < data.size(); ++i) {
        const std::string name = data.item_name(i);
        sum.add(name.rfind(root, 0) == 0 ? name.substr(root.size()) : name);
    }
    Image image;
    for (Index k = 0; k < std::min<Index>(8, data.size()); ++k) {
        try {
            data.load(k * data.size() / 8 % data.size(), image);
            sum.add(image.pixels.data(), image.pixels.size());
        } catch (const Error&) {  // training skips it too
        }
    }
    return concat(data.size(), " images ", sum.text());
}

/// Names, shapes, types and bytes of all tensors.
inline std::string tensors_fingerprint(const TensorMap& map) {
    Checksum sum;
    for (const auto& [name, tensor] : map.tensors) {
        sum.add(concat(name, to_string(tensor.shape), name_of(tensor.dtype)));
        sum.add(tensor.bytes, tensor.size_bytes());
        detail::release_pages(tensor);
    }
    return sum.text();
}

/// The part of a fingerprint that says which views are seen. Without augmentation there is one view, whatever the seed.
inline void add_views(Fingerprint& print, const TrainingLoopConfig& config) {
    print["augmentation"] = to_string(config.augmentation);
    if (config.augmentation == Augmentation::none) return;
    print["seed of the views"] = config.view_seed.value_or(config.seed);
    print["views"] = config.fixed_views ? "fixed" : "new ones each epoch";
}

/// Throws Error naming the first part in which `now` is not what `stored` says; parts that this run knows nothing about
/// (a teacher that it does not load) are not compared.
inline void require_same_fingerprint(const Fingerprint& stored, const Fingerprint& now, const std::string& path) {
    for (const auto& [part, value] : stored.items())
        require(part.rfind("preprocessing", 0) != 0 || !now.contains("resolution") || now.contains(part), path,
                ": these targets were made for something else: the ", part, " (", value.dump(),
                ") is CLIP's in this run; write them again");
    for (const auto& [part, value] : now.items()) {
        const bool known = stored.is_object() && stored.contains(part);
        require(known && stored.at(part) == value, path, ": these targets were made for something else: the ", part,
                known ? concat(" (", stored.at(part).dump(), ") are not those of this run (", value.dump(), ")")
                      : concat(" (", value.dump(), " here) are not in the file"),
                "; write them again");
    }
}

/// Views that a run of `config` sees of each image.
inline Index count_views(const TrainingLoopConfig& config) {
    return config.fixed_views || config.augmentation == Augmentation::none ? 1 : config.schedule.max_epoch;
}

/// The targets of every image of `data` in all the views that a run of `config` sees, computed in the batches of that
/// run, so that training from them repeats training with the teacher bit for bit. `progress(done, all)` may be empty.
template <Device D>
TargetTable compute_targets(D& device, TeacherSource<D>& teacher, const Dataset& data, const TrainingLoopConfig& config,
                            const std::function<void(Index, Index)>& progress) {
    using T = typename D::Scalar;
    TargetTable table;
    table.views = count_views(config);
    table.images = data.size();
    table.size = teacher.size();
    const Index row = table.size;
    std::vector<float> values(static_cast<std::size_t>(table.views * table.images * row),
                              std::numeric_limits<float>::quiet_NaN());
    LoaderOptions loading;
    loading.batch = config.batch;
    loading.preprocessing = config.preprocessing;
    loading.further = config.further;
    loading.augmentation = config.augmentation;
    loading.seed = config.view_seed.value_or(config.seed);
    loading.threads = config.loader_threads;
    loading.warn = config.warn;
    BatchLoader loader(data, loading);
    ImageFeed<D> feed(device, config.batch, config.preprocessing);
    std::vector<T> host(static_cast<std::size_t>(config.batch * row));
    Index done = 0;
    for (Index view = 0; view < table.views; ++view) {
        const auto epoch = static_cast<std::uint32_t>(view);
        loader.start(config.shuffle ? shuffled(data.size(), config.seed, epoch) : in_order(data.size()), epoch);
        while (const Batch* batch = loader.next()) {
            const T* images = feed.upload(*batch);
            teacher.prepare(*batch, view);
            const T* targets = teacher.targets(images, batch->size);
            device.download(host.data(), targets, static_cast<std::size_t>(batch->size * row) * sizeof(T));
            for (Index i = 0; i < batch->size; ++i)
                for (Index j = 0; j < row; ++j)
                    values[static_cast<std::size_t>(
                        (view * table.images + batch->indices[static_cast<std::size_t>(i)]) * row + j)] =
                        static_cast<float>(host[static_cast<std::size_t>(i * row + j)]);
            done += batch->size;
            if (progress) progress(done, table.views * table.images);
        }
    }
    table.values = make_tensor(std::move(values), {table.views, table.images, row});
    return table;
}

}  // namespace promptkd
