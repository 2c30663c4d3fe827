// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/stored_targets.hpp>
#include <promptkd/image/augment.hpp>

#include <utility>

namespace promptkd {

/// Targets of each image as it is and mirrored, for a training whose augmentation is Augmentation::flip: the teacher is
/// asked twice about each image, however many epochs there are. View 0 of the table is the image, view 1 its mirror
/// image; a table of one view is of images that are never mirrored.
template <Device D>
class MirroredTargets final : public TeacherSource<D> {
public:
    using T = typename D::Scalar;

    /// For batches of at most `max_batch` images, augmented with `seed`, `fixed` as in the first epoch.
    MirroredTargets(D& device, TargetTable table, std::uint64_t seed, bool fixed, Index max_batch)
        : table_(std::move(table)), seed_(seed), fixed_(fixed), targets_(device, max_batch * table_.size) {
        require(table_.views == 1 || table_.views == 2, "targets of images and their mirror images: ", table_.views,
                " views, expected 1 or 2");
    }

    Index size() const override { return table_.size; }
    bool recordable() const override { return true; }

    /// Throws Error for an image without a target.
    void prepare(const Batch& batch, Index epoch) override {
        T* staged = targets_.next();
        const auto views = static_cast<std::uint32_t>(fixed_ ? 0 : epoch);
        for (Index i = 0; i < batch.size; ++i) {
            const Index image = batch.indices[static_cast<std::size_t>(i)];
            const bool mirrored = table_.views == 2 && is_mirrored(seed_, static_cast<std::uint64_t>(image), views);
            std::copy_n(table_.target(mirrored ? 1 : 0, image), table_.size, staged + i * table_.size);
        }
        targets_.upload(batch.size * table_.size);
    }

    const T* targets(const T*, Index) override { return targets_.data(); }

private:
    TargetTable table_;
    std::uint64_t seed_;
    bool fixed_;
    StagedUpload<D, T> targets_;
};

}  // namespace promptkd
