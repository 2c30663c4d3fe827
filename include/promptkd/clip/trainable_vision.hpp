// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/lora.hpp>
#include <promptkd/clip/vision.hpp>

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace promptkd {

/// What of an image encoder is trained: nothing, low-rank updates of its blocks' maps, or every weight.
enum class EncoderTraining { frozen, lora, full };

/// "prompts" (a frozen encoder), "lora" or "full". Throws Error for any other.
inline EncoderTraining parse_encoder_training(const std::string& name) {
    if (name == "prompts") return EncoderTraining::frozen;
    if (name == "lora") return EncoderTraining::lora;
    if (name == "full") return EncoderTraining::full;
    fail("unknown training of the encoder '", name, "'; known: prompts, lora, full");
}

/// As parse_encoder_training() reads it.
inline const char* name_of(EncoderTraining training) {
    constexpr const char* names[] = {"prompts", "lora", "full"};
    return names[static_cast<int>(training)];
}

/// A vision transformer of which more than prompts is trained: low-rank updates of its frozen weights (LoraWeights), or
/// the weights themselves, parameters of a ParamSet under OpenAI's names, in the shapes in which they are computed with
/// (see VisionTransformer::visit_weights), to which its layers point: full fine-tuning. The pretrained encoder it
/// starts from stays as it is.
template <Device D>
class TrainableVision {
public:
    using T = typename D::Scalar;
    using A = typename D::Activation;

    /// Registers what is trained of `pretrained` in `params`; bind those, then call adopt(). Throws Error for full
    /// fine-tuning on a device whose biases are in 16 bits, and a rank that does not fit.
    TrainableVision(ParamSet<D>& params, const VisionTransformer<D>& pretrained,
                    EncoderTraining training = EncoderTraining::full, const LoraConfig& lora = {})
        : encoder_(pretrained) {
        if (training == EncoderTraining::lora) {
            lora_.emplace(params, encoder_.transformer(), lora);
            return;
        }
        if constexpr (requires { requires D::bias_as_activation; })
            fail("full fine-tuning computes in single precision on this device, not with 16-bit activations");
        encoder_.require_trainable();
        encoder_.visit_weights([&](const std::string& name, const auto&, T*&, const Shape& shape) {
            weights_.push_back(&params.add(name, shape));
        });
    }

    /// Copies the pretrained values into the bound parameters; from now on the encoder computes with these and adds
    /// their gradients.
    void adopt(D& device) {
        if (lora_) return lora_->adopt(encoder_.transformer());
        std::size_t next = 0;
        encoder_.visit_weights([&](const std::string&, auto& tensor, T*& gradient, const Shape&) {
            const Param<T>& param = *weights_[next++];
            take(device, tensor, param);
            gradient = param.grad;
        });
    }

    /// With activations in 16 bits: rounds the matrices as they are now to that type, in which the layers read them.
    void refresh(D& device) const {
        for (const Rounded& r : rounded_) convert(device, r.values, r.rounded.data(), r.rounded.size());
    }

    /// What training begins from: updates that change nothing; pretrained weights are as they should be.
    void initialize(ParamSet<D>& params, std::uint64_t seed) const {
        if (lora_) lora_->initialize(params, seed);
    }

    /// The encoder on the learnable weights.
    const VisionTransformer<D>& encoder() const { return encoder_; }

private:
    void take(D& device, const T*& pointer, const Param<T>& param) {
        device.copy(param.value, pointer, static_cast<std::size_t>(param.count()) * sizeof(T));
        pointer = param.value;
    }
    void take(D& device, WeightMatrix& matrix, const Param<T>& param) {
        require(matrix.panel == 0, "full fine-tuning: packed weights are for inference (WeightStorage)");
        if (matrix.type == DType::f16)
            convert(device, static_cast<const half*>(matrix.data), param.value, param.count());
        else if (matrix.type == DType::bf16)
            convert(device, static_cast<const bf16*>(matrix.data), param.value, param.count());
        else
            device.copy(param.value, matrix.data, static_cast<std::size_t>(param.count()) * sizeof(T));
        matrix.data = param.value;
        matrix.type = dtype_of<T>;
        if constexpr (!std::is_same_v<A, T>) {
            rounded_.push_back({param.value, Buffer<D, A>(device, param.count())});
            matrix.data = rounded_.back().rounded.data();
            matrix.type = dtype_of<A>;
        }
    }

    /// A matrix's values, and the same in the activations' type.
    struct Rounded {
        const T* values;
        mutable Buffer<D, A> rounded;
    };

    VisionTransformer<D> encoder_;
    std::optional<LoraWeights<D>> lora_;
    std::vector<const Param<T>*> weights_;
    std::vector<Rounded> rounded_;
};

}  // namespace promptkd
