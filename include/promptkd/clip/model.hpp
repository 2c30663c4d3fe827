// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_encoder.hpp>
#include <promptkd/clip/text.hpp>

#include <cmath>
#include <memory>
#include <optional>

namespace promptkd {

namespace detail {

/// Throws Error naming the first weight of a CLIP model in `map` that is not a floating-point tensor.
inline void require_floating_weights(const TensorMap& map) {
    for (const auto& [name, tensor] : map.tensors) {
        const bool weight = name.rfind("visual.", 0) == 0 || name.rfind("transformer.", 0) == 0 ||
                            name.rfind("token_embedding.", 0) == 0 || name.rfind("ln_final.", 0) == 0 ||
                            name == "positional_embedding" || name == "text_projection" || name == "logit_scale";
        if (!weight || (name.size() > 19 && name.compare(name.size() - 19, 19, "num_batches_tracked") == 0)) continue;
        require(is_floating(tensor.dtype), map.source, ": tensor '", name, "' has dtype ", name_of(tensor.dtype),
                ", expected a floating-point type");
    }
}

}  // namespace detail

/// A CLIP model with frozen weights on a device. The text branch is absent where the file has none (a student file).
template <Device D>
class ClipModel {
public:
    using T = typename D::Scalar;

    /// Reads OpenAI's key names from `map`. Throws Error naming the first missing, misshapen or integer tensor.
    ClipModel(D& device, const TensorMap& map, WeightStorage storage = WeightStorage::native)
        : store_(std::make_unique<FrozenStore<D>>(device, storage)), vision_(*store_, map), source_(map.source) {
        detail::require_floating_weights(map);
        const double scale = map.at("logit_scale").template to<double>().at(0);
        require(std::isfinite(scale), map.source, ": 'logit_scale' is not a finite number");
        logit_scale_ = std::exp(scale);
        if (!map.contains("token_embedding.weight")) return;
        if (storage == WeightStorage::int8) store_->use(WeightStorage::packed);
        text_.emplace(*store_, map);
        require(text_->embed() == vision_.embed(), map.source, ": image features have ", vision_.embed(),
                " values and text features ", text_->embed());
    }

    const ImageEncoder<D>& vision() const { return vision_; }
    bool has_text() const { return text_.has_value(); }
    /// Throws Error when the file had no text branch.
    const TextTransformer<D>& text() const {
        require(text_.has_value(), source_, ": this model has no text branch");
        return *text_;
    }
    /// exp(logit_scale), the factor of the cosine in every logit.
    double logit_scale() const { return logit_scale_; }
    const std::string& source() const { return source_; }
    /// Device memory held by the weights.
    std::size_t weight_bytes() const { return store_->bytes(); }

private:
    std::unique_ptr<FrozenStore<D>> store_;
    ImageEncoder<D> vision_;
    std::optional<TextTransformer<D>> text_;
    double logit_scale_ = 1;
    std::string source_;
};

}  // namespace promptkd
