// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/resnet.hpp>
#include <promptkd/clip/vision.hpp>

#include <variant>

namespace promptkd {

/// Throws Error unless an encoder that was planned for `planned` device images at a time can take `images`, `batch` of
/// them.
template <Device D, class T>
void require_images(const D& device, const T* images, Index batch, Index planned) {
    require(batch >= 0, "a batch of ", batch, " images");
    require(batch <= planned, "a batch of ", batch, " images, but ", planned, " were planned");
    require(images != nullptr || batch == 0 || device.is_planning(), "the images of a batch are a null pointer");
}

/// Throws Error for a largest batch of none, or of less.
inline void require_max_batch(Index max_batch) {
    require(max_batch >= 1, "a largest batch of ", max_batch, " images; it holds one at least");
}

/// A CLIP image encoder of either kind, recognised from its weights. Visual prompts need a vision transformer.
template <Device D>
class ImageEncoder {
public:
    using T = typename D::Scalar;

    /// The encoder whose weights `map` holds. Throws Error when they are of none.
    ImageEncoder(FrozenStore<D>& store, const TensorMap& map) : encoder_(make(store, map)) {}

    /// Whether it is a vision transformer.
    bool is_transformer() const { return std::holds_alternative<VisionTransformer<D>>(encoder_); }
    /// Throws std::bad_variant_access for a ResNet; ask is_transformer() first.
    const VisionTransformer<D>& transformer() const { return std::get<VisionTransformer<D>>(encoder_); }
    /// The ModifiedResNet that it is.
    const ModifiedResNet<D>& resnet() const { return std::get<ModifiedResNet<D>>(encoder_); }
    /// Sizes of the transformer.
    const VisionConfig& config() const { return transformer().config(); }

    /// Height and width of the images.
    Index resolution() const {
        return std::visit([](const auto& e) { return e.config().resolution(); }, encoder_);
    }
    /// Size e of the features.
    Index embed() const {
        return std::visit([](const auto& e) { return e.config().embed; }, encoder_);
    }
    /// Width of the visual prompts; 0 for a ResNet, which takes none.
    Index width() const { return is_transformer() ? transformer().width() : 0; }
    /// Blocks that can be prompted; 0 for a ResNet.
    Index layers() const { return is_transformer() ? transformer().layers() : 0; }

    /// Where visual prompts go; empty for a ModifiedResNet.
    PlacementTable<D> place_prompts(D& device, Index prompts, Index max_batch) const {
        if (!is_transformer()) return {};
        return transformer().place_prompts(device, prompts, max_batch);
    }

    /// See VisionTransformer::forward. A ResNet keeps no tape: there is nothing below it to train.
    template <class Observer = NoObserver>
    void forward(const Workspace<D>& w, Matrix<const T> images, const PlacedPrompts<T>& prompts, Matrix<T> features,
                 VisionTape<D>* tape, const Observer& observe = {}) const {
        if (is_transformer())
            transformer().forward(w, images, prompts, features, tape, observe);
        else
            resnet().forward(w, images, features);
    }

    /// See VisionTransformer::backward().
    void backward(const Workspace<D>& w, Matrix<const T> d_features, const PlacedPrompts<T>& prompts,
                  const VisionTape<D>& tape) const {
        transformer().backward(w, d_features, prompts, tape);
    }

private:
    using Either = std::variant<VisionTransformer<D>, ModifiedResNet<D>>;

    static Either make(FrozenStore<D>& store, const TensorMap& map) {
        if (schema::image_architecture(map) == &schema::modified_resnet)
            return Either(std::in_place_type<ModifiedResNet<D>>, store, map);
        return Either(std::in_place_type<VisionTransformer<D>>, store, map);
    }

    Either encoder_;
};

}  // namespace promptkd
