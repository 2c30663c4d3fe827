// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/prompt_names.hpp>
#include <promptkd/nn/initialize.hpp>
#include <promptkd/nn/linear.hpp>
#include <promptkd/op/batch_norm.hpp>
#include <promptkd/op/elementwise.hpp>

#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Sizes and names of a projector.
struct ProjectorShape {
    Index inputs = 0, outputs = 0;                ///< e_s and e_t
    Index layers = 2;                             ///< Linears, 1 to 3
    Index hidden = 0;                             ///< h, 0 for h = e_t
    std::string prefix = projector_layer_prefix;  ///< what the parameters' names begin with
};

/// PromptKD's projector (section 3.2 of the paper): Linear(e_s → h), BatchNorm, ReLU, Linear(h → e_t). The paper's has
/// these two layers and h = e_t; one Linear(e_s → e_t), and three with a further hidden layer, are its ablation.
/// Parameters carry the published checkpoint's
/// names `VPT_image_trans.conv1.{0,1,3}.{weight,bias}`, Linears stored as 1×1 convolutions (out, in, 1, 1).
template <Device D>
class Projector {
public:
    using T = typename D::Scalar;

    /// Saved activations of one training forward pass.
    struct Tape {
        Matrix<const T> x;  ///< the input
        /// What one layer leaves.
        struct Layer {
            BatchNormTape<T> norm;  ///< of BatchNorm
            Matrix<T> active;       ///< the ReLU's result
        };
        std::vector<Layer> layers;  ///< of all but the last
        DataParallel<D> parallel;   ///< whose rows BatchNorm took together
    };

    /// Registers the parameters in `params`; bind those before anything else.
    Projector(D& device, ParamSet<D>& params, const ProjectorShape& shape)
        : prefix_(shape.prefix), outputs_(shape.outputs), hidden_(shape.hidden > 0 ? shape.hidden : shape.outputs) {
        const Index layers = shape.layers;
        require(layers >= 1 && layers <= 3, "the projector has 1, 2 or 3 layers, not ", layers);
        for (Index i = 0; i < layers; ++i) {
            const std::string linear = prefix_ + std::to_string(3 * i);
            const Index width = i + 1 == layers ? shape.outputs : hidden_;
            linears_.push_back({&params.add(linear + ".weight", {width, i == 0 ? shape.inputs : hidden_, 1, 1}),
                                &params.add(linear + ".bias", {width})});
            if (i + 1 == layers) break;
            const std::string norm = prefix_ + std::to_string(3 * i + 1);
            Norm n;
            n.name = norm;
            n.weight = &params.add(norm + ".weight", {hidden_});
            n.bias = &params.add(norm + ".bias", {hidden_});
            n.running_mean = Buffer<D, T>(device, std::vector<T>(static_cast<std::size_t>(hidden_), T(0)));
            n.running_variance = Buffer<D, T>(device, std::vector<T>(static_cast<std::size_t>(hidden_), T(1)));
            norms_.push_back(std::move(n));
        }
    }

    /// U(±1/√fan_in) for the Linears; BatchNorm 1 / 0, running statistics 0 / 1.
    void initialize(D& device, ParamSet<D>& params, std::uint64_t seed) {
        for (std::size_t i = 0; i < linears_.size(); ++i)
            initialize_linear(params, prefix_ + std::to_string(3 * i), seed);
        for (Norm& n : norms_) {
            initialize_constant(params, n.name + ".weight", 1);
            initialize_constant(params, n.name + ".bias", 0);
            upload(device, n.running_mean, std::vector<T>(static_cast<std::size_t>(hidden_), T(0)));
            upload(device, n.running_variance, std::vector<T>(static_cast<std::size_t>(hidden_), T(1)));
            n.batches = 0;
        }
    }

    /// Running statistics from a file; where it has none they start at 0 / 1 (as published initial states do).
    void load_statistics(D& device, const TensorMap& map, const std::string& from = "") {
        for (Norm& n : norms_) {
            const std::string mean = from + n.name + ".running_mean", variance = from + n.name + ".running_var";
            if (!map.contains(mean) && !map.contains(variance)) continue;
            upload(device, n.running_mean, map.at(mean, {hidden_}).template to<T>());
            upload(device, n.running_variance, map.at(variance, {hidden_}).template to<T>());
            const std::string batches = from + n.name + ".num_batches_tracked";
            if (map.contains(batches)) n.batches = map.at(batches).template to<std::int64_t>().at(0);
        }
    }

    /// BatchNorm's running statistics under the published names, with `to` in front.
    void save_statistics(TensorMap& map, const std::string& to = "") const {
        for (const Norm& n : norms_) {
            map.tensors[to + n.name + ".running_mean"] = make_tensor(n.running_mean.to_host(), {hidden_});
            map.tensors[to + n.name + ".running_var"] = make_tensor(n.running_variance.to_host(), {hidden_});
            map.tensors[to + n.name + ".num_batches_tracked"] = make_tensor(std::vector<std::int64_t>{n.batches}, {});
        }
    }

    /// Number of Linears.
    Index layers() const { return static_cast<Index>(linears_.size()); }
    /// Values of a row that comes out.
    Index outputs() const { return outputs_; }
    /// h, the width of the hidden layers.
    Index hidden() const { return hidden_; }

    /// y (rows, outputs) from x (rows, inputs), with the batch's statistics (of all ranks), which also move the running
    /// ones.
    void forward_training(const Workspace<D>& w, Matrix<const T> x, Matrix<T> y, Tape& tape,
                          const DataParallel<D>& parallel = {}) {
        tape.x = x;
        tape.parallel = parallel.batch_norm();
        tape.layers.resize(norms_.size());
        for (std::size_t i = 0; i < norms_.size(); ++i) {
            typename Tape::Layer& t = tape.layers[i];
            t.norm.x_hat = keep<T>(w, x.rows, hidden_);
            t.active = keep<T>(w, x.rows, hidden_);
            t.norm.variance = keep<T>(w, hidden_);
            linear_forward(w.device, linears_[i].layer(), x, t.active);
            batch_norm_forward(w, norms_[i].view(), t.active, t.norm, t.active, tape.parallel);
            relu_forward(w.device, t.active, t.active);
            x = t.active;
        }
        linear_forward(w.device, linears_.back().layer(), x, y);
    }

    /// A training pass was queued, which moved the running statistics.
    void count_batch() {
        for (Norm& n : norms_) ++n.batches;
    }

    /// y (rows, outputs) with the running statistics.
    void forward_inference(const Workspace<D>& w, Matrix<const T> x, Matrix<T> y) const {
        const WorkspaceScope scope(w);
        for (std::size_t i = 0; i < norms_.size(); ++i) {
            const Matrix<T> out = scratch<T>(w, x.rows, hidden_);
            linear_forward(w.device, linears_[i].layer(), x, out);
            batch_norm_inference(w.device, norms_[i].frozen(), out, out);
            relu_forward(w.device, out, out);
            x = out;
        }
        linear_forward(w.device, linears_.back().layer(), x, y);
    }

    /// Adds the parameters' gradients; dy (rows, outputs) is overwritten; dx (rows, inputs) unless it has no data.
    void backward(const Workspace<D>& w, Matrix<T> dy, Matrix<T> dx, const Tape& tape) {
        const WorkspaceScope scope(w);
        for (std::size_t i = norms_.size(); i > 0; --i) {
            const typename Tape::Layer& t = tape.layers[i - 1];
            const Matrix<T> next = scratch<T>(w, dy.rows, hidden_);
            add_linear_gradients(w.device, linears_[i].layer(), t.active, dy);
            linear_backward(w.device, linears_[i].layer(), dy, next);
            relu_backward(w.device, t.active, next);
            batch_norm_backward(w, norms_[i - 1].view(), t.norm, next, tape.parallel);
            dy = next;
        }
        add_linear_gradients(w.device, linears_.front().layer(), tape.x, dy);
        if (dx.data) linear_backward(w.device, linears_.front().layer(), dy, dx);
    }

private:
    struct Norm {
        std::string name;
        const Param<T>* weight = nullptr;
        const Param<T>* bias = nullptr;
        Buffer<D, T> running_mean, running_variance;
        std::int64_t batches = 0;
        BatchNormView<T> view() {
            return {weight->value,       bias->value,  running_mean.data(), running_variance.data(),
                    running_mean.size(), weight->grad, bias->grad};
        }
        BatchNormView<const T> frozen() const {
            return {weight->value, bias->value, running_mean.data(), running_variance.data(), running_mean.size()};
        }
    };

    static void upload(D& device, Buffer<D, T>& buffer, const std::vector<T>& values) {
        device.upload(buffer.data(), values.data(), values.size() * sizeof(T));
        device.synchronize();
    }

    std::string prefix_;
    Index outputs_, hidden_;
    std::vector<LinearParams<T>> linears_;
    std::vector<Norm> norms_;
};

}  // namespace promptkd
