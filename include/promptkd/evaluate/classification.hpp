// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/device/memory.hpp>
#include <promptkd/image/preprocess.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace promptkd {

/// A class and how likely it is.
struct ClassProbability {
    std::string name;        ///< of the class
    double probability = 0;  ///< in [0, 1]
};

/// What a classifier says of one image.
struct Classification {
    std::vector<ClassProbability> top;  ///< the most likely classes, the likeliest first
    double weight = 1;                  ///< w: how far the distilled student was trusted; 1 without a mixture
    double distance = 0;                ///< ℓ/c_g: above 1 the image is unlike those of the distillation; 0: no guard
};

namespace detail {

/// The `top` most likely of the classes `names`, the likeliest first; of equal ones the first class.
inline std::vector<ClassProbability> most_likely(const std::vector<std::string>& names, std::span<const double> p,
                                                 Index top) {
    require(top >= 1, "the ", top, " most likely classes were asked for; ask for one at least");
    std::vector<std::size_t> order(p.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
    order.resize(std::min(order.size(), static_cast<std::size_t>(top)));
    std::vector<ClassProbability> ranked;
    for (const std::size_t k : order) ranked.push_back({names[k], p[k]});
    return ranked;
}

/// Images of any size as an encoder's input in device memory.
template <Device D>
class ImageInput {
public:
    using T = typename D::Scalar;

    /// For up to `most` images at a time.
    ImageInput(D& device, const Preprocessing& input, Index most)
        : device_(&device),
          input_(input),
          values_(3 * input.height * input.width),
          pixels_(static_cast<std::size_t>(values_)),
          converted_(static_cast<std::size_t>(most * values_)),
          images_(device, most * values_) {}

    /// Device images (n, 3, height, width), valid until the next call.
    const T* upload(std::span<const Image> images) {
        for (std::size_t i = 0; i < images.size(); ++i) put(preprocess_image(images[i], input_), i);
        return upload_first(images.size());
    }

    /// The same of images that preprocess_image() has made. Throws Error for those of another size.
    const T* upload_prepared(std::span<const Image> images) {
        for (std::size_t i = 0; i < images.size(); ++i) {
            check_pixels(images[i], "a prepared image");
            require(images[i].height == input_.height && images[i].width == input_.width, "a prepared image of ",
                    images[i].height, "x", images[i].width, " (height x width), the encoder takes ", input_.height, "x",
                    input_.width);
            put(images[i], i);
        }
        return upload_first(images.size());
    }

private:
    void put(const Image& prepared, std::size_t i) {
        normalize_image(prepared, pixels_.data(), input_);
        std::copy(pixels_.begin(), pixels_.end(), converted_.begin() + static_cast<std::ptrdiff_t>(i * pixels_.size()));
    }
    const T* upload_first(std::size_t n) {
        device_->upload(images_.data(), converted_.data(), n * pixels_.size() * sizeof(T));
        return images_.data();
    }

    D* device_;
    Preprocessing input_;
    Index values_;
    std::vector<float> pixels_;
    std::vector<T> converted_;
    Buffer<D, T> images_;
};

/// f(images) for consecutive parts of at most `most` images.
template <class F>
void in_batches(std::span<const Image> images, Index most, const F& f) {
    const auto batch = static_cast<std::size_t>(most);
    for (std::size_t first = 0; first < images.size(); first += batch)
        f(images.subspan(first, std::min(batch, images.size() - first)));
}

/// Throws Error for NaN and infinity among the probabilities of images (n rows of `classes`).
inline void require_finite(std::span<const double> p, Index classes) {
    for (std::size_t i = 0; i < p.size(); ++i)
        require(std::isfinite(p[i]), "the student makes NaN or infinity of ",
                p.size() == static_cast<std::size_t>(classes)
                    ? std::string("this image")
                    : concat("image ", i / static_cast<std::size_t>(classes), " of the batch"),
                "; its pixels or its weights are not finite");
}

}  // namespace detail

}  // namespace promptkd
