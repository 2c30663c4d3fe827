// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/loader.hpp>
#include <promptkd/device/async.hpp>
#include <promptkd/device/memory.hpp>

#include <vector>

namespace promptkd {

/// Small host arrays on their way to one place on a device, while earlier steps may still read theirs: the host's copy
/// stays as it is until the second call after its own, when the device is done with it (see Trainable::begin_step).
template <Device D, class T>
class StagedUpload {
public:
    /// For `n` values at most.
    StagedUpload(D& device, Index n) : device_(device), on_device_(device, n) {
        for (std::vector<T>& half : staged_) half.resize(static_cast<std::size_t>(n));
    }

    /// Where the next upload's values go: memory for as many as were announced.
    T* next() {
        turn_ = 1 - turn_;
        return staged_[turn_].data();
    }
    /// Queues the copy of the first `n` values of what next() returned.
    void upload(Index n) {
        device_.upload(on_device_.data(), staged_[turn_].data(), static_cast<std::size_t>(n) * sizeof(T));
    }
    /// The values in device memory.
    const T* data() const { return on_device_.data(); }
    /// How many values it was made for.
    Index size() const { return on_device_.size(); }

private:
    D& device_;
    Buffer<D, T> on_device_;
    std::vector<T> staged_[2];
    int turn_ = 0;
};

/// The labels of a batch as the Supervision of a StepPipeline.
template <Device D>
class LabelFeed {
public:
    /// For batches of `max_batch` images of `classes` classes.
    LabelFeed(D& device, Index max_batch, Index classes) : labels_(device, max_batch), classes_(classes) {}

    /// One label an image.
    Index size() const { return 1; }
    /// Labels lie in the same place in every step.
    bool recordable() const { return true; }

    /// Throws Error for an image without a label among the classes.
    void prepare(const Batch& batch, Index) {
        require(batch.size <= labels_.size(), "label feed: a batch of ", batch.size, " images, planned for ",
                labels_.size());
        std::int32_t* staged = labels_.next();
        for (Index i = 0; i < batch.size; ++i) {
            const Index label = static_cast<Index>(batch.labels[static_cast<std::size_t>(i)]);
            require(label >= 0 && label < classes_, "a training image has no label among the ", classes_, " classes");
            staged[i] = static_cast<std::int32_t>(label);
        }
        labels_.upload(batch.size);
    }

    /// The batch's labels, in device memory.
    template <class T>
    const std::int32_t* targets(const T*, Index) const {
        return labels_.data();
    }

private:
    StagedUpload<D, std::int32_t> labels_;
    Index classes_;
};

}  // namespace promptkd
