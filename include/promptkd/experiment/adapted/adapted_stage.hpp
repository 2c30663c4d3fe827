// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/fit.hpp>
#include <promptkd/distill/mirrored_targets.hpp>
#include <promptkd/experiment/adapted/fold.hpp>
#include <promptkd/experiment/adapted/pair_rows.hpp>
#include <promptkd/experiment/results.hpp>
#include <promptkd/experiment/student_encoder.hpp>
#include <promptkd/train/best_check.hpp>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace promptkd {

/// What the recipe for adapted students does besides gradient descent: images are held out, the teachers asked once
/// about each view, and models judged by their KL to the teachers on the images held out. Where several parts are held
/// out in turn (CrossFitting), the student itself learns from all images.
template <Device D>
class AdaptedStage {
public:
    using T = typename D::Scalar;

    /// Holds images out of `setup`'s. `setup` must outlive this. Throws Error for stored targets that are not of the
    /// images as they are.
    explicit AdaptedStage(DistillationSetup<D>& setup) : setup_(setup), all_images_(setup.images.train) {
        if (!setup.spec.adapted.recipe) return;
        const bool as_they_are = setup.spec.loop.augmentation == Augmentation::none;
        require(!setup.stored || as_they_are, setup.spec.stored_targets,
                ": models are judged by the teacher's targets of images as they are; write the targets without "
                "augmentation");
        hold_out();
    }

    /// Whether the recipe is followed.
    bool is_used() const { return setup_.spec.adapted.recipe; }

    /// Asks the teachers. Before everything below.
    void encode() {
        pairs_ = encode_pairs(setup_, all_images_);
        whole_.find_rows(pairs_.images);
        std::vector<double> z;
        std::size_t held_out = 0;
        for (Fold& fold : folds_) {
            fold.find_rows(pairs_.images);
            held_out += fold.held_out.size();
            held_rows_.insert(held_rows_.end(), fold.held_rows.begin(), fold.held_rows.end());
            for (const Index row : fold.held_rows) append_logits(row, z);
        }
        require(!held_rows_.empty(), "none of the ", held_out, " images held out could be read");
        held_probabilities_ = softmax_rows(host_, z, setup_.classes(), 1);
    }

    /// The parts of the images that are held out.
    const std::vector<Fold>& folds() const { return folds_; }
    /// What the student learns from.
    const Fold& learned() const { return folds_.size() == 1 ? folds_.front() : whole_; }
    /// The images that `fold` leaves for training.
    Dataset kept_images(const Fold& fold) const { return subset(all_images_, fold.kept); }

    /// The targets of the images that `fold` leaves for training, for batches of at most `batch`; null where views are
    /// drawn that nobody has asked about.
    std::unique_ptr<TeacherSource<D>> targets(const Fold& fold, Index batch) const {
        if (!setup_.spec.crosses()) return nullptr;
        TargetTable table =
            pairs_.targets(fold.kept_rows, fold.kept_places, static_cast<Index>(fold.kept.size()), setup_.classes());
        const TrainingLoopConfig& loop = setup_.spec.loop;
        return std::make_unique<MirroredTargets<D>>(setup_.device, std::move(table), loop.view_seed.value_or(loop.seed),
                                                    loop.fixed_views, batch);
    }

    /// What a student in evaluation mode says of the images that `fold` holds out, (H, K).
    std::vector<double> predictions(Student<D>& student, const Fold& fold) {
        detail::StudentEncoder<D> encoder(setup_.device, student, setup_.spec.evaluation_batch);
        EvaluationOptions options;
        options.batch = setup_.spec.evaluation_batch;
        const FeatureSet<T> set =
            collect_features(setup_.device, setup_.ranks, encoder, subset(all_images_, fold.held_out), options);
        const std::vector<double> z = detail::scaled_cosines(host_, {set.values.begin(), set.values.end()},
                                                             {setup_.vectors.begin(), setup_.vectors.end()},
                                                             setup_.classes(), student.logit_scale());
        return softmax_rows(host_, z, setup_.classes(), 1);
    }

    /// Mean KL of the teachers' probabilities of the images held out to `q`, (H, K).
    double divergence(const std::vector<double>& q) {
        return likeness(host_, held_probabilities_, q, setup_.classes()).divergence;
    }

    /// Logits of the zero-shot student with class texts V (K, e_s) on `rows` of pairs(), by its plain features.
    std::vector<double> zero_shot_logits(const std::vector<Index>& rows, const std::vector<double>& student_text) {
        const std::vector<T> x = rows_of(pairs_.student, rows, pairs_.student_width);
        return detail::scaled_cosines(host_, {x.begin(), x.end()}, student_text, setup_.classes(),
                                      setup_.student_model.logit_scale());
    }
    /// The same on all rows.
    std::vector<double> zero_shot_logits(const std::vector<double>& student_text) {
        return zero_shot_logits(in_order(static_cast<Index>(pairs_.images.size())), student_text);
    }

    /// The teachers' probabilities of all images as they are.
    std::vector<double> all_probabilities() {
        const std::vector<double> z = detail::first_views(pairs_.logits, pairs_.views, setup_.classes());
        return softmax_rows(host_, z, setup_.classes(), 1);
    }

    /// How `student`, by what it says of the images held out, and its zero-shot self with class texts V compare with
    /// the teachers; and what these look like on all images.
    TeacherLikeness compare(Student<D>& student, const std::vector<double>& student_text) {
        const Index classes = setup_.classes();
        const std::vector<double> p = all_probabilities(), z = zero_shot_logits(student_text);
        const double temperature = fit_temperature(host_, p, z, classes);
        const std::vector<double> held = zero_shot_logits(held_rows_, student_text);
        TeacherLikeness like;
        like.student = likeness(host_, held_probabilities_, predictions(student, folds_.front()), classes);
        like.zero_shot = likeness(host_, held_probabilities_, softmax_rows(host_, held, classes, temperature), classes);
        like.teacher = look_at_teacher(host_, p, z, classes);
        like.images = static_cast<Index>(held_rows_.size());
        return like;
    }

    /// How checks judge and keep `student`, where one part is held out.
    BestCheck::Model judged(Student<D>& student) {
        return kept(student, [this, &student](Index) { return divergence(predictions(student, folds_.front())); });
    }

    /// How checks keep `student`, judged by `score`.
    static BestCheck::Model kept(Student<D>& student, std::function<double(Index)> score) {
        return {std::move(score), [&student](TensorMap& to) { student.save(to); },
                [&student](const TensorMap& from) { student.load(from); }};
    }

    /// Some rows of `width` values.
    static std::vector<T> rows_of(const std::vector<T>& all, const std::vector<Index>& rows, Index width) {
        std::vector<T> some;
        for (const Index row : rows)
            some.insert(some.end(), all.begin() + row * width, all.begin() + (row + 1) * width);
        return some;
    }

    /// All images of the distillation.
    const Dataset& all_images() const { return all_images_; }
    /// What student and teachers make of them.
    const EncodedPairs<T>& pairs() const { return pairs_; }
    /// Rows of pairs() of the images held out, one part behind the other.
    const std::vector<Index>& held_rows() const { return held_rows_; }
    /// The teachers' probabilities of the images held out, (H, K).
    const std::vector<double>& held_probabilities() const { return held_probabilities_; }

private:
    /// The last ones of the shuffled images, then those before them.
    void hold_out() {
        const Index n = all_images_.size();
        const AdaptedSpec& adapted = setup_.spec.adapted;
        const std::vector<Index> order = shuffled(n, setup_.spec.loop.seed, 0);
        for (Index k = 0; k < adapted.folds; ++k) folds_.push_back(make_fold(order, adapted.hold_out, k));
        whole_ = whole_fold(n);
        setup_.images.train = kept_images(learned());
        const Index fewest = static_cast<Index>(folds_.front().kept.size());
        setup_.spec.loop.batch = whole_batch(setup_.spec.loop, fewest, setup_.observer);
    }

    void append_logits(Index row, std::vector<double>& to) const {
        const double* logits = pairs_.logits_of(row, 0, setup_.classes());
        to.insert(to.end(), logits, logits + setup_.classes());
    }

    DistillationSetup<D>& setup_;
    Cpu<double> host_;
    Dataset all_images_;
    std::vector<Fold> folds_;
    Fold whole_;
    EncodedPairs<T> pairs_;
    std::vector<Index> held_rows_;
    std::vector<double> held_probabilities_;
};

}  // namespace promptkd
