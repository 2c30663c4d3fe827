// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/endless_batches.hpp>
#include <promptkd/distill/dense_distiller.hpp>
#include <promptkd/distill/distiller.hpp>
#include <promptkd/distill/mirrored_targets.hpp>
#include <promptkd/distill/patch_targets.hpp>
#include <promptkd/train/image_feed.hpp>
#include <promptkd/train/trainable.hpp>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace promptkd {

/// Pictures whose patches are taught, as a TrainingLoop delivers them.
struct PatchLessons {
    PatchTargetTable targets;     ///< of each picture of the data set
    Preprocessing preprocessing;  ///< what a picture goes through
    Index batch = 8;              ///< pictures a step
    std::uint64_t view_seed = 1;  ///< of their flips
    bool flips = true;            ///< whether the loop mirrors pictures
};

/// Images of single objects whose class tokens are taught beside.
struct ImageLessons {
    Dataset images;         ///< that are drawn from
    TargetTable targets;    ///< of each image as it is and mirrored, see MirroredTargets
    LoaderOptions loading;  ///< batch, flips, seed
};

/// Dense distillation as a TrainingLoop drives it: a step takes the loss of the patches of a batch of pictures
/// (DenseDistiller) and, with image lessons, that of the class tokens of a batch of images (the Distiller's objective,
/// which is weighted by its settings) before one update of all parameters by the Distiller's optimizer.
template <Device D>
class DenseTrainer final : public Trainable {
public:
    using T = typename D::Scalar;

    /// Both distillers are of one student and outlive this.
    DenseTrainer(Distiller<D>& images, DenseDistiller<D>& patches, PatchLessons lessons)
        : device_(images.device()),
          distiller_(images),
          patches_(patches),
          lessons_(std::move(lessons)),
          pictures_(device_, lessons_.batch, lessons_.preprocessing),
          logits_(device_, lessons_.batch * lessons_.targets.grid.cells() * lessons_.targets.classes),
          shares_(device_, lessons_.batch * lessons_.targets.grid.cells()),
          losses_(device_) {}

    /// Teaches images beside the pictures.
    void add_images(ImageLessons lessons) {
        const LoaderOptions& o = lessons.loading;
        image_feed_.emplace(device_, o.batch, o.preprocessing);
        image_targets_.emplace(device_, std::move(lessons.targets), o.seed, false, o.batch);
        images_.emplace(lessons.images, o);
    }

    void begin_epoch(Index epoch) override { epoch_ = epoch; }

    void begin_step(const Batch& batch, double rate) override {
        const T* pictures = pictures_.upload(batch);
        stage(batch);
        distiller_.params().clear_gradients();
        const Preprocessing& p = lessons_.preprocessing;
        patches_.accumulate(pictures, {p.height, p.width}, {logits_.data(), shares_.data()}, batch.size);
        if (images_) add_image_term();
        distiller_.update(rate);
        losses_.queue(patches_.loss_on_device());
    }

    double end_step() override { return static_cast<double>(*losses_.read()); }
    void end_epoch(Index) override {}
    void finish() override {}

    void save(TensorMap& state) const override {
        distiller_.save(state);
        if (!images_) return;
        const EndlessBatches::Place at = images_->place();
        state.tensors[place_name] = make_tensor(std::vector<std::int64_t>{at.epoch, at.batches}, {2});
    }
    void load(const TensorMap& state) override {
        distiller_.load(state);
        if (!images_) return;
        const std::vector<std::int64_t> at = state.at(place_name, {2}).to<std::int64_t>();
        require(at[0] >= 0 && at[1] >= 0, state.source, ": damaged checkpoint: '", place_name, "'");
        images_->go_to({at[0], at[1]});
    }

private:
    static constexpr const char* place_name = "image_lessons";

    /// Targets of a batch, whose weights become shares with a sum of 1.
    void stage(const Batch& batch) {
        const Index cells = lessons_.targets.grid.cells();
        T* const logits = logits_.next();
        T* const shares = shares_.next();
        for (Index i = 0; i < batch.size; ++i) {
            const Index picture = batch.indices[static_cast<std::size_t>(i)];
            const bool mirrored = lessons_.flips && is_mirrored(lessons_.view_seed, static_cast<std::uint64_t>(picture),
                                                                static_cast<std::uint32_t>(epoch_));
            lessons_.targets.copy(picture, mirrored, logits + i * cells * lessons_.targets.classes, shares + i * cells);
        }
        const Index rows = batch.size * cells;
        double sum = 0;
        for (Index k = 0; k < rows; ++k) sum += static_cast<double>(shares[k]);
        for (Index k = 0; k < rows && sum > 0; ++k) shares[k] = static_cast<T>(static_cast<double>(shares[k]) / sum);
        logits_.upload(rows * lessons_.targets.classes);
        shares_.upload(rows);
    }

    void add_image_term() {
        const Batch& batch = images_->next();
        const T* images = image_feed_->upload(batch);
        image_targets_->prepare(batch, images_->epoch());
        distiller_.accumulate(images, image_targets_->targets(images, batch.size), batch.size);
        add_scaled(device_, 1, distiller_.loss_on_device(), patches_.loss_on_device(), 1);
    }

    D& device_;
    Distiller<D>& distiller_;
    DenseDistiller<D>& patches_;
    PatchLessons lessons_;
    ImageFeed<D> pictures_;
    StagedUpload<D, T> logits_, shares_;
    DeferredValues<D> losses_;
    std::optional<EndlessBatches> images_;
    std::optional<ImageFeed<D>> image_feed_;
    std::optional<MirroredTargets<D>> image_targets_;
    Index epoch_ = 0;
};

}  // namespace promptkd
