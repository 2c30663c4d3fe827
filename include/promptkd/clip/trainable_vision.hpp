// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/vision.hpp>

#include <type_traits>
#include <vector>

namespace promptkd {

/// A vision transformer whose weights are trained: parameters of a ParamSet under OpenAI's names, in the shapes in
/// which they are computed with (see VisionTransformer::visit_weights), to which its layers point. Full fine-tuning,
/// one of the PromptKD paper's ablations. The pretrained encoder it starts from stays as it is.
template <Device D>
class TrainableVision {
public:
    using T = typename D::Scalar;

    /// Registers the weights of `pretrained` in `params`; bind those, then call adopt(). Throws Error on a device that
    /// keeps activations in 16 bits.
    TrainableVision(ParamSet<D>& params, const VisionTransformer<D>& pretrained) : encoder_(pretrained) {
        require(std::is_same_v<typename D::Activation, T>,
                "full fine-tuning computes in single precision, not with 16-bit activations");
        encoder_.require_trainable();
        encoder_.visit_weights([&](const std::string& name, const auto&, T*&, const Shape& shape) {
            weights_.push_back(&params.add(name, shape));
        });
    }

    /// Copies the pretrained values into the bound parameters; from now on the encoder computes with these and adds
    /// their gradients.
    void adopt(D& device) {
        std::size_t next = 0;
        encoder_.visit_weights([&](const std::string&, auto& tensor, T*& gradient, const Shape&) {
            const Param<T>& param = *weights_[next++];
            take(device, tensor, param);
            gradient = param.grad;
        });
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
    }

    VisionTransformer<D> encoder_;
    std::vector<const Param<T>*> weights_;
};

}  // namespace promptkd
