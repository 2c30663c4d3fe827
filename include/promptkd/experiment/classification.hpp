// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>
#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/image/preprocess.hpp>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

namespace promptkd {

/// A class and how likely it is.
struct ClassProbability {
    std::string name;        ///< of the class
    double probability = 0;  ///< in [0, 1]
};

/// A distilled student that takes decoded images one at a time.
template <Device D>
class ImageClassifier {
public:
    using T = typename D::Scalar;

    /// Throws Error when `bundle` is not a student bundle.
    ImageClassifier(D& device, const TensorMap& bundle)
        : device_(device),
          student_(device, bundle),
          pixels_(static_cast<std::size_t>(values())),
          images_(device, values()) {}

    /// The classes, in label order.
    const std::vector<std::string>& class_names() const { return student_.class_names(); }

    /// The `top` most likely classes of an image, the likeliest first; of equal ones the first class.
    std::vector<ClassProbability> classify(const Image& image, Index top) {
        normalize_image(preprocess_image(image, student_.resolution()), pixels_.data());
        const std::vector<T> converted(pixels_.begin(), pixels_.end());
        device_.upload(images_.data(), converted.data(), converted.size() * sizeof(T));
        const std::vector<T> p = student_.probabilities(images_.data(), 1);
        std::vector<std::size_t> order(p.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
        order.resize(std::min(order.size(), static_cast<std::size_t>(top)));
        std::vector<ClassProbability> ranked;
        for (const std::size_t k : order) ranked.push_back({class_names()[k], static_cast<double>(p[k])});
        return ranked;
    }

private:
    Index values() const { return 3 * student_.resolution() * student_.resolution(); }

    D& device_;
    Classifier<D> student_;
    std::vector<float> pixels_;
    Buffer<D, T> images_;
};

}  // namespace promptkd
