// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/passes.hpp>
#include <promptkd/distill/closed_form/predictor.hpp>
#include <promptkd/distill/closed_form/student_weights.hpp>
#include <promptkd/experiment/adapted/cross_fitting.hpp>
#include <promptkd/experiment/adapted/report.hpp>
#include <promptkd/experiment/closed_form/mixture_stage.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

namespace promptkd {

/// The best of a pair: the zero-shot student, one fitted in closed form and one adapted by gradient descent, mixed by
/// weights that the images held out choose, behind a guard.
template <Device D>
class BestStage {
public:
    using T = typename D::Scalar;

    /// All must outlive this.
    BestStage(DistillationSetup<D>& setup, AdaptedStage<D>& adapted, const CrossFitting<D>& crossed)
        : setup_(setup), adapted_(adapted), crossed_(crossed) {}

    /// Reads the classes' texts as the student's encoder has them, which is an error sooner than later.
    void prepare() {
        const std::vector<T> own = setup_.student_text();
        student_text_.assign(own.begin(), own.end());
    }

    /// After prepare(): fits the second student, weighs it against the zero-shot one and `student`, the adapted one,
    /// and fits the guard.
    void fit(Student<D>& student) {
        const ClassGeometry geometry = class_geometry(student);
        const ClosedFormFit found = fit_rows(adapted_.learned().kept_rows, geometry);
        const Index classes = setup_.classes();
        mixture_ = mixture_of(found, geometry);
        mixture_.temperature =
            fit_temperature(host_, all_probabilities(), zero_shot_logits(all_rows(), geometry), classes);
        mixture_.distilled_scale = student.logit_scale();
        mixture_.fitted = FittedStudent{found.hidden, found.output, geometry.teacher_scale, 0};
        const std::array<std::vector<double>, 3> q = {
            softmax_rows(host_, zero_shot_logits(adapted_.held_rows(), geometry), classes, mixture_.temperature),
            judged_fit(found, geometry), judged_student(student)};
        const std::vector<double>& p = adapted_.held_probabilities();
        BestFitSummary summary;
        summary.weights = fit_student_weights(p, q, classes);
        for (std::size_t j = 0; j < q.size(); ++j) summary.students[j] = likeness(host_, p, q[j], classes);
        summary.mixture = likeness(host_, p, detail::mix_students(q, summary.weights.chosen), classes);
        mixture_.fitted->weight = summary.weights.chosen[1];
        mixture_.weight = summary.weights.chosen[2];
        mixture_.guard = guard();
        summary.temperature = mixture_.temperature;
        summary.cutoff = mixture_.guard->cutoff;
        summary.images = static_cast<Index>(adapted_.held_rows().size());
        summary.one_pass = setup_.spec.adapted.one_pass;
        summary_ = summary;
        explain(summary, setup_.observer);
    }

    /// Results of the mixture on labelled images; only once there is one.
    EvaluationResult evaluate(Student<D>& student, const MixtureEvaluation& on) {
        MixedStudent mixed(mixture_, {setup_.vectors.begin(), setup_.vectors.end()});
        return evaluate_mixed(setup_, student, mixed, on);
    }

    /// The mixture, once there is one and unless the adapted student alone was asked for.
    const Mixture* mixture() const { return summary_ && !summary_->one_pass ? &mixture_ : nullptr; }
    /// What the students are worth, once they are fitted.
    const std::optional<BestFitSummary>& summary() const { return summary_; }

private:
    ClassGeometry class_geometry(Student<D>& student) {
        ClassGeometry geometry;
        geometry.classes = setup_.classes();
        geometry.class_vectors.assign(setup_.vectors.begin(), setup_.vectors.end());
        geometry.student_text = student_text_;
        geometry.student_scale = student.logit_scale();
        geometry.teacher_scale = adapted_.pairs().teacher_scale;
        return geometry;
    }

    /// In closed form, of some of the images.
    ClosedFormFit fit_rows(const std::vector<Index>& rows, const ClassGeometry& geometry) {
        const EncodedPairs<T>& pairs = adapted_.pairs();
        const Index e_t = static_cast<Index>(setup_.vectors.size()) / setup_.classes();
        ClosedFormSpec spec = setup_.spec.closed_form;
        spec.seed = setup_.spec.loop.seed;
        spec.mix = false;
        spec.guard = false;
        const FeaturesInMemory<T> features(rows_of(pairs.student, rows, pairs.student_width), pairs.student_width,
                                           rows_of(pairs.teacher, rows, e_t), e_t);
        return fit_closed_form(setup_.device, spec, features, geometry);
    }

    /// p_d of the images held out, by students that have not learned from them.
    std::vector<double> judged_student(Student<D>& student) {
        return crossed_.is_used() ? crossed_.predictions() : adapted_.predictions(student, adapted_.folds().front());
    }

    /// p_r of the images held out: `found`, or fits without them.
    std::vector<double> judged_fit(const ClosedFormFit& found, const ClassGeometry& geometry) {
        if (!crossed_.is_used()) return fitted_predictions(found, geometry, adapted_.held_rows());
        std::vector<double> all;
        for (const Fold& fold : adapted_.folds()) {
            const std::vector<double> part =
                fitted_predictions(fit_rows(fold.kept_rows, geometry), geometry, fold.held_rows);
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    }

    std::vector<double> fitted_predictions(const ClosedFormFit& fit, const ClassGeometry& geometry,
                                           const std::vector<Index>& rows) {
        const Index width = adapted_.pairs().student_width, batch = setup_.spec.evaluation_batch;
        const std::vector<T> x = rows_of(adapted_.pairs().student, rows, width);
        ClosedFormPredictor<D> predictor(setup_.device, fit, geometry, batch);
        std::vector<double> all;
        const Index n = static_cast<Index>(rows.size());
        for (Index first = 0; first < n; first += batch) {
            const Index count = std::min(batch, n - first);
            const Buffer<D, T> part(setup_.device,
                                    std::vector<T>(x.begin() + first * width, x.begin() + (first + count) * width));
            const MixturePrediction p = predictor.predict(part.data(), count);
            all.insert(all.end(), p.student.begin(), p.student.end());
        }
        return all;
    }

    std::vector<double> zero_shot_logits(const std::vector<Index>& rows, const ClassGeometry& geometry) {
        const std::vector<T> x = rows_of(adapted_.pairs().student, rows, adapted_.pairs().student_width);
        return detail::scaled_cosines(host_, {x.begin(), x.end()}, geometry.student_text, geometry.classes,
                                      geometry.student_scale);
    }

    std::vector<double> all_probabilities() {
        const EncodedPairs<T>& pairs = adapted_.pairs();
        return softmax_rows(host_, detail::first_views(pairs.logits, pairs.views, setup_.classes()), setup_.classes(),
                            1);
    }

    /// Of all images; its cutoff on a subset of them.
    Guard guard() {
        const EncodedPairs<T>& pairs = adapted_.pairs();
        const FeaturesInMemory<T> features(pairs.student, pairs.student_width, {}, 0);
        const FeatureMoments moments =
            ClosedFormPasses<D>(setup_.device, features, setup_.spec.closed_form.block).moments();
        const std::vector<T> x = rows_of(
            pairs.student, choice_subset(features.images(), setup_.spec.closed_form.subset, setup_.spec.loop.seed),
            pairs.student_width);
        return fit_guard(moments, {x.begin(), x.end()}, host_);
    }

    std::vector<Index> all_rows() const { return in_order(static_cast<Index>(adapted_.pairs().images.size())); }

    static std::vector<T> rows_of(const std::vector<T>& all, const std::vector<Index>& rows, Index width) {
        std::vector<T> some;
        for (const Index row : rows)
            some.insert(some.end(), all.begin() + row * width, all.begin() + (row + 1) * width);
        return some;
    }

    DistillationSetup<D>& setup_;
    AdaptedStage<D>& adapted_;
    const CrossFitting<D>& crossed_;
    Cpu<double> host_;
    std::vector<double> student_text_;  ///< (K, e_s)
    Mixture mixture_;
    std::optional<BestFitSummary> summary_;
};

}  // namespace promptkd
