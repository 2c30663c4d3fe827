// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/learned_parameters.hpp>
#include <promptkd/clip/model.hpp>
#include <promptkd/clip/prompts.hpp>
#include <promptkd/clip/trainable_vision.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/distill/projector.hpp>

#include <optional>
#include <string>

namespace promptkd {

/// How a student is built on its image encoder.
struct StudentConfig {
    Index prompts = 4;                                   ///< visual prompts; 0: projector only
    Index depth = 9;                                     ///< blocks with prompts, the shallow one counted
    Index projector_layers = 2;                          ///< Linears of the projector, 1 to 3
    Index embed = 0;                                     ///< e_t, the size of the class vectors
    EncoderTraining training = EncoderTraining::frozen;  ///< what is learned of the image encoder itself
    LoraConfig lora{};                                   ///< with EncoderTraining::lora
    bool recompute = false;   ///< the image encoder's activations are computed again in the backward pass
    Index hidden = 0;         ///< h, width of the projector's hidden layers; 0: e_t (published)
    bool patch_head = false;  ///< the patches have a projector of their own, `patch_head`, beside the class token's
};

/// PromptKD's student: u_s = P(f_s(x)) / ‖·‖ with a frozen image encoder f_s (unless config.training says that more is
/// learned), learnable visual prompts and projector P.
template <Device D>
class Student {
public:
    using T = typename D::Scalar;

    /// `model` must outlive the student, which stays where it is: others point to it. Parameters start at zero:
    /// initialize() or load() them.
    Student(D& device, const ClipModel<D>& model, const StudentConfig& config, Index max_batch);
    Student(D& device, const ClipModel<D>&& model, const StudentConfig& config, Index max_batch) = delete;
    Student(const Student&) = delete;
    Student& operator=(const Student&) = delete;

    /// Prompts N(0, 0.02²), projector U(±1/√fan_in), BatchNorm 1 / 0, all a function of `seed` alone.
    void initialize(std::uint64_t seed);

    /// Parameters and running statistics from tensors called `prefix + name`. Where `map` holds no encoder weights, a
    /// learnable encoder keeps those that it has; the same of low-rank updates. Without a projector of the patches in
    /// `map` theirs is the class token's.
    void load(const TensorMap& map, const std::string& prefix = "");
    /// Low-rank updates alone. Throws Error where `map` holds those of another encoder.
    void load_updates(const TensorMap& map);
    /// Parameters and running statistics as load() reads them.
    void save(TensorMap& map, const std::string& prefix = "") const;

    /// Device images (batch, 3, r, r) as a matrix with a row an image.
    Matrix<const T> pixels(const T* images, Index batch) const {
        const Index resolution = model_->vision().resolution();
        return {images, batch, 3 * resolution * resolution};
    }

    /// What one training forward pass leaves for the backward pass.
    struct Tape {
        VisionTape<D> vision;                   ///< of the image encoder
        typename Projector<D>::Tape projector;  ///< of the projector
        Matrix<T> encoded, unit;                ///< encoder's features, normalised ones
        T* inverse = nullptr;                   ///< 1/‖·‖ of the features
    };

    /// Normalised features (batch, embed) in training mode; they live in the arena, like the tape. With several ranks
    /// (`parallel`) BatchNorm sees the rows of all, unless it says otherwise.
    Matrix<const T> forward_training(const Workspace<D>& w, Matrix<const T> images, Tape& tape,
                                     const DataParallel<D>& parallel = {});

    /// Adds all gradients from d_unit (batch, embed), the gradient of the normalised features, which is overwritten,
    /// and from `d_own` (batch, e_s; no data for none), a further gradient of the encoder's features.
    void backward(const Workspace<D>& w, Matrix<T> d_unit, const Tape& tape, Matrix<const T> d_own = {});

    /// features (batch, embed), normalised, in evaluation mode (running statistics). On the workspace's device, which
    /// may be another one that sees this one's memory: the student does not change, and several threads may do so.
    void forward_inference(const Workspace<D>& w, Matrix<const T> images, Matrix<T> features) const {
        const WorkspaceScope scope(w);
        forward_inference(w, images, features, scratch<T>(w, images.rows, model_->vision().embed()));
    }
    /// The same, which leaves the raw features (batch, e_s) in front of the projector in `encoded`.
    void forward_inference(const Workspace<D>& w, Matrix<const T> images, Matrix<T> features, Matrix<T> encoded) const {
        encode(w, images, encoded, nullptr);
        projector_.forward_inference(w, encoded, features);
        normalize_forward(w.device, features, features);
    }
    /// The same on the student's device, for images and features by their addresses.
    void forward_inference(Arena<D>& arena, const T* images, Index batch, T* features) const {
        forward_inference(Workspace<D>{*device_, arena}, pixels(images, batch),
                          Matrix<T>(features, batch, config_.embed));
    }

    /// A training step was queued: BatchNorm's count of batches, which a checkpoint holds.
    void count_batch() { projector_.count_batch(); }

    /// What is learned.
    ParamSet<D>& params() { return params_; }
    /// What is learned.
    const ParamSet<D>& params() const { return params_; }
    /// Its visual prompts; null: none.
    const PromptLayers<T>* prompts() const { return prompts_.empty() ? nullptr : &prompts_; }
    /// Its image encoder, a vision transformer, with what is learned of it.
    const VisionTransformer<D>& encoder() const {
        if (!own_) return model_->vision().transformer();
        own_->refresh(*device_);
        return own_->encoder();
    }
    /// Its projector.
    Projector<D>& projector() { return projector_; }
    /// The patches' projector: their own where they have one.
    Projector<D>& patch_projector() { return patch_head_ ? *patch_head_ : projector_; }
    /// How it is built.
    const StudentConfig& config() const { return config_; }
    /// What it is built on.
    const ClipModel<D>& model() const { return *model_; }
    /// exp(s_s).
    double logit_scale() const { return model_->logit_scale(); }
    /// Images a pass at most.
    Index max_batch() const { return max_batch_; }
    /// Where it lives.
    D& device() { return *device_; }

private:
    /// Whether there is anything to train behind the projector.
    bool reaches_encoder() const { return prompts() || own_; }

    void encode(const Workspace<D>& w, Matrix<const T> images, Matrix<T> encoded, VisionTape<D>* tape) const {
        const PlacedPrompts<T> placed{prompts(), table_.view(images.rows)};
        if (own_) {
            own_->refresh(w.device);
            own_->encoder().forward(w, images, placed, encoded, tape);
        } else {
            model_->vision().forward(w, images, placed, encoded, tape);
        }
    }

    D* device_;
    const ClipModel<D>* model_;
    StudentConfig config_;
    ParamSet<D> params_;
    Projector<D> projector_;
    PromptLayers<T> prompts_;
    std::optional<TrainableVision<D>> own_;
    std::optional<Projector<D>> patch_head_;
    PlacementTable<D> table_;
    Index max_batch_;
};

namespace detail {

/// The name of a parameter of the patches' projector in the class token's; any other name as it is.
inline std::string class_token_name(const std::string& name) {
    const std::string head = patch_head_prefix;
    return name.starts_with(head) ? projector_prefix + name.substr(head.size()) : name;
}

/// The class token's projector in `map`, under the names of the patches'.
inline TensorMap as_patch_head(const TensorMap& map, const std::string& prefix) {
    const std::string from = prefix + projector_prefix;
    TensorMap head;
    head.source = map.source;
    for (const auto& [name, tensor] : map.tensors)
        if (name.starts_with(from)) head.tensors[prefix + patch_head_prefix + name.substr(from.size())] = tensor;
    return head;
}

}  // namespace detail

template <Device D>
Student<D>::Student(D& device, const ClipModel<D>& model, const StudentConfig& config, Index max_batch)
    : device_(&device),
      model_(&model),
      config_(config),
      params_(device),
      projector_(
          device, params_,
          {model.vision().embed(), config.embed, config.projector_layers, config.hidden, projector_layer_prefix}),
      max_batch_(max_batch) {
    require(config.embed > 0, "a student needs the size of its class vectors");
    require_max_batch(max_batch);
    require(config.prompts == 0 || model.vision().is_transformer(), model.source(),
            ": a ResNet student takes no visual prompts; distil with 0 prompts (projector only)");
    if (config.prompts > 0) require_depth("visual", config.depth, model.vision().layers());
    prompts_ = add_visual_prompts(params_, config.prompts, config.depth, model.vision().width());
    if (config.training != EncoderTraining::frozen) {
        require(model.vision().is_transformer(), model.source(), ": ",
                config.training == EncoderTraining::full ? "full fine-tuning" : "LoRA",
                " needs a vision transformer; a ResNet's projector alone can be trained");
        own_.emplace(params_, model.vision().transformer(), config.training, config.lora);
    }
    if (config.patch_head)
        patch_head_.emplace(device, params_,
                            ProjectorShape{model.vision().embed(), config.embed, config.projector_layers, config.hidden,
                                           std::string(patch_head_prefix) + "conv1."});
    params_.bind();
    if (own_) own_->adopt(device);
    table_ = model.vision().place_prompts(device, prompts_.tokens, max_batch);
}

template <Device D>
void Student<D>::initialize(std::uint64_t seed) {
    projector_.initialize(*device_, params_, seed);
    if (patch_head_) patch_head_->initialize(*device_, params_, seed);
    for (const std::string& name : params_.names())
        if (name.rfind(image_encoder_prefix, 0) == 0) initialize_normal(params_, name, seed);
    if (own_) own_->initialize(params_, seed);
}

template <Device D>
void Student<D>::load(const TensorMap& map, const std::string& prefix) {
    const bool weights = schema::has_image_weights(map, prefix);
    const bool updates = detail::holds_any(map, prefix + lora_prefix);
    const bool head = detail::holds_any(map, prefix + patch_head_prefix);
    for (const std::string& name : params_.names()) {
        if (schema::is_image_weight(name) && !weights) continue;
        if (is_lora_name(name) && !updates) continue;
        const std::string from = head ? name : detail::class_token_name(name);
        params_.load(name, schema::transposed_in_files(name, map.at(prefix + from)), map.source);
    }
    projector_.load_statistics(*device_, map, prefix);
    if (patch_head_) patch_head_->load_statistics(*device_, head ? map : detail::as_patch_head(map, prefix), prefix);
}

template <Device D>
void Student<D>::load_updates(const TensorMap& map) {
    for (const auto& [name, tensor] : map.tensors)
        require(!is_lora_name(name) || params_.contains(name), map.source, ": '", name,
                "' belongs to another model: this student's encoder has no such update");
    for (const std::string& name : params_.names())
        if (is_lora_name(name)) params_.load(name, map.at(name), map.source);
}

template <Device D>
void Student<D>::save(TensorMap& map, const std::string& prefix) const {
    params_.save(map, prefix);
    for (const std::string& name : params_.names()) {
        HostTensor& tensor = map.tensors.at(prefix + name);
        tensor = schema::transposed_in_files(name, tensor);
    }
    projector_.save_statistics(map, prefix);
    if (patch_head_) patch_head_->save_statistics(map, prefix);
}

template <Device D>
Matrix<const typename Student<D>::T> Student<D>::forward_training(const Workspace<D>& w, Matrix<const T> images,
                                                                  Tape& tape, const DataParallel<D>& parallel) {
    tape.vision.transformer.recompute = config_.recompute;
    tape.encoded = keep<T>(w, images.rows, model_->vision().embed());
    tape.unit = keep<T>(w, images.rows, config_.embed);
    tape.inverse = keep<T>(w, images.rows);
    encode(w, images, tape.encoded, reaches_encoder() ? &tape.vision : nullptr);
    projector_.forward_training(w, tape.encoded, tape.unit, tape.projector, parallel);
    normalize_forward(*device_, tape.unit, tape.unit, tape.inverse);
    return tape.unit;
}

template <Device D>
void Student<D>::backward(const Workspace<D>& w, Matrix<T> d_unit, const Tape& tape, Matrix<const T> d_own) {
    const WorkspaceScope scope(w);
    normalize_backward(*device_, tape.unit, tape.inverse, d_unit);
    Matrix<T> d_encoded;
    if (reaches_encoder()) d_encoded = scratch<T>(w, tape.encoded.rows, tape.encoded.columns);
    projector_.backward(w, d_unit, d_encoded, tape.projector);
    if (d_own.data && d_encoded.data) add_scaled(*device_, 1, d_own.data, d_encoded.data, d_encoded.count());
    const PlacedPrompts<T> placed{prompts(), table_.view(tape.encoded.rows)};
    if (own_) {
        own_->encoder().backward(w, d_encoded, placed, tape.vision);
    } else if (prompts()) {
        model_->vision().backward(w, d_encoded, placed, tape.vision);
    }
}

PROMPTKD_COMPILED_CLASS(Student);

}  // namespace promptkd
