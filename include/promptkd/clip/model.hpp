// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_encoder.hpp>
#include <promptkd/clip/preprocessing.hpp>
#include <promptkd/clip/text.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/format/mapping_guard.hpp>

#include <cmath>
#include <memory>
#include <optional>

namespace promptkd {

/// A CLIP model with frozen weights on a device. The text branch is absent where the file has none (a student file). It
/// never changes, so that any number of threads may use it, each with a device of its own; it stays where it is, since
/// towers, students and teachers point to it.
template <Device D>
class ClipModel {
public:
    using T = typename D::Scalar;

    /// Reads OpenAI's key names from `map`. Throws Error naming the first missing, misshapen or integer tensor.
    ClipModel(D& device, const TensorMap& map, WeightStorage storage = WeightStorage::native);
    ClipModel(const ClipModel&) = delete;
    ClipModel& operator=(const ClipModel&) = delete;

    /// The image branch.
    const ImageEncoder<D>& vision() const { return vision_; }
    /// What turns a decoded image into the image branch's input.
    const Preprocessing& preprocessing() const { return preprocessing_; }
    /// Whether the file held a text branch.
    bool has_text() const { return text_.has_value(); }
    /// Throws Error when the file had no text branch.
    const TextTransformer<D>& text() const {
        require(text_.has_value(), source_, ": this model has no text branch");
        return *text_;
    }
    /// exp(logit_scale), the factor of the cosine in every logit.
    double logit_scale() const { return logit_scale_; }
    /// What SigLIP adds to every logit; it changes no softmax.
    double logit_bias() const { return logit_bias_; }
    /// The file, for messages.
    const std::string& source() const { return source_; }
    /// Device memory held by the weights.
    std::size_t weight_bytes() const { return store_->bytes(); }

private:
    std::unique_ptr<FrozenStore<D>> store_;
    ImageEncoder<D> vision_;
    Preprocessing preprocessing_;
    std::optional<TextTransformer<D>> text_;
    double logit_scale_ = 1, logit_bias_ = 0;
    std::string source_;
};

template <Device D>
ClipModel<D>::ClipModel(D& device, const TensorMap& map, WeightStorage storage)
    : store_(std::make_unique<FrozenStore<D>>(device, storage)),
      vision_(*store_, map),
      preprocessing_(preprocessing_of(map, vision_.resolution())),
      source_(map.source) {
    logit_scale_ = logit_scale_of(map);
    if (map.contains(schema::name_of(schema::model, schema::Role::logit_bias)))
        logit_bias_ = detail::model_number(map, schema::Role::logit_bias);
    if (schema::has_text_branch(map)) {
        if (storage == WeightStorage::int8) store_->use(WeightStorage::packed);
        text_.emplace(*store_, map);
        require(text_->embed() == vision_.embed(), map.source, ": image features have ", vision_.embed(),
                " values and text features ", text_->embed());
    }
    require_intact_mappings();  // what was copied out of the file is what was checked
}

PROMPTKD_COMPILED_CLASS(ClipModel);

}  // namespace promptkd
