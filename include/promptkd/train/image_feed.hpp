// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/loader.hpp>
#include <promptkd/device/async.hpp>
#include <promptkd/device/memory.hpp>

namespace promptkd {

/// Brings loader batches to a device, converted to its Scalar on the way; where the device can, while it works on the
/// batch before.
template <Device D>
class ImageFeed {
public:
    using T = typename D::Scalar;
    /// For batches of at most `max_batch` images.
    ImageFeed(D& device, Index max_batch, const Preprocessing& p)
        : image_values_(3 * p.height * p.width), images_(device, max_batch * image_values_) {}

    /// Values of one image.
    Index image_values() const { return image_values_; }

    /// The batch's images (size, 3, height, width) in device memory, valid until the next call.
    const T* upload(const Batch& batch) {
        const Index n = batch.size * image_values_;
        require(n <= images_.size(), "image feed: a batch of ", batch.size, " images, planned for ",
                images_.size() / image_values_);
        return images_.upload(batch.images.data(), n);
    }

private:
    Index image_values_;
    UploadQueue<D, T> images_;
};

}  // namespace promptkd
