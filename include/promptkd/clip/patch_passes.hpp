// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/dense_method.hpp>
#include <promptkd/clip/vision.hpp>

#include <utility>
#include <vector>

namespace promptkd {

/// Height and width of an image in pixels.
struct PixelSize {
    Index height = 0, width = 0;  ///< rows and columns of pixels

    /// Whether both are equal.
    bool operator==(const PixelSize&) const = default;
};

/// What passes over the patches of images need besides the weights, for the size that was asked for last: positions,
/// NACLIP's nearness, places of the prompts.
template <Device D>
class PatchPasses {
public:
    using T = typename D::Scalar;

    /// Of an encoder, which must outlive this, and its prompts (null: none), for up to `max_batch` images a pass.
    PatchPasses(D& device, const VisionTransformer<D>& encoder, const PromptLayers<T>* prompts,
                const DenseOptions& options, Index max_batch)
        : device_(&device),
          encoder_(&encoder),
          prompts_(prompts),
          options_(options),
          method_(dense_method(options.method)),
          max_batch_(max_batch) {}

    /// Images a pass at most.
    Index max_batch() const { return max_batch_; }
    /// The patches of images of a size. Throws Error when it is smaller than a patch.
    GridSize grid(const PixelSize& size) const {
        const Index patch = encoder_->config().patch;
        require(size.height >= patch && size.width >= patch, "an image of ", size.width, " x ", size.height,
                " pixels is smaller than a patch of the model, ", patch, " x ", patch, "; make it larger");
        return {size.height / patch, size.width / patch};
    }

    /// The pass over `batch` images of a size, valid until another size or more images are asked for.
    PatchPass<T> pass(const PixelSize& size, Index batch) {
        require(batch <= max_batch_, "a batch of ", batch, " images, but ", max_batch_, " were planned");
        if (size != size_ || batch > room_) prepare(size, batch);
        PatchPass<T> pass;
        pass.grid = PatchGrid{grid_.rows, encoder_->config().patch, size.height, grid_.columns, size.width};
        pass.positions =
            positions_.size() > 0
                ? Matrix<const T>(positions_.data(), positions_.size() / encoder_->width(), encoder_->width())
                : encoder_->own_positions();
        pass.last.pattern = {method_.compared, nearness_.data()};
        pass.last.alone = method_.alone;
        pass.prompts = {prompts_, table_.view(batch)};
        return pass;
    }

private:
    void prepare(const PixelSize& size, Index batch) {
        const VisionConfig& c = encoder_->config();
        size_ = {};
        grid_ = grid(size);
        const Index cells = grid_.rows * grid_.columns, prompts = prompts_ ? prompts_->tokens : 0;
        encoder_->require_patch_features({grid_.rows, c.patch, size.height, grid_.columns, size.width});
        positions_ = Buffer<D, T>();
        if (grid_ != GridSize{c.grid, c.grid}) resize();
        nearness_ = Buffer<D, T>();
        if (method_.near) {
            const std::vector<double> near =
                nearness(grid_, c.class_tokens(), c.class_tokens() + cells + prompts, options_.sigma);
            nearness_ = Buffer<D, T>(*device_, std::vector<T>(near.begin(), near.end()));
        }
        table_ = encoder_->place_prompts(*device_, prompts, batch, cells);
        size_ = size;
        room_ = batch;
    }

    /// The positions for this grid.
    void resize() {
        const Matrix<const T> own = encoder_->own_positions();
        std::vector<T> values(static_cast<std::size_t>(own.count()));
        device_->download(values.data(), own.data, values.size() * sizeof(T));
        const HostTensor host = make_tensor(std::move(values), {own.rows, own.columns});
        const Index leading = own.rows - encoder_->config().cells();
        positions_ =
            Buffer<D, T>(*device_, resize_positions(host, leading, grid_, options_.positions).template to<T>());
    }

    D* device_;
    const VisionTransformer<D>* encoder_;
    const PromptLayers<T>* prompts_;
    DenseOptions options_;
    DenseMethod method_;
    Index max_batch_, room_ = 0;
    PixelSize size_;
    GridSize grid_;
    Buffer<D, T> positions_, nearness_;
    PlacementTable<D> table_;
};

}  // namespace promptkd
