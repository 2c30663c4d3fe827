// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/patch_passes.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/evaluate/bundle.hpp>

#include <memory>
#include <optional>
#include <string>

namespace promptkd {

namespace detail {

/// The patches' own projector in what was learned, under the names of a projector; nothing where there is none.
inline TensorMap patch_head(const TensorMap& learned) {
    TensorMap head;
    head.source = learned.source;
    for (auto& [name, tensor] : tensors_under(learned, patch_head_prefix))
        head.tensors[projector_prefix + name] = std::move(tensor);
    return head;
}

}  // namespace detail

/// Features of the patches of images of any size: of a CLIP image encoder, or of a distilled student, whose projector
/// runs on every patch with its running statistics.
template <Device D>
class DenseModel {
public:
    using T = typename D::Scalar;

    /// Of a CLIP model, with visual prompts where `prompts` is not null. Throws Error for a model that is no vision
    /// transformer.
    DenseModel(D& device, const TensorMap& clip, const TensorMap* prompts, const DenseOptions& options,
               Index max_batch);
    /// Of a student.
    DenseModel(D& device, const BundleParts& parts, const DenseOptions& options, Index max_batch);

    DenseModel(const DenseModel&) = delete;  // its parts point to each other
    DenseModel& operator=(const DenseModel&) = delete;

    /// Size e of the features.
    Index embed() const { return student_ ? student_->config().embed : model_->vision().embed(); }
    /// Pixels of a patch a side.
    Index patch() const { return model_->vision().config().patch; }
    /// Images a pass at most.
    Index max_batch() const { return passes_->max_batch(); }
    /// exp(s).
    double logit_scale() const { return model_->logit_scale(); }
    /// The CLIP model.
    const ClipModel<D>& model() const { return *model_; }
    /// Where it lives.
    D& device() { return *device_; }
    /// The patches of images of a size. Throws Error when it is smaller than a patch.
    GridSize grid(const PixelSize& size) const { return passes_->grid(size); }

    /// Features (batch·cells, e) of the patches, row by row, of device images (batch, 3, height, width), un-normalised;
    /// valid until the next call.
    Matrix<const T> encode_raw(const T* images, const PixelSize& size, Index batch);
    /// The same, each of length 1.
    Matrix<const T> encode(const T* images, const PixelSize& size, Index batch);

    /// See encode_raw(). `observe` as of VisionTransformer::forward_patches.
    template <class Observer>
    Matrix<const T> encode_raw(const T* images, const PixelSize& size, Index batch, const Observer& observe) {
        const PatchPass<T> pass = passes_->pass(size, batch);
        if (!(size == planned_) || batch > planned_batch_) {
            features_ = Buffer<D, T>();
            features_ = Buffer<D, T>(*device_, batch * pass.grid.cells() * embed());
            arena_.plan([&] { forward(pass, nullptr, batch, NoObserver()); });
            planned_ = size;
            planned_batch_ = batch;
        }
        arena_.reset();
        return forward(pass, images, batch, observe);
    }

private:
    /// Throws Error unless the model's image encoder is a vision transformer.
    void require_transformer() const {
        require(model_->vision().is_transformer(), model_->source(),
                ": a ResNet has no last block to read patches from; use a vision transformer");
    }

    template <class Observer>
    Matrix<const T> forward(const PatchPass<T>& pass, const T* images, Index batch, const Observer& observe) {
        const Workspace<D> w{*device_, arena_};
        const WorkspaceScope scope(w);
        const Index rows = batch * pass.grid.cells();
        const Matrix<const T> pixels(images, batch, pass.grid.image_values());
        const Matrix<T> out = features_.matrix(rows, embed());
        if (!student_) {
            model_->vision().transformer().forward_patches(w, pixels, pass, out, nullptr, observe);
            return out;
        }
        const Matrix<T> encoded = scratch<T>(w, rows, model_->vision().embed());
        student_->encoder().forward_patches(w, pixels, pass, encoded, nullptr, observe);
        (head_ ? *head_ : student_->projector()).forward_inference(w, encoded, out);
        return out;
    }

    D* device_;
    std::unique_ptr<ClipModel<D>> model_;
    std::unique_ptr<ParamSet<D>> params_;  ///< prompts of a CLIP model, or the patches' own projector
    PromptLayers<T> prompts_;
    std::unique_ptr<Student<D>> student_;
    std::optional<Projector<D>> head_;
    std::unique_ptr<PatchPasses<D>> passes_;
    Arena<D> arena_;
    Buffer<D, T> features_;
    PixelSize planned_;        ///< of images that there is room for,
    Index planned_batch_ = 0;  ///< so many
};

template <Device D>
DenseModel<D>::DenseModel(D& device, const TensorMap& clip, const TensorMap* prompts, const DenseOptions& options,
                          Index max_batch)
    : device_(&device),
      model_(std::make_unique<ClipModel<D>>(device, clip)),
      params_(std::make_unique<ParamSet<D>>(device)),
      arena_(device) {
    require_transformer();
    if (prompts) {
        const PromptDesign design = visual_prompt_design(*prompts);
        require_depth("visual", design.depth, model_->vision().layers());
        prompts_ = add_visual_prompts(*params_, design.tokens, design.depth, model_->vision().width());
    }
    params_->bind_frozen();
    if (prompts) params_->load_all(*prompts);
    passes_ = std::make_unique<PatchPasses<D>>(device, model_->vision().transformer(),
                                               prompts_.empty() ? nullptr : &prompts_, options, max_batch);
}

template <Device D>
DenseModel<D>::DenseModel(D& device, const BundleParts& parts, const DenseOptions& options, Index max_batch)
    : device_(&device),
      model_(std::make_unique<ClipModel<D>>(device, parts.clip)),
      params_(std::make_unique<ParamSet<D>>(device)),
      arena_(device) {
    require_transformer();
    student_ = std::make_unique<Student<D>>(device, *model_, student_config(parts), 1);  // its patches alone are read
    student_->load(parts.learned);
    const TensorMap own = detail::patch_head(parts.learned);
    if (!own.tensors.empty()) {
        BundleParts head;
        head.learned = own;
        head.class_vectors = parts.class_vectors;
        const StudentConfig shape = student_config(head);
        head_.emplace(device, *params_,
                      ProjectorShape{model_->vision().embed(), shape.embed, shape.projector_layers, shape.hidden,
                                     projector_layer_prefix});
    }
    params_->bind_frozen();
    if (head_) {
        params_->load_all(own);
        head_->load_statistics(device, own);
    }
    passes_ = std::make_unique<PatchPasses<D>>(device, student_->encoder(), student_->prompts(), options, max_batch);
}

template <Device D>
Matrix<const typename D::Scalar> DenseModel<D>::encode_raw(const T* images, const PixelSize& size, Index batch) {
    return encode_raw(images, size, batch, NoObserver());
}

template <Device D>
Matrix<const typename D::Scalar> DenseModel<D>::encode(const T* images, const PixelSize& size, Index batch) {
    const Matrix<const T> raw = encode_raw(images, size, batch);
    const Matrix<T> out = features_.matrix(raw.rows, raw.columns);
    normalize_forward(*device_, out, out);
    return out;
}

PROMPTKD_COMPILED_CLASS(DenseModel);

}  // namespace promptkd
