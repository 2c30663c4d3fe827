// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/dense/dense_model.hpp>
#include <promptkd/evaluate/dense/windows.hpp>
#include <promptkd/op/cosine.hpp>

#include <algorithm>
#include <vector>

namespace promptkd {

/// Cosines between the pixels of images of any size and class vectors: those of the patches, enlarged to the image, or
/// to windows of it, whose overlaps are averaged.
template <Device D>
class Segmenter {
public:
    using T = typename D::Scalar;

    /// With class vectors (queries, e) of length 1. `model` must outlive it. Throws Error for windows that cannot be.
    Segmenter(DenseModel<D>& model, const std::vector<T>& class_vectors, const WindowOptions& options)
        : model_(&model), options_(options), vectors_(model.device(), class_vectors) {
        queries_ = vectors_.size() / model.embed();
        require(queries_ > 0 && queries_ * model.embed() == vectors_.size(), vectors_.size(),
                " values are no class vectors of ", model.embed(), " values each");
        window_stride(options);  // throws for one that leaves pixels out
        require(options.window == 0 || options.odd == OddWindow::pad || options.window >= model.patch(), "windows of ",
                options.window, " pixels are smaller than a patch of the model, ", model.patch(), "; make them larger");
    }

    /// Number of class vectors.
    Index queries() const { return queries_; }

    /// Cosines (queries, height, width) of an image (3, height, width) of normalised pixels.
    Planes cosines(const Planes& image) {
        require(image.count == 3, "an image has 3 channels, not ", image.count);
        const std::vector<PixelRect> windows = windows_of(image.height, image.width, options_);
        const PixelSize padded = padded_size({windows.front().height, windows.front().width});
        model_->grid(padded);  // throws where it is smaller than a patch
        Planes sums(queries_, image.height, image.width);
        std::vector<float> covered(static_cast<std::size_t>(image.pixels()), 0.0F);
        const auto batch = static_cast<std::size_t>(model_->max_batch());
        for (std::size_t first = 0; first < windows.size(); first += batch) {
            const std::size_t last = std::min(windows.size(), first + batch);
            add_windows(image,
                        {windows.begin() + static_cast<std::ptrdiff_t>(first),
                         windows.begin() + static_cast<std::ptrdiff_t>(last)},
                        padded, sums);
        }
        for (const PixelRect& window : windows)
            for (Index y = 0; y < window.height; ++y)
                for (Index x = 0; x < window.width; ++x)
                    covered[static_cast<std::size_t>((window.top + y) * image.width + window.left + x)] += 1;
        for (Index q = 0; windows.size() > 1 && q < queries_; ++q)
            for (std::size_t i = 0; i < covered.size(); ++i) sums.row(q, 0)[i] /= covered[i];
        return sums;
    }

    /// Cosines (queries, rows, columns) of the patches of an image as a whole.
    Planes patch_cosines(const Planes& image) {
        const PixelSize size{image.height, image.width};
        upload_windows(image, {{0, 0, image.height, image.width}}, size);
        return cosines_of(model_->encode(pixels_.data(), size, 1), model_->grid(size), 1).front();
    }

private:
    /// A window with what OddWindow::pad adds.
    PixelSize padded_size(const PixelSize& size) const {
        if (options_.odd == OddWindow::stretch) return size;
        const Index patch = model_->patch();
        const auto whole = [patch](Index side) { return (side + patch - 1) / patch * patch; };
        return {whole(size.height), whole(size.width)};
    }

    void add_windows(const Planes& image, const std::vector<PixelRect>& windows, const PixelSize& padded,
                     Planes& sums) {
        upload_windows(image, windows, padded);
        const auto count = static_cast<Index>(windows.size());
        const std::vector<Planes> maps =
            cosines_of(model_->encode(pixels_.data(), padded, count), model_->grid(padded), count);
        for (std::size_t i = 0; i < windows.size(); ++i) {
            const PixelRect& w = windows[i];
            add_enlarged(maps[i],
                         {padded.height, padded.width, (padded.height - w.height) / 2, (padded.width - w.width) / 2, w},
                         sums);
        }
    }

    /// The windows, zeros around them, one behind the other on the device.
    void upload_windows(const Planes& image, const std::vector<PixelRect>& windows, const PixelSize& padded) {
        const Index size = 3 * padded.height * padded.width;
        host_.assign(windows.size() * static_cast<std::size_t>(size), T(0));
        T* to = host_.data();
        for (const PixelRect& w : windows) {
            const Index top = (padded.height - w.height) / 2, left = (padded.width - w.width) / 2;
            for (Index c = 0; c < 3; ++c, to += padded.height * padded.width)
                for (Index y = 0; y < w.height; ++y)
                    std::copy_n(image.row(c, w.top + y) + w.left, w.width, to + (top + y) * padded.width + left);
        }
        if (pixels_.size() < static_cast<Index>(host_.size())) {
            pixels_ = Buffer<D, T>();
            pixels_ = Buffer<D, T>(model_->device(), static_cast<Index>(host_.size()));
        }
        model_->device().upload(pixels_.data(), host_.data(), host_.size() * sizeof(T));
    }

    /// Of the features (count·cells, e) of several images: (queries, rows, columns) each.
    std::vector<Planes> cosines_of(Matrix<const T> features, const GridSize& grid, Index count) {
        D& device = model_->device();
        const Index cells = grid.rows * grid.columns;
        if (maps_.size() < count * queries_ * cells) maps_ = Buffer<D, T>(device, count * queries_ * cells);
        for (Index i = 0; i < count; ++i)
            cosine_logits(device, vectors_.matrix(queries_, model_->embed()), features.row_range(i * cells, cells), 1,
                          Matrix<T>(maps_.data() + i * queries_ * cells, queries_, cells));
        std::vector<T> host(static_cast<std::size_t>(count * queries_ * cells));
        device.download(host.data(), maps_.data(), host.size() * sizeof(T));
        std::vector<Planes> out;
        for (Index i = 0; i < count; ++i) {
            const auto first = host.begin() + i * queries_ * cells;
            out.emplace_back(queries_, grid.rows, grid.columns, std::vector<float>(first, first + queries_ * cells));
        }
        return out;
    }

    DenseModel<D>* model_;
    WindowOptions options_;
    Index queries_ = 0;
    Buffer<D, T> vectors_, pixels_, maps_;
    std::vector<T> host_;
};

}  // namespace promptkd
