// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/distiller.hpp>
#include <promptkd/distill/teachers.hpp>
#include <promptkd/train/accumulation.hpp>
#include <promptkd/train/image_feed.hpp>
#include <promptkd/train/loop.hpp>

#include <memory>

namespace promptkd {

/// The teacher that a Distiller was given, as a source of targets.
template <Device D>
class DistillerTeacher final : public TargetSource<D> {
public:
    using T = typename D::Scalar;
    explicit DistillerTeacher(Distiller<D>& distiller) : distiller_(distiller) {}
    Index size() const override { return distiller_.target_size(); }
    bool on_device() const override { return true; }
    const T* targets(const Batch& batch, const T* images, Index) override {
        return distiller_.teacher_target(images, batch.size);
    }

private:
    Distiller<D>& distiller_;
};

/// A distillation as a TrainingLoop runs it: batches whose labels are never looked at. Images are uploaded while the
/// device works on the batch before, and losses read back one step later. With `graph` (GraphDevice only) the second
/// step of every learning rate is recorded and repeated from then on with one call a step.
template <Device D>
class DistillationTarget final : public TrainingTarget {
public:
    using T = typename D::Scalar;

    /// `batch`: images of a step, worked through in `parts` micro-batches (each has BatchNorm statistics of its own;
    /// the host then waits for each loss). All references must outlive this. Throws Error when the source's targets are
    /// not what the distiller compares with.
    DistillationTarget(Distiller<D>& distiller, Student<D>& student, TargetSource<D>& source, Index batch,
                       Index parts = 1, bool graph = false)
        : distiller_(distiller),
          student_(student),
          source_(source),
          parts_(parts),
          feed_(student.device(), batch, student.model().vision().resolution()),
          loss_(student.device()) {
        require_parts(batch, parts);
        require(source.size() == distiller.target_size(), "the teacher's targets have ", source.size(),
                " values an image, the student is compared in ", distiller.target_size());
        if (!graph) return;
        if constexpr (GraphDevice<D>) {
            require(parts == 1 && source.on_device(),
                    "a step can be recorded only with a live teacher and the whole batch at once");
            const Index resolution = student.model().vision().resolution();
            recorded_ = std::make_unique<Recorded>(student.device(), batch, 3 * resolution * resolution);
        } else {
            fail("steps are recorded in graphs on a GPU only (--device cuda)");
        }
    }

    void begin_epoch(Index epoch) override { epoch_ = epoch; }

    void begin_step(const Batch& batch, double rate) override {
        if (parts_ > 1) return TrainingTarget::begin_step(batch, rate);
        const T* images = feed_.upload(batch);
        if (recorded_)
            recorded_step(images, batch, rate);
        else
            queue_step(images, batch, rate);
        loss_.queue(distiller_.loss_on_device());
    }
    double end_step() override { return parts_ > 1 ? TrainingTarget::end_step() : static_cast<double>(loss_.read()); }
    double step(const Batch& batch, double rate) override {
        if (parts_ == 1) {
            begin_step(batch, rate);
            return end_step();
        }
        const T* images = feed_.upload(batch);
        const T* targets = source_.targets(batch, images, epoch_);
        const Index resolution = student_.model().vision().resolution(), values = 3 * resolution * resolution;
        const double loss = accumulate_parts(student_.params(), batch.size, parts_, [&](Index first, Index n) {
            distiller_.accumulate(images + first * values, targets + first * source_.size(), n, first == 0);
            return distiller_.loss();
        });
        distiller_.update(rate);
        return loss;
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

    void queue_step(const T* images, const Batch& batch, double rate) {
        distiller_.step_with_target(images, source_.targets(batch, images, epoch_), batch.size, rate);
    }

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
                queue_step(r.images.data(), batch, rate);
            } else {
                device.begin_capture();
                queue_step(r.images.data(), batch, rate);
                r.graph = device.end_capture(), r.batch = batch.size;
                device.replay(r.graph);
            }
            ++r.steps;
        }
    }

    Distiller<D>& distiller_;
    Student<D>& student_;
    TargetSource<D>& source_;
    Index parts_, epoch_ = 0;
    ImageFeed<D> feed_;
    DeferredScalar<D> loss_;
    std::unique_ptr<Recorded> recorded_;
};

/// Distils over `data` as `config` says (its resolution is set here) with the distiller's own teacher; `graph`: see
/// DistillationTarget.
template <Device D>
TrainingResult run_distillation(Distiller<D>& distiller, Student<D>& student, const Dataset& data,
                                TrainingLoopConfig config, bool graph = false) {
    config.resolution = student.model().vision().resolution();
    const Index batch = slice_of(config.batch, config.rank, config.ranks).count;
    DistillerTeacher<D> teacher(distiller);
    DistillationTarget<D> target(distiller, student, teacher, batch, 1, graph);
    return TrainingLoop(target, data, config).run();
}

}  // namespace promptkd
