// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/closed_form/mixture_fit.hpp>
#include <promptkd/experiment/closed_form/pair_encoder.hpp>
#include <promptkd/experiment/closed_form/sharded_fit.hpp>
#include <promptkd/experiment/distillation_setup.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// What a mixture is evaluated on.
struct MixtureEvaluation {
    const Dataset& data;                ///< labelled images
    const std::string& stage;           ///< the observer's name for it
    std::optional<ClassSubset> subset;  ///< a half of the classes; empty: all, and both halves
};

/// Results of a student's mixture on labelled images.
template <Device D>
EvaluationResult evaluate_mixed(DistillationSetup<D>& setup, Student<D>& student, MixedStudent& mixed,
                                const MixtureEvaluation& on) {
    const Index batch = setup.spec.evaluation_batch;
    MixtureEncoder<D> encoder(setup.device, student, mixed.mixture(), batch);
    const EncodingStage how{on.stage, batch, setup.observer};
    const auto rows = encode_images(setup.device, encoder, on.data, how, setup.ranks);
    EvaluationResult found =
        evaluate_mixture(mixed, rows, distinct_names(on.data.class_names, on.data.class_ids), on.subset);
    found.images.clear();
    return found;
}

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

    /// Fits a student of projector alone in closed form, and its mixture: each image is encoded once. Of a shard, and
    /// of shards that need another round, there are sums() alone.
    TrainingOutcome fit(Student<D>& student) {
        TrainingOutcome outcome;
        outcome.images = setup_.spec.scale.shard.of(all_images_.size()).count;
        outcome.classes = setup_.classes();
        setup_.observer.on_start({outcome.images, outcome.classes, student.params().size(), 0});
        StudentFit<D> fit(setup_);
        ClassGeometry geometry;
        geometry.classes = outcome.classes;
        geometry.class_vectors.assign(setup_.vectors.begin(), setup_.vectors.end());
        geometry.student_scale = student.logit_scale();
        if (!setup_.spec.scale.shard.is_part()) {
            const std::vector<T> own = setup_.student_text();
            geometry.student_text.assign(own.begin(), own.end());
        }
        const std::optional<ClosedFormFit> found = fitted(fit, geometry, outcome);
        outcome.training.progress.unreadable = fit.unreadable();
        if (!found) return outcome;
        student.load(projector_tensors(*found));
        mixed_ = std::make_unique<MixedStudent>(mixture_of(*found, geometry), geometry.class_vectors);
        closed_form_ = fit.summary(*found);
        summary_ = summary_of(*found);
        promptkd::explain(*closed_form_, setup_.observer);
        explain(*summary_, found->images, geometry.student_text);
        outcome.training.progress.seconds = closed_form_->encoding_seconds + closed_form_->fit_seconds;
        return outcome;
    }

    /// The file of sums that a fit left in the place of a student; empty: there is a student.
    const std::string& sums() const { return sums_; }

    /// Fits mixture and guard around a trained student.
    void add(Student<D>& student) {
        const std::vector<T> own = setup_.student_text();
        Mixture mixture = unfitted(student, {own.begin(), own.end()});
        summary_ = fit_mixture(student, mixture, most_compared);
        mixed_ =
            std::make_unique<MixedStudent>(mixture, std::vector<double>(setup_.vectors.begin(), setup_.vectors.end()));
        explain(*summary_, all_images_.size(), mixture.student_text);
    }

    /// Says how a trained student without a mixture compares with the teacher and with its frozen self, where both can
    /// be asked.
    void compare(Student<D>& student) {
        const bool as_they_are = setup_.spec.loop.augmentation == Augmentation::none;
        const bool ask = !setup_.teachers.empty() || (!setup_.stored->features && as_they_are);
        if (!ask) return tell_of_silence("its targets are not logits of the images as they are; give the teacher too");
        const std::vector<double> text = text_to_compare();
        if (text.empty()) return;
        Mixture mixture = unfitted(student, text);
        mixture.features = MixtureFeatures::plain;
        const MixtureSummary found = fit_mixture(student, mixture, most_looked_at);
        tell_alone(found.likeness, {found.likeness.images, all_images_.size()}, text);
    }

    /// The classes' texts as the student's encoder has them, for a comparison with its frozen self; empty, of which the
    /// observer is told why, where there are none.
    std::vector<double> text_to_compare() const {
        if (setup_.spec.vocabulary.empty() && setup_.spec.mixture.student_text.empty()) {
            tell_of_silence("that needs the vocabulary, or a file with the student's own class vectors");
            return {};
        }
        try {
            const std::vector<T> own = setup_.student_text();
            return {own.begin(), own.end()};
        } catch (const ResourceError&) {
            throw;
        } catch (const Error& error) {
            tell_of_silence(error.what());
            return {};
        }
    }

    /// Says how a student without a mixture compares, and warns. `looked`: at so many images of the distillation the
    /// teacher was looked at.
    void tell_alone(const TeacherLikeness& like, const Looked& looked, const std::vector<double>& student_text) {
        const bool adapted = setup_.spec.shape.training != EncoderTraining::frozen || setup_.spec.adapted.recipe;
        explain_likeness(like, false, adapted ? remedy::of_adaptation : remedy::of_gradient_descent, setup_.observer);
        tell_of_teacher(like.teacher, looked, student_text);
    }

    /// Warns of what the teacher looks like: of classes that it never chooses, where nothing guards the student, and of
    /// a teacher that seems to be the worse of the two.
    void tell_of_teacher(const TeacherLook& look, const Looked& looked, const std::vector<double>& student_text) {
        const DistillationSpec& spec = setup_.spec;
        const bool guarded = spec.guards() || (spec.is_best() && !spec.adapted.one_pass);
        if (!guarded) warn_of_absent_classes(look, setup_.class_names(), looked, setup_.observer);
        if (!looks_unsure(look) || setup_.teachers.empty()) return;
        if (mirrored_images() < std::min(fewest_mirrored, all_images_.size()))
            return warn_of_unsure_teacher(look, setup_.observer);
        warn_of_teacher(look, view_agreement(student_text), setup_.observer);
    }

    /// Results of the mixture on labelled images; only once there is one.
    EvaluationResult evaluate(Student<D>& student, const Dataset& data, const std::string& stage,
                              std::optional<ClassSubset> subset) {
        return evaluate_mixed(setup_, student, *mixed_, {data, stage, subset});
    }

    /// The mixture, once there is one.
    const Mixture* mixture() const { return mixed_ ? &mixed_->mixture() : nullptr; }
    /// How the student was fitted in closed form, once it is.
    const std::optional<ClosedFormSummary>& closed_form() const { return closed_form_; }
    /// How far the student is trusted beside its zero-shot self, once that is known.
    const std::optional<MixtureSummary>& summary() const { return summary_; }

private:
    /// Nothing where it was interrupted, or there are sums alone.
    std::optional<ClosedFormFit> fitted(StudentFit<D>& fit, ClassGeometry& geometry, TrainingOutcome& outcome) {
        const ScaleSpec& scale = setup_.spec.scale;
        ShardedFit<D> shards(setup_, fit);
        if (scale.merge) {
            std::optional<ClosedFormFit> found = shards.merge(geometry);
            sums_ = shards.sums();
            return found;
        }
        outcome.training.interrupted = !fit.encode(scale.shard.of(all_images_.size()));
        if (outcome.training.interrupted) return std::nullopt;
        if (!scale.shard.is_part()) return fit.solve(geometry);
        shards.sum();
        sums_ = shards.sums();
        return std::nullopt;
    }

    static constexpr Index most_compared = 1000, most_looked_at = 200;
    static constexpr Index fewest_mirrored = 8, small_embedding = 256;

    void tell_of_silence(const std::string& why) const {
        setup_.observer.on_note("the student is not compared with its frozen self: " + why);
    }

    /// The mixture of a student, before anything is fitted.
    Mixture unfitted(Student<D>& student, std::vector<double> student_text) const {
        Mixture mixture;
        mixture.classes = setup_.classes();
        mixture.width = setup_.student_model.vision().embed();
        mixture.student_text = std::move(student_text);
        mixture.zero_shot_scale = student.logit_scale();
        mixture.distilled_scale = student.logit_scale();
        mixture.features = setup_.spec.mixture.features;
        return mixture;
    }

    /// On the images held out, or at most `most` of those that it learned from.
    MixtureSummary fit_mixture(Student<D>& student, Mixture& mixture, Index most) {
        const DistillationSpec& spec = setup_.spec;
        const std::vector<Index> judged =
            spec.mixes() ? held_out_ : choice_subset(all_images_.size(), most, spec.loop.seed);
        const Dataset compared = subset(all_images_, judged);
        MixtureFitInput<D> in{all_images_, compared, setup_.teachers, held_targets_, !spec.mixes()};
        if (setup_.teachers.empty() && !spec.mixes()) in.targets = table_rows<float>(setup_.stored->table, judged);
        return MixtureFit<D>(setup_.device, spec, setup_.observer, setup_.ranks)
            .fit(student, mixture, setup_.vectors, in);
    }

    /// Tells the observer what was found of a mixture, and warns.
    void explain(const MixtureSummary& summary, Index images, const std::vector<double>& student_text) {
        explain_trust(summary, images, setup_.observer);
        explain_likeness(summary.likeness, true, summary.weight.chosen < 1 ? remedy::of_mixture : remedy::of_trust,
                         setup_.observer);
        tell_of_teacher(summary.likeness.teacher, {summary.likeness.images, images}, student_text);
    }

    /// Images whose mirror images both encoders are asked for, two passes each: one in a hundred, so that the whole
    /// stays near one pass over all of them; more by small encoders, which take no time.
    Index mirrored_images() const {
        const bool small = setup_.student_model.vision().embed() < small_embedding;
        const Index most = small ? most_looked_at : std::min(most_looked_at, all_images_.size() / 100);
        return std::min(all_images_.size(), most);
    }

    /// Asks teacher and zero-shot student for some images and their mirror images.
    ViewAgreement view_agreement(const std::vector<double>& student_text) {
        const Index batch = setup_.spec.evaluation_batch, classes = setup_.classes();
        const Dataset some =
            subset(all_images_, choice_subset(all_images_.size(), mirrored_images(), setup_.spec.loop.seed));
        const auto live = setup_.teachers.live(setup_.device, TeacherGives::logits, batch);
        PairEncoder<D> encoder(setup_.device, setup_.student_model, live.get(), batch, true);
        const EncodingStage how{"views", batch, setup_.observer};
        const FeatureSet<T> set = encode_images(setup_.device, encoder, some, how, setup_.ranks);
        const PairRows<T> rows(set.values, encoder);
        Cpu<double> host;
        const std::vector<double> z =
            detail::scaled_cosines(host, {rows.student.begin(), rows.student.end()}, student_text, classes, 1);
        const auto same = [&](const std::vector<double>& q) {
            const std::vector<Index> best = best_columns(q, classes, 0, classes);
            double count = 0;
            for (std::size_t i = 0; i < best.size(); i += 2) count += best[i] == best[i + 1];
            return 200 * count / static_cast<double>(best.size());
        };
        return {same({rows.teacher.begin(), rows.teacher.end()}), same(z), set.size()};
    }

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
    std::string sums_;
};

}  // namespace promptkd
