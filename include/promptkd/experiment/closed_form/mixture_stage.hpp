// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/closed_form/mixture_fit.hpp>
#include <promptkd/experiment/distillation_setup.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// What a distillation does besides gradient descent: the fit in closed form in its place, mixture and guard behind it.
template <Device D>
class MixtureStage {
public:
    using T = typename D::Scalar;

    /// Holds images out of `setup`'s where gradient descent will need them for the mixing weight. `setup` must outlive
    /// this. Throws Error when student and teacher cannot be compared.
    explicit MixtureStage(DistillationSetup<D>& setup) : setup_(setup), all_images_(setup.images.train) {
        const DistillationSpec& spec = setup.spec;
        if (spec.in_closed_form() || !spec.is_mixed()) return;
        const bool as_they_are = spec.loop.augmentation == Augmentation::none;
        require(!setup.teachers.empty() || (!setup.stored->features && as_they_are), spec.stored_targets,
                ": a mixture or a guard compares student and teacher by their logits on the images as they are, not on "
                "augmented views; give the teacher beside these targets");
        if (spec.mixes()) hold_out();
    }

    /// Fits a student of projector alone in closed form, and its mixture: each image is encoded once.
    TrainingOutcome fit(Student<D>& student) {
        TrainingOutcome outcome;
        outcome.images = all_images_.size();
        outcome.classes = setup_.classes();
        setup_.observer.on_start({outcome.images, outcome.classes, student.params().size(), 0});
        StudentFit<D> fit(setup_.device, setup_.spec, setup_.observer, setup_.ranks);
        fit.encode(setup_.student_model, all_images_, setup_.teachers, setup_.stored ? &setup_.stored->table : nullptr,
                   setup_.vectors);
        const std::vector<T> own = setup_.student_text();
        ClassGeometry geometry;
        geometry.classes = outcome.classes;
        geometry.class_vectors.assign(setup_.vectors.begin(), setup_.vectors.end());
        geometry.student_text.assign(own.begin(), own.end());
        geometry.student_scale = student.logit_scale();
        const ClosedFormFit found = fit.solve(geometry);
        student.load(projector_tensors(found));
        mixed_ = std::make_unique<MixedStudent>(mixture_of(found, geometry), geometry.class_vectors);
        closed_form_ = fit.summary(found);
        summary_ = summary_of(found, std::min(found.images, setup_.spec.closed_form.subset));
        explain(*closed_form_, setup_.observer);
        explain(*summary_, found.images, setup_.observer);
        outcome.training.progress.unreadable = fit.unreadable();
        outcome.training.progress.seconds = closed_form_->encoding_seconds + closed_form_->fit_seconds;
        return outcome;
    }

    /// Fits mixture and guard around a trained student.
    void add(Student<D>& student) {
        const DistillationSpec& spec = setup_.spec;
        const std::vector<T> own = setup_.student_text();
        Mixture mixture;
        mixture.classes = setup_.classes();
        mixture.width = setup_.student_model.vision().embed();
        mixture.student_text.assign(own.begin(), own.end());
        mixture.zero_shot_scale = student.logit_scale();
        mixture.distilled_scale = student.logit_scale();
        mixture.features = spec.mixture.features;
        const std::vector<Index> judged =
            spec.mixes() ? held_out_ : choice_subset(all_images_.size(), most_compared, spec.loop.seed);
        const Dataset compared = subset(all_images_, judged);
        MixtureFitInput<D> in{all_images_, compared, setup_.teachers, held_targets_, !spec.mixes()};
        if (setup_.teachers.empty() && !spec.mixes()) in.targets = table_rows<float>(setup_.stored->table, judged);
        summary_ =
            MixtureFit<D>(setup_.device, spec, setup_.observer, setup_.ranks).fit(student, mixture, setup_.vectors, in);
        mixed_ =
            std::make_unique<MixedStudent>(mixture, std::vector<double>(setup_.vectors.begin(), setup_.vectors.end()));
        explain(*summary_, all_images_.size(), setup_.observer);
    }

    /// Results of the mixture on labelled images; only once there is one.
    EvaluationResult evaluate(Student<D>& student, const Dataset& data, const std::string& stage,
                              std::optional<ClassSubset> subset) {
        const Index batch = setup_.spec.evaluation_batch;
        MixtureEncoder<D> encoder(setup_.device, student, mixed_->mixture(), batch);
        const EncodingStage how{stage, batch, setup_.observer};
        const FeatureSet<T> rows = encode_images(setup_.device, encoder, data, how, setup_.ranks);
        EvaluationResult found =
            evaluate_mixture(*mixed_, rows, distinct_names(data.class_names, data.class_ids), subset);
        found.images.clear();
        return found;
    }

    /// The mixture, once there is one.
    const Mixture* mixture() const { return mixed_ ? &mixed_->mixture() : nullptr; }
    /// How the student was fitted in closed form, once it is.
    const std::optional<ClosedFormSummary>& closed_form() const { return closed_form_; }
    /// How far the student is trusted beside its zero-shot self, once that is known.
    const std::optional<MixtureSummary>& summary() const { return summary_; }

private:
    static constexpr Index most_compared = 1000;

    /// Every tenth image, two at least.
    void hold_out() {
        const Index n = all_images_.size(), count = std::max<Index>(2, n / 10);
        require(n > count, "a mixing weight needs images held out of the training: give at least 3, there are ", n);
        std::vector<Index> order = shuffled(n, setup_.spec.loop.seed, 0);
        std::sort(order.begin(), order.begin() + count);
        std::sort(order.begin() + count, order.end());
        held_out_.assign(order.begin(), order.begin() + count);
        const std::vector<Index> kept(order.begin() + count, order.end());
        setup_.images.train = subset(all_images_, kept);
        setup_.spec.loop.batch = whole_batch(setup_.spec.loop, setup_.images.train.size(), setup_.observer);
        if (!setup_.stored) return;
        held_targets_ = table_rows<float>(setup_.stored->table, held_out_);
        setup_.stored->table = keep_images(setup_.stored->table, kept);
    }

    DistillationSetup<D>& setup_;
    Dataset all_images_;
    std::vector<Index> held_out_;      ///< positions of the images held out
    std::vector<float> held_targets_;  ///< their stored targets, where there are any
    std::unique_ptr<MixedStudent> mixed_;
    std::optional<ClosedFormSummary> closed_form_;
    std::optional<MixtureSummary> summary_;
};

}  // namespace promptkd
