// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/train/image_feed.hpp>
#include <promptkd/train/trainable.hpp>
#include <promptkd/train/trainer.hpp>

#include <memory>

namespace promptkd {

/// What a Trainer learns from beside the images: labels (LabelFeed) or a teacher's targets (TeacherSource), size()
/// values an image.
///   prepare(batch, epoch): the host's part for the batch of a step, e.g. an upload, outside of any recording.
///   targets(images, n): size()·n values in device memory for the batch that was prepared, whose device images are
///     `images`; valid until the next prepare().
///   recordable(): whether targets() is work of the device alone, which can be recorded and repeated.
template <class S, class X>
concept SupervisionOf = Trainer<X> &&
    requires(S& s, const S& c, const Batch& batch, const typename X::DeviceType::Scalar* images, Index n) {
    { c.size() } -> std::convertible_to<Index>;
    { c.recordable() } -> std::convertible_to<bool>;
    s.prepare(batch, n);
    { s.targets(images, n) } -> std::convertible_to<const typename X::Supervision*>;
};

/// How the steps of a run are made.
struct StepOptions {
    Index batch = 8;          ///< images of a step in this process
    Index micro_batches = 1;  ///< parts that a batch is worked through in, whose gradients add up to the whole batch's
                              ///< (a BatchNorm sees one part at a time)
    bool record = false;      ///< GraphDevice only: the second step of every learning rate is recorded and repeated
                              ///< from then on with one call a step
};

/// Throws Error unless a batch can be worked through in `parts` equal parts.
inline void require_parts(Index batch, Index parts) {
    require(parts >= 1 && batch % parts == 0, "a batch of ", batch, " images cannot be worked through in ", parts,
            " equal parts");
}

namespace detail {

struct NoGraph {};
template <class D>
struct GraphOf {
    using type = NoGraph;
};
template <GraphDevice D>
struct GraphOf<D> {
    using type = typename D::Graph;
};

/// A step that a device has recorded.
template <Device D>
struct RecordedStep {
    RecordedStep(D& device, Index values) : images(device, values) {}
    Buffer<D, typename D::Scalar> images;  ///< where the recorded step reads
    typename GraphOf<D>::type graph{};
    Index steps = 0;  ///< with this rate so far
    Index batch = 0;  ///< the graph's number of images; 0: none is recorded
    double rate = 0;
};

}  // namespace detail

/// A Trainer as a TrainingLoop drives it: images are uploaded while the device works on the batch before, a batch is
/// worked through in micro-batches where asked for, losses are read back one step later, and steps are recorded and
/// repeated where the device can.
template <Trainer X, class S>
requires SupervisionOf<S, X>
class StepPipeline final : public Trainable {
public:
    /// Where it runs.
    using D = typename X::DeviceType;
    using T = typename D::Scalar;

    /// Images as `input` makes them. Trainer and supervision must outlive this. Throws Error for a batch that the
    /// micro-batches do not divide, and for steps that cannot be recorded.
    StepPipeline(X& trainer, S& supervision, const Preprocessing& input, const StepOptions& options)
        : device_(trainer.params().device()),
          trainer_(trainer),
          supervision_(supervision),
          parts_(options.micro_batches),
          feed_(device_, options.batch, input),
          part_losses_(device_, options.micro_batches),
          losses_(device_, options.micro_batches) {
        require_parts(options.batch, options.micro_batches);
        if (options.record) prepare_recording(options);
    }

    void begin_epoch(Index epoch) override { epoch_ = epoch; }

    void begin_step(const Batch& batch, double rate) override {
        const T* images = feed_.upload(batch);
        supervision_.prepare(batch, epoch_);
        if (recorded_)
            recorded_step(images, batch.size, rate);
        else
            step(images, batch.size, rate);
        losses_.queue(parts_ > 1 ? part_losses_.data() : trainer_.loss_on_device());
    }

    double end_step() override {
        const T* parts = losses_.read();
        double sum = 0;
        for (Index i = 0; i < parts_; ++i) sum += static_cast<double>(parts[i]);
        return sum / static_cast<double>(parts_);
    }

    void end_epoch(Index epoch) override { trainer_.end_epoch(epoch); }
    void finish() override { trainer_.finish(); }
    void save(TensorMap& state) const override { trainer_.save(state); }
    void load(const TensorMap& state) override { trainer_.load(state); }

private:
    void prepare_recording(const StepOptions& options) {
        if constexpr (GraphDevice<D>) {
            require(
                options.micro_batches == 1 && supervision_.recordable(),
                "a step can be recorded only with the whole batch at once and a teacher that the device runs alone");
            recorded_ = std::make_unique<detail::RecordedStep<D>>(device_, options.batch * feed_.image_values());
        } else {
            fail("steps are recorded on a GPU only");
        }
    }

    void step(const T* images, Index n, double rate) {
        const auto* targets = supervision_.targets(images, n);
        ParamSet<D>& params = trainer_.params();
        params.clear_gradients();
        const Index size = n / parts_;
        for (Index i = 0; i < parts_; ++i) {
            trainer_.accumulate(images + i * size * feed_.image_values(), targets + i * size * supervision_.size(),
                                size);
            if (parts_ > 1) device_.copy(part_losses_.data() + i, trainer_.loss_on_device(), sizeof(T));
        }
        if (parts_ > 1) scale(device_, 1.0 / static_cast<double>(parts_), params.gradients(), params.size());
        trainer_.update(rate);
    }

    void recorded_step(const T* images, Index n, double rate) {
        if constexpr (GraphDevice<D>) {
            detail::RecordedStep<D>& r = *recorded_;
            device_.copy(r.images.data(), images, static_cast<std::size_t>(n * feed_.image_values()) * sizeof(T));
            if (rate != r.rate) {
                r.steps = 0;
                r.batch = 0;
                r.rate = rate;
            }
            if (r.batch == n) {
                device_.replay(r.graph);
                trainer_.replayed();
            } else if (r.steps == 0) {  // as it is: libraries load what they need, the optimizer begins
                step(r.images.data(), n, rate);
            } else {
                device_.begin_capture();
                step(r.images.data(), n, rate);
                r.graph = device_.end_capture();
                r.batch = n;
                device_.replay(r.graph);
            }
            ++r.steps;
        }
    }

    D& device_;
    X& trainer_;
    S& supervision_;
    Index parts_, epoch_ = 0;
    ImageFeed<D> feed_;
    Buffer<D, T> part_losses_;
    DeferredValues<D> losses_;
    std::unique_ptr<detail::RecordedStep<D>> recorded_;
};

}  // namespace promptkd
