// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/kl_step.hpp>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Told what a fit does: stage, images done, images in all.
using FitProgress = std::function<void(const std::string&, Index, Index)>;

/// Whom a fit tells what it does, and who computes it.
template <Device D>
struct FitRunning {
    FitProgress progress = {};  ///< may be empty
    Ranks<D> ranks = {};        ///< each sees all features, and sums a part of the columns
};

/// The passes of a closed-form fit over the features of some images: sums in double over blocks, in the order of the
/// images. Those of several parts of the images can be added (merge()). Several ranks, each of which sees all features,
/// divide the sums; the bits are those of one process.
template <Device D>
class ClosedFormPasses {
public:
    using T = typename D::Scalar;

    /// Over `features`, `block` images at a time. Device and features must outlive this.
    ClosedFormPasses(D& device, const DistillationFeatures<T>& features, Index block, FitRunning<D> running = {})
        : device_(device), features_(features), block_(block), running_(std::move(running)) {}

    /// Pass 1.
    FeatureMoments moments() const {
        MomentSums<D> sums(device_, features_.student_width(), running_.ranks);
        run("moments", [&](const T* x, const T*, Index n) { sums.add(x, n); });
        return sums.result();
    }

    /// Pass 2, behind the first layer `layer`.
    RidgeMoments normal_equations(const HiddenLayer& layer) const {
        const HiddenFeatures<D> hidden(device_, layer);
        Buffer<D, T> phi(device_, block_ * hidden.width());
        RidgeSums<D> sums(device_, hidden.width(), features_.teacher_width(), running_.ranks);
        run("normal equations", [&](const T* x, const T* t, Index n) {
            hidden.forward(Matrix<const T>(x, n, features_.student_width()), phi.matrix(n, hidden.width()));
            sums.add(phi.data(), t, n);
        });
        return sums.result();
    }

    /// Pass 4, at the ridge solution `ridge`.
    StepMoments step(const HiddenLayer& layer, const OutputLayer& ridge, const ClassGeometry& geometry) const {
        const HiddenFeatures<D> hidden(device_, layer);
        Buffer<D, T> phi(device_, block_ * hidden.width());
        StepSums<D> sums(device_, ridge, geometry, block_, running_.ranks);
        run("step", [&](const T* x, const T* t, Index n) {
            hidden.forward(Matrix<const T>(x, n, features_.student_width()), phi.matrix(n, hidden.width()));
            sums.add(phi.data(), t, n);
        });
        return sums.result();
    }

private:
    /// Calls add(x, t, n) with blocks of features in device memory.
    template <class F>
    void run(const char* stage, const F& add) const {
        const Index e_s = features_.student_width(), e_t = features_.teacher_width(), images = features_.images();
        std::vector<T> x(static_cast<std::size_t>(block_ * e_s));
        std::vector<T> t(static_cast<std::size_t>(block_ * e_t));
        Buffer<D, T> device_x(device_, block_ * e_s);
        Buffer<D, T> device_t(device_, block_ * e_t);
        for (Index first = 0; first < images; first += block_) {
            const Index n = std::min(block_, images - first);
            features_.read(first, n, x.data(), t.data());
            device_.upload(device_x.data(), x.data(), static_cast<std::size_t>(n * e_s) * sizeof(T));
            device_.upload(device_t.data(), t.data(), static_cast<std::size_t>(n * e_t) * sizeof(T));
            add(static_cast<const T*>(device_x.data()), static_cast<const T*>(device_t.data()), n);
            device_.synchronize();  // x and t are written again
            if (running_.progress) running_.progress(stage, first + n, images);
        }
    }

    D& device_;
    const DistillationFeatures<T>& features_;
    Index block_;
    FitRunning<D> running_;
};

}  // namespace promptkd
