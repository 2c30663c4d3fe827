// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>
#include <promptkd/data/class_names.hpp>
#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/image/preprocess.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace promptkd {

/// A class and how likely it is.
struct ClassProbability {
    std::string name;        ///< of the class
    double probability = 0;  ///< in [0, 1]
};

/// What a student says of one image.
struct Classification {
    std::vector<ClassProbability> top;  ///< the most likely classes, the likeliest first
    double weight = 1;                  ///< w: how far the distilled student was trusted; 1 without a mixture
    double distance = 0;                ///< ℓ/c_g: above 1 the image is unlike those of the distillation; 0: no guard
};

namespace detail {

/// The `top` most likely of the classes `names`, the likeliest first; of equal ones the first class.
inline std::vector<ClassProbability> most_likely(const std::vector<std::string>& names, const std::vector<double>& p,
                                                 Index top) {
    std::vector<std::size_t> order(p.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
    order.resize(std::min(order.size(), static_cast<std::size_t>(top)));
    std::vector<ClassProbability> ranked;
    for (const std::size_t k : order) ranked.push_back({names[k], p[k]});
    return ranked;
}

}  // namespace detail

/// A distilled student that takes decoded images one at a time.
template <Device D>
class ImageClassifier {
public:
    using T = typename D::Scalar;

    /// Throws Error when `bundle` is not a student bundle.
    ImageClassifier(D& device, const TensorMap& bundle, WeightStorage storage = WeightStorage::native)
        : device_(device),
          student_(device, bundle, 1, storage),
          names_(distinct_names(student_.class_names())),
          pixels_(static_cast<std::size_t>(values())),
          images_(device, values()) {}

    /// The classes, in label order, equal names told apart.
    const std::vector<std::string>& class_names() const { return names_; }

    /// Whether the student knows how familiar an image is.
    bool has_guard() { return student_.is_mixed() && student_.mixed().mixture().guard.has_value(); }
    /// Whether the student is mixed with its zero-shot self.
    bool is_mixed() const { return student_.is_mixed(); }

    /// The `top` most likely classes of an image, the likeliest first; of equal ones the first class.
    std::vector<ClassProbability> classify(const Image& image, Index top) { return judge(image, top).top; }

    /// The same with what a mixture thinks of the image.
    Classification judge(const Image& image, Index top) {
        const Preprocessing& input = student_.preprocessing();
        normalize_image(preprocess_image(image, input), pixels_.data(), input);
        const std::vector<T> converted(pixels_.begin(), pixels_.end());
        device_.upload(images_.data(), converted.data(), converted.size() * sizeof(T));
        Classification out;
        std::vector<double> p;
        if (student_.is_mixed()) {
            MixturePrediction mixed = student_.mix(images_.data(), 1);
            p = std::move(mixed.probabilities);
            out.weight = mixed.weight.front();
            out.distance = mixed.distance.front();
        } else {
            const std::vector<T> plain = student_.probabilities(images_.data(), 1);
            p.assign(plain.begin(), plain.end());
        }
        require_intact_mappings();
        for (const double value : p) require(std::isfinite(value), "the student makes NaN or infinity of this image");
        out.top = detail::most_likely(names_, p, top);
        return out;
    }

private:
    Index values() const { return 3 * student_.resolution() * student_.resolution(); }

    D& device_;
    Classifier<D> student_;
    std::vector<std::string> names_;
    std::vector<float> pixels_;
    Buffer<D, T> images_;
};

}  // namespace promptkd
