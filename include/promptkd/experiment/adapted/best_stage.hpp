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
        geometry_.student_text.assign(own.begin(), own.end());
    }

    /// After prepare(), before any training: fits the second student, the zero-shot one's temperature and the guard.
    /// Images that nothing can be fitted to are an error here.
    void fit_others() {
        const Index classes = setup_.classes();
        geometry_.classes = classes;
        geometry_.class_vectors.assign(setup_.vectors.begin(), setup_.vectors.end());
        geometry_.student_scale = setup_.student_model.logit_scale();
        geometry_.teacher_scale = adapted_.pairs().teacher_scale;
        const ClosedFormFit found = fit_rows(adapted_.learned().kept_rows);
        const std::vector<double> p = adapted_.all_probabilities();
        const std::vector<double> z = adapted_.zero_shot_logits(geometry_.student_text);
        mixture_ = mixture_of(found, geometry_);
        mixture_.temperature = fit_temperature(host_, p, z, classes);
        mixture_.distilled_scale = geometry_.student_scale;
        mixture_.fitted = FittedStudent{found.hidden, found.output, geometry_.teacher_scale, 0};
        mixture_.guard = guard();
        look_ = look_at_teacher(host_, p, z, classes);
        judged_[0] = softmax_rows(host_, adapted_.zero_shot_logits(adapted_.held_rows(), geometry_.student_text),
                                  classes, mixture_.temperature);
        judged_[1] = judged_fit(found);
    }

    /// After fit_others(): weighs these students against `student`, the adapted one.
    void fit(Student<D>& student) {
        const Index classes = setup_.classes();
        judged_[2] = judged_student(student);
        const std::vector<double>& p = adapted_.held_probabilities();
        BestFitSummary summary;
        summary.weights = fit_student_weights(p, judged_, classes);
        for (std::size_t j = 0; j < judged_.size(); ++j) summary.students[j] = likeness(host_, p, judged_[j], classes);
        summary.mixture = likeness(host_, p, detail::mix_students(judged_, summary.weights.chosen), classes);
        mixture_.fitted->weight = summary.weights.chosen[1];
        mixture_.weight = summary.weights.chosen[2];
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
    /// What the teacher looks like on all images, after fit_others().
    const TeacherLook& look() const { return look_; }
    /// V (K, e_s): the classes' texts as the student's encoder has them, after prepare().
    const std::vector<double>& student_text() const { return geometry_.student_text; }
    /// What the students are worth, once they are fitted.
    const std::optional<BestFitSummary>& summary() const { return summary_; }

private:
    /// In closed form, of some of the images.
    ClosedFormFit fit_rows(const std::vector<Index>& rows) {
        const EncodedPairs<T>& pairs = adapted_.pairs();
        const Index e_t = static_cast<Index>(setup_.vectors.size()) / setup_.classes();
        ClosedFormSpec spec = setup_.spec.closed_form;
        spec.seed = setup_.spec.loop.seed;
        spec.mix = false;
        spec.guard = false;
        const FeaturesInMemory<T> features(AdaptedStage<D>::rows_of(pairs.student, rows, pairs.student_width),
                                           pairs.student_width, AdaptedStage<D>::rows_of(pairs.teacher, rows, e_t),
                                           e_t);
        return fit_closed_form(setup_.device, spec, features, geometry_);
    }

    /// p_d of the images held out, by students that have not learned from them.
    std::vector<double> judged_student(Student<D>& student) {
        return crossed_.is_used() ? crossed_.predictions() : adapted_.predictions(student, adapted_.folds().front());
    }

    /// p_r of the images held out: `found`, or fits without them.
    std::vector<double> judged_fit(const ClosedFormFit& found) {
        if (!crossed_.is_used()) return fitted_predictions(found, adapted_.held_rows());
        std::vector<double> all;
        for (const Fold& fold : adapted_.folds()) {
            const std::vector<double> part = fitted_predictions(fit_rows(fold.kept_rows), fold.held_rows);
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    }

    std::vector<double> fitted_predictions(const ClosedFormFit& fit, const std::vector<Index>& rows) {
        const Index width = adapted_.pairs().student_width, batch = setup_.spec.evaluation_batch;
        const std::vector<T> x = AdaptedStage<D>::rows_of(adapted_.pairs().student, rows, width);
        ClosedFormPredictor<D> predictor(setup_.device, fit, geometry_, batch);
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

    /// Of all images; its cutoff on a subset of them.
    Guard guard() {
        const EncodedPairs<T>& pairs = adapted_.pairs();
        const FeaturesInMemory<T> features(pairs.student, pairs.student_width, {}, 0);
        const FeatureMoments moments =
            ClosedFormPasses<D>(setup_.device, features, setup_.spec.closed_form.block).moments();
        const std::vector<T> x = AdaptedStage<D>::rows_of(
            pairs.student, choice_subset(features.images(), setup_.spec.closed_form.subset, setup_.spec.loop.seed),
            pairs.student_width);
        return fit_guard(moments, {x.begin(), x.end()}, host_);
    }

    DistillationSetup<D>& setup_;
    AdaptedStage<D>& adapted_;
    const CrossFitting<D>& crossed_;
    Cpu<double> host_;
    ClassGeometry geometry_;
    Mixture mixture_;
    TeacherLook look_;
    std::array<std::vector<double>, 3> judged_;  ///< what the students say of the images held out, (H, K)
    std::optional<BestFitSummary> summary_;
};

}  // namespace promptkd
