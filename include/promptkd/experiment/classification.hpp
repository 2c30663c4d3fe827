// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>
#include <promptkd/data/class_names.hpp>
#include <promptkd/evaluate/classifier.hpp>
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

/// A distilled student that takes decoded images.
template <Device D>
class ImageClassifier {
public:
    using T = typename D::Scalar;

    /// Images that pass the encoder together are `batch` at most. Throws Error when `bundle` is not a student bundle.
    ImageClassifier(D& device, const TensorMap& bundle, WeightStorage storage = WeightStorage::native, Index batch = 1)
        : device_(device),
          student_(device, bundle, batch, storage),
          names_(distinct_names(student_.class_names())),
          pixels_(static_cast<std::size_t>(batch * values())),
          images_(device, batch * values()) {}

    /// The classes, in label order, equal names told apart.
    const std::vector<std::string>& class_names() const { return names_; }
    /// Number of classes K.
    Index classes() const { return student_.classes(); }
    /// What the images go through.
    const Preprocessing& preprocessing() const { return student_.preprocessing(); }

    /// Whether the student knows how familiar an image is.
    bool has_guard() { return student_.is_mixed() && student_.mixed().mixture().guard.has_value(); }
    /// Whether the student is mixed with its zero-shot self.
    bool is_mixed() const { return student_.is_mixed(); }

    /// The `top` most likely classes of an image, the likeliest first; of equal ones the first class.
    std::vector<ClassProbability> classify(const Image& image, Index top) { return judge(image, top).top; }

    /// The same with what a mixture thinks of the image.
    Classification judge(const Image& image, Index top) {
        const Judged judged = judge_batch({&image, 1});
        Classification out;
        if (!judged.weight.empty()) {
            out.weight = judged.weight.front();
            out.distance = judged.distance.front();
        }
        out.top = detail::most_likely(names_, judged.probabilities, top);
        return out;
    }

    /// Probabilities (n, K) of n images, each of any size.
    std::vector<double> probabilities(std::span<const Image> images) {
        std::vector<double> all;
        const auto batch = static_cast<std::size_t>(student_.max_batch());
        for (std::size_t first = 0; first < images.size(); first += batch) {
            const Judged some = judge_batch(images.subspan(first, std::min(batch, images.size() - first)));
            all.insert(all.end(), some.probabilities.begin(), some.probabilities.end());
        }
        return all;
    }

private:
    struct Judged {
        std::vector<double> probabilities, weight, distance;
    };

    Index values() const { return 3 * student_.resolution() * student_.resolution(); }

    Judged judge_batch(std::span<const Image> images) {
        const Preprocessing& input = student_.preprocessing();
        const Index n = static_cast<Index>(images.size());
        for (Index i = 0; i < n; ++i)
            normalize_image(preprocess_image(images[static_cast<std::size_t>(i)], input), pixels_.data() + i * values(),
                            input);
        const std::vector<T> converted(pixels_.begin(), pixels_.begin() + n * values());
        device_.upload(images_.data(), converted.data(), converted.size() * sizeof(T));
        Judged out;
        if (student_.is_mixed()) {
            MixturePrediction mixed = student_.mix(images_.data(), n);
            out = {std::move(mixed.probabilities), std::move(mixed.weight), std::move(mixed.distance)};
        } else {
            const std::vector<T> plain = student_.probabilities(images_.data(), n);
            out.probabilities.assign(plain.begin(), plain.end());
        }
        require_intact_mappings();
        for (const double value : out.probabilities)
            require(std::isfinite(value), "the student makes NaN or infinity of this image");
        return out;
    }

    D& device_;
    Classifier<D> student_;
    std::vector<std::string> names_;
    std::vector<float> pixels_;
    Buffer<D, T> images_;
};

}  // namespace promptkd
