// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/train/distiller.hpp>
#include <promptkd/train/evaluate.hpp>
#include <promptkd/train/training_loop.hpp>

#include <memory>

namespace promptkd {

/// A distillation as a TrainingLoop runs it: batches whose labels are never looked at. Images are uploaded while the
/// device works on the batch before, and losses read back one step later. With `graph` (GraphDevice only) the second
/// step of every learning rate is recorded and repeated from then on with one call a step.
template <Device D>
class DistillationTarget final : public TrainingTarget {
public:
    using T = typename D::Scalar;

    /// `batch`: images of a step. Distiller and student must outlive this.
    DistillationTarget(Distiller<D>& distiller, Student<D>& student, Index batch, bool graph = false)
        : distiller_(distiller),
          student_(student),
          feed_(student.device(), batch, student.model().vision().resolution()),
          loss_(student.device()) {
        if (!graph) return;
        if constexpr (GraphDevice<D>) {
            const Index resolution = student.model().vision().resolution();
            recorded_ = std::make_unique<Recorded>(student.device(), batch, 3 * resolution * resolution);
        } else {
            fail("steps are recorded in graphs on a GPU only (--device cuda)");
        }
    }

    void start(const Batch& batch, double rate) override {
        const T* images = feed_.upload(batch);
        if (recorded_)
            recorded_step(images, batch, rate);
        else
            distiller_.step(images, batch.size, rate);
        loss_.queue(distiller_.loss_on_device());
    }
    double finish() override { return static_cast<double>(loss_.read()); }
    double step(const Batch& batch, double rate) override {
        start(batch, rate);
        return finish();
    }
    void save(TensorMap& state) const override {
        student_.save(state);
        distiller_.save(state);
    }
    void restore(const TensorMap& state) override {
        student_.load(state);
        distiller_.load(state);
    }

private:
    struct NoGraph {};
    template <class X>
    struct GraphOf {
        using type = NoGraph;
    };
    template <GraphDevice X>
    struct GraphOf<X> {
        using type = typename X::Graph;
    };
    struct Recorded {
        Recorded(D& device, Index batch, Index image_values)
            : images(device, batch * image_values), image(image_values) {}
        Buffer<D, T> images;  ///< where the recorded step reads
        Index image;          ///< values of one
        typename GraphOf<D>::type graph{};
        Index steps = 0, batch = 0;  ///< steps with this rate so far; the graph's number of images, 0: none yet
        double rate = 0;
    };

    void recorded_step(const T* images, const Batch& batch, double rate) {
        if constexpr (GraphDevice<D>) {
            D& device = student_.device();
            Recorded& r = *recorded_;
            device.copy(r.images.data(), images, static_cast<std::size_t>(batch.size * r.image) * sizeof(T));
            if (rate != r.rate) r.steps = r.batch = 0, r.rate = rate;
            if (r.batch == batch.size) {
                device.replay(r.graph);
                distiller_.replayed();
            } else if (r.steps == 0) {  // as it is: libraries load what they need, the optimizer begins
                distiller_.step(r.images.data(), batch.size, rate);
            } else {
                device.begin_capture();
                distiller_.step(r.images.data(), batch.size, rate);
                r.graph = device.end_capture(), r.batch = batch.size;
                device.replay(r.graph);
            }
            ++r.steps;
        }
    }

    Distiller<D>& distiller_;
    Student<D>& student_;
    ImageFeed<D> feed_;
    LaterNumber<D> loss_;
    std::unique_ptr<Recorded> recorded_;
};

/// Distils over `data` as `config` says (its resolution is set here); `graph`: see DistillationTarget.
template <Device D>
TrainingResult run_distillation(Distiller<D>& distiller, Student<D>& student, const Dataset& data,
                                TrainingLoopConfig config, bool graph = false) {
    config.resolution = student.model().vision().resolution();
    const Index batch = slice_of(config.batch, config.rank, config.ranks).count;
    DistillationTarget<D> target(distiller, student, batch, graph);
    return TrainingLoop(target, data, config).run();
}

}  // namespace promptkd
