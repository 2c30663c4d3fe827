// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/checksum.hpp>
#include <promptkd/distill/target_parts.hpp>
#include <promptkd/distill/teachers.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/safetensors.hpp>
#include <promptkd/train/image_feed.hpp>
#include <promptkd/train/label_feed.hpp>
#include <promptkd/train/loop.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
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
    /// The same. Throws Error where the image could not be read, or the target is not finite.
    const float* target(Index view, Index image) const {
        const float* found = row(view, image);
        require(found[0] == found[0], "image ", image,
                " has no stored target; it could not be read when they were made");
        require(std::all_of(found, found + size, [](float x) { return std::isfinite(x); }), "image ", image,
                ": its stored target holds NaN or infinity");
        return found;
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
            std::copy_n(table_.target(view, image), table_.size, staged + i * table_.size);
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
        } catch (const ResourceError&) {
            throw;
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
                ": these targets were made for something else: the ", part, " (", json_text(value),
                ") is CLIP's in this run; write them again");
    for (const auto& [part, value] : now.items()) {
        const bool known = stored.is_object() && stored.contains(part);
        require(known && stored.at(part) == value, path, ": these targets were made for something else: the ", part,
                known ? concat(" (", json_text(stored.at(part)), ") are not those of this run (", json_text(value), ")")
                      : concat(" (", json_text(value), " here) are not in the file"),
                "; write them again");
    }
}

/// Views that a run of `config` sees of each image.
inline Index count_views(const TrainingLoopConfig& config) {
    return config.fixed_views || config.augmentation == Augmentation::none ? 1 : config.schedule.max_epoch;
}

/// How targets are computed, besides the settings of the training.
struct TargetWork {
    std::function<void(Index, Index)> progress = {};  ///< (targets done, targets in all); may be empty
    TargetParts* parts = nullptr;                     ///< keep what is done on the disk; null: nothing is kept
    Slice range = {};                                 ///< the images alone whose targets are wanted; empty: all
};

namespace detail {

/// Throws Error naming the image whose target, one of (batch, size) values, holds NaN or infinity.
template <class T>
void require_finite_targets(const T* values, Index size, const Batch& batch, const Dataset& data) {
    for (Index k = 0; k < batch.size * size; ++k)
        require(std::isfinite(static_cast<double>(values[k])),
                data.item_name(batch.indices[static_cast<std::size_t>(k / size)]),
                ": the teacher makes NaN or infinity of this image");
}

/// Computes a TargetTable view by view.
template <Device D>
class TargetComputation {
public:
    using T = typename D::Scalar;

    /// See compute_targets(). All references must outlive this.
    TargetComputation(D& device, TeacherSource<D>& teacher, const Dataset& data, const TrainingLoopConfig& config,
                      const Slice& range)
        : device_(device),
          teacher_(teacher),
          data_(data),
          config_(config),
          range_(range.count > 0 ? range : Slice{0, data.size()}),
          views_(count_views(config)),
          size_(teacher.size()),
          values_(static_cast<std::size_t>(views_ * range_.count * size_), std::numeric_limits<float>::quiet_NaN()),
          host_(static_cast<std::size_t>(config.batch * size_)),
          loader_(data, loading()),
          feed_(device, config.batch, config.preprocessing) {}

    /// All views, from where `parts` (may be null) stand.
    TargetTable run(const std::function<void(Index, Index)>& progress, TargetParts* parts) {
        TargetParts::Position at;
        if (parts)
            at = parts->restore(size_, [this](Index view, Index image, const float* row) { keep(view, image, row); });
        done_ = at.view * range_.count + at.images;
        for (Index view = at.view; view < views_; ++view) {
            start(view, view == at.view ? at : TargetParts::Position());
            while (const Batch* batch = loader_.next()) {
                compute(*batch, view);
                if (parts) parts->add(*batch, host_.data(), size_, skipped_ || loader_.unreadable() > 0);
                if (progress) progress(done_, views_ * range_.count);
            }
            if (parts) parts->end_view();
        }
        TargetTable table;
        table.views = views_;
        table.images = range_.count;
        table.size = size_;
        table.values = make_tensor(std::move(values_), {views_, range_.count, size_});
        return table;
    }

private:
    LoaderOptions loading() const {
        LoaderOptions o;
        o.batch = config_.batch;
        o.preprocessing = config_.preprocessing;
        o.further = config_.further;
        o.augmentation = config_.augmentation;
        o.seed = config_.view_seed.value_or(config_.seed);
        o.threads = config_.loader_threads;
        o.warn = config_.warn;
        return o;
    }

    /// Behind the batches that were done before. Where every image of theirs was readable, they are the first ones of
    /// the order; else what they were is found by reading them again.
    void start(Index view, const TargetParts::Position& at) {
        const auto epoch = static_cast<std::uint32_t>(view);
        std::vector<Index> order =
            config_.shuffle ? shuffled(data_.size(), config_.seed, epoch) : in_order(data_.size());
        const auto elsewhere = [this](Index i) { return i < range_.first || i >= range_.first + range_.count; };
        order.erase(std::remove_if(order.begin(), order.end(), elsewhere), order.end());
        skipped_ = at.skipped;
        if (!at.skipped) order.erase(order.begin(), order.begin() + std::min(at.images, range_.count));
        loader_.start(std::move(order), epoch, at.skipped ? 0 : at.images);
        for (Index i = 0; at.skipped && i < at.batches; ++i) loader_.next();
    }

    void compute(const Batch& batch, Index view) {
        const T* images = feed_.upload(batch);
        teacher_.prepare(batch, view);
        const T* targets = teacher_.targets(images, batch.size);
        device_.download(host_.data(), targets, static_cast<std::size_t>(batch.size * size_) * sizeof(T));
        require_finite_targets(host_.data(), size_, batch, data_);
        for (Index i = 0; i < batch.size; ++i)
            keep(view, batch.indices[static_cast<std::size_t>(i)], host_.data() + i * size_);
        done_ += batch.size;
    }

    template <class V>
    void keep(Index view, Index image, const V* row) {
        const Index at = image - range_.first;
        require(view < views_ && at >= 0 && at < range_.count, data_.name, ": a kept target of image ", image,
                " in view ", view, ", which there is not");
        float* to = values_.data() + (view * range_.count + at) * size_;
        for (Index j = 0; j < size_; ++j) to[j] = static_cast<float>(row[j]);
    }

    D& device_;
    TeacherSource<D>& teacher_;
    const Dataset& data_;
    const TrainingLoopConfig& config_;
    Slice range_;
    Index views_, size_, done_ = 0;
    bool skipped_ = false;  ///< an image of the view at hand could not be read in an earlier run
    std::vector<float> values_;
    std::vector<T> host_;
    BatchLoader loader_;
    ImageFeed<D> feed_;
};

}  // namespace detail

/// The targets of every image of `data` in all the views that a run of `config` sees, computed in the batches of that
/// run, so that training from them repeats training with the teacher bit for bit. What `work.parts` holds is not
/// computed again. Of a range of images the table has the rows of these alone.
template <Device D>
TargetTable compute_targets(D& device, TeacherSource<D>& teacher, const Dataset& data, const TrainingLoopConfig& config,
                            const TargetWork& work = {}) {
    return detail::TargetComputation<D>(device, teacher, data, config, work.range).run(work.progress, work.parts);
}

}  // namespace promptkd
