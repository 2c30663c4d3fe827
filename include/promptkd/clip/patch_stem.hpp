// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/config.hpp>
#include <promptkd/clip/folded_convolution.hpp>
#include <promptkd/op/convolution.hpp>
#include <promptkd/op/patches.hpp>

#include <vector>

namespace promptkd {

/// MobileCLIP-B's patch embedding (Vasu et al., CVPR 2024): convolution, BatchNorm, GELU; convolution, BatchNorm, GELU;
/// convolution with bias. None overlaps with itself (stride = kernel), so each is one product. Its weights are frozen.
template <Device D>
class PatchStem {
public:
    using T = typename D::Scalar;
    using A = typename D::Activation;

    PatchStem() = default;
    /// Reads the stem of an image tower.
    PatchStem(WeightReader<D>& reader, FrozenStore<D>& store, const VisionConfig& config)
        : grid_(config.grid), resolution_(config.resolution()) {
        using schema::Role;
        for (const Role role : {Role::convolution_1, Role::convolution_2, Role::convolution_3})
            kernels_.push_back(reader.tensor(role).shape[3]);
        first_ = read_folded_convolution(reader, store, Role::convolution_1, PixelOrder::channels_first);
        second_ = read_folded_convolution(reader, store, Role::convolution_2);
        third_ = last_convolution(reader, store);
    }

    /// embedded (batch·cells, d) of images (batch, 3·resolution²).
    void forward(const Workspace<D>& w, Matrix<const T> images, Matrix<A> embedded) const {
        const WorkspaceScope scope(w);
        const Index side = grid_ * kernels_[1] * kernels_[2], batch = images.rows;
        const PatchGrid grid{side, kernels_[0], resolution_};
        const MapShape one{batch, side, side, first_.outputs()};
        const Matrix<A> patches = scratch<A>(w, one.pixels(), grid.patch_values());
        extract_patches(w.device, images, grid, patches);
        const Matrix<A> x = scratch<A>(w, one.pixels(), one.channels);
        linear_forward(w.device, first_, patches, x);
        gelu_forward(w.device, Gelu::exact, x, x);
        const MapShape two{batch, one.height / kernels_[1], one.width / kernels_[1], second_.outputs()};
        const Matrix<A> y = scratch<A>(w, two.pixels(), two.channels);
        convolve(w, second_, x, one, kernels_[1], y);
        gelu_forward(w.device, Gelu::exact, y, y);
        convolve(w, third_, y, two, kernels_[2], embedded);
    }

private:
    /// The last convolution, without BatchNorm, as (out, y, x, channel).
    static Linear<T> last_convolution(WeightReader<D>& reader, FrozenStore<D>& store) {
        const HostTensor weight = reader.tensor(schema::Role::convolution_3);
        const Index out = weight.shape[0], in = weight.shape[1], pixels = weight.shape[2] * weight.shape[3];
        const std::vector<T> w = weight.template to<T>();
        std::vector<T> turned(w.size());
        for (Index o = 0; o < out; ++o)
            for (Index i = 0; i < in; ++i)
                for (Index p = 0; p < pixels; ++p)
                    turned[static_cast<std::size_t>((o * pixels + p) * in + i)] =
                        w[static_cast<std::size_t>((o * in + i) * pixels + p)];
        const HostTensor bias = reader.tensor(schema::Role::convolution_3, schema::Part::bias);
        return {store.matrix(make_tensor(std::move(turned), {out, pixels * in}), out, pixels * in), store.vector(bias),
                store.activation_vector(bias)};
    }

    static void convolve(const Workspace<D>& w, const Linear<T>& layer, Matrix<const A> x, const MapShape& shape,
                         Index kernel, Matrix<A> y) {
        const WorkspaceScope scope(w);
        const Matrix<A> blocks = scratch<A>(w, y.rows, layer.inputs());
        gather_blocks(w.device, x, shape, kernel, blocks);
        linear_forward(w.device, layer, blocks, y);
    }

    Index grid_ = 0, resolution_ = 0;
    std::vector<Index> kernels_;
    Linear<T> first_, second_, third_;
};

}  // namespace promptkd
