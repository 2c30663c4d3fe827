// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/model.hpp>
#include <promptkd/clip/prompts.hpp>
#include <promptkd/device/compiled.hpp>

namespace promptkd {

/// A frozen image encoder with frozen prompts (either may be absent): what a teacher or a zero-shot model is. Planned
/// for a largest batch; encode() then allocates nothing.
template <Device D>
class FrozenImageTower {
public:
    using T = typename D::Scalar;

    /// `prompts` may be null or hold `image_encoder.VPT…`. `model` must outlive this: none that is gone at once.
    FrozenImageTower(D& device, const ClipModel<D>& model, const TensorMap* prompts, Index max_batch);
    FrozenImageTower(D& device, const ClipModel<D>&& model, const TensorMap* prompts, Index max_batch) = delete;
    FrozenImageTower(const FrozenImageTower&) = delete;
    FrozenImageTower& operator=(const FrozenImageTower&) = delete;

    /// Size e of the features.
    Index embed() const { return model_->vision().embed(); }
    /// Height and width of the images.
    Index resolution() const { return model_->vision().resolution(); }
    /// What the images go through.
    const Preprocessing& preprocessing() const { return model_->preprocessing(); }
    /// Images a call at most.
    Index max_batch() const { return max_batch_; }
    /// exp(s).
    double logit_scale() const { return model_->logit_scale(); }

    /// L2-normalised features (batch, embed) of device images (batch, 3, resolution, resolution); valid until the next
    /// call.
    const T* encode(const T* images, Index batch);

    /// The same without the normalisation.
    const T* encode_raw(const T* images, Index batch);

private:
    void forward(const T* images, Index batch) {
        require_images(*device_, images, batch, max_batch_);
        arena_.reset();
        model_->vision().forward(Workspace<D>{*device_, arena_},
                                 Matrix<const T>(images, batch, 3 * resolution() * resolution()),
                                 {layers_.empty() ? nullptr : &layers_, table_.view(batch)}, features(batch), nullptr);
    }

    Matrix<T> features(Index batch) { return features_.matrix(batch, embed()); }

    D* device_;
    const ClipModel<D>* model_;
    ParamSet<D> params_;
    PromptLayers<T> layers_;
    PlacementTable<D> table_;
    Arena<D> arena_;
    Buffer<D, T> features_;
    Index max_batch_;
};

template <Device D>
FrozenImageTower<D>::FrozenImageTower(D& device, const ClipModel<D>& model, const TensorMap* prompts, Index max_batch)
    : device_(&device), model_(&model), params_(device), arena_(device), max_batch_(max_batch) {
    require_max_batch(max_batch);
    if (prompts) {
        const PromptDesign design = visual_prompt_design(*prompts);
        require_depth("visual", design.depth, model.vision().layers());
        layers_ = add_visual_prompts(params_, design.tokens, design.depth, model.vision().width());
    }
    params_.bind_frozen();
    if (prompts) params_.load_all(*prompts);
    table_ = model.vision().place_prompts(device, layers_.tokens, max_batch);
    features_ = Buffer<D, T>(device, max_batch * embed());
    arena_.plan([&] { encode(nullptr, max_batch); });
}

template <Device D>
const typename FrozenImageTower<D>::T* FrozenImageTower<D>::encode(const T* images, Index batch) {
    forward(images, batch);
    normalize_forward(*device_, features(batch), features(batch));
    return features_.data();
}

template <Device D>
const typename FrozenImageTower<D>::T* FrozenImageTower<D>::encode_raw(const T* images, Index batch) {
    forward(images, batch);
    return features_.data();
}

PROMPTKD_COMPILED_CLASS(FrozenImageTower);

}  // namespace promptkd
