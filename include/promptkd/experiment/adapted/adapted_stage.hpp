// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/mirrored_targets.hpp>
#include <promptkd/experiment/adapted/pair_rows.hpp>
#include <promptkd/experiment/student_encoder.hpp>
#include <promptkd/train/best_check.hpp>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace promptkd {

/// What the recipe for adapted students does besides gradient descent: images are held out, the teachers asked once
/// about each view, and models judged by their KL to the teachers on the images held out.
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
        split();
        std::vector<double> z;
        for (const Index row : held_rows_) append_logits(row, z);
        require(!held_rows_.empty(), "none of the ", held_out_.size(), " images held out could be read");
        held_probabilities_ = softmax_rows(host_, z, setup_.classes(), 1);
    }

    /// The targets of the images that are left for training, for batches of at most `batch`; null where views are drawn
    /// that nobody has asked about.
    std::unique_ptr<TeacherSource<D>> targets(Index batch) const {
        if (setup_.spec.loop.augmentation == Augmentation::random_resized_crop) return nullptr;
        const Index classes = setup_.classes(), images = setup_.images.train.size();
        TargetTable table;
        table.views = pairs_.views;
        table.images = images;
        table.size = classes;
        std::vector<float> values(static_cast<std::size_t>(table.views * images * classes),
                                  std::numeric_limits<float>::quiet_NaN());
        for (std::size_t k = 0; k < kept_rows_.size(); ++k)
            for (Index view = 0; view < table.views; ++view)
                std::copy_n(pairs_.logits_of(kept_rows_[k], view, classes), classes,
                            values.begin() + (view * images + kept_places_[k]) * classes);
        table.values = make_tensor(std::move(values), {table.views, images, classes});
        const TrainingLoopConfig& loop = setup_.spec.loop;
        return std::make_unique<MirroredTargets<D>>(setup_.device, std::move(table), loop.view_seed.value_or(loop.seed),
                                                    loop.fixed_views, batch);
    }

    /// What a student in evaluation mode says of the images held out, (H, K).
    std::vector<double> held_predictions(Student<D>& student) {
        detail::StudentEncoder<D> encoder(setup_.device, student, setup_.spec.evaluation_batch);
        EvaluationOptions options;
        options.batch = setup_.spec.evaluation_batch;
        const FeatureSet<T> set =
            collect_features(setup_.device, setup_.ranks, encoder, subset(all_images_, held_out_), options);
        const std::vector<double> z = detail::scaled_cosines(host_, {set.values.begin(), set.values.end()},
                                                             {setup_.vectors.begin(), setup_.vectors.end()},
                                                             setup_.classes(), student.logit_scale());
        return softmax_rows(host_, z, setup_.classes(), 1);
    }

    /// Mean KL of the teachers' probabilities to the student's on the images held out.
    double divergence(Student<D>& student) {
        return likeness(host_, held_probabilities_, held_predictions(student), setup_.classes()).divergence;
    }

    /// How checks judge and keep `student`.
    BestCheck::Model judged(Student<D>& student) {
        return {[this, &student] { return divergence(student); }, [&student](TensorMap& to) { student.save(to); },
                [&student](const TensorMap& from) { student.load(from); }};
    }

    /// All images of the distillation.
    const Dataset& all_images() const { return all_images_; }
    /// What student and teachers make of them.
    const EncodedPairs<T>& pairs() const { return pairs_; }
    /// Rows of pairs() of the images held out, and of the others.
    const std::vector<Index>& held_rows() const { return held_rows_; }
    /// The same of the images that are learned from.
    const std::vector<Index>& kept_rows() const { return kept_rows_; }
    /// The teachers' probabilities of the images held out, (H, K).
    const std::vector<double>& held_probabilities() const { return held_probabilities_; }

private:
    /// The last ones of the shuffled images.
    void hold_out() {
        const Index n = all_images_.size(), count = setup_.spec.adapted.hold_out;
        std::vector<Index> order = shuffled(n, setup_.spec.loop.seed, 0);
        std::sort(order.begin(), order.end() - count);
        std::sort(order.end() - count, order.end());
        held_out_.assign(order.end() - count, order.end());
        kept_.assign(order.begin(), order.end() - count);
        setup_.images.train = subset(all_images_, kept_);
        setup_.spec.loop.batch = whole_batch(setup_.spec.loop, setup_.images.train.size(), setup_.observer);
    }

    /// Which rows are of images held out.
    void split() {
        for (std::size_t row = 0; row < pairs_.images.size(); ++row) {
            const Index image = pairs_.images[row];
            if (std::binary_search(held_out_.begin(), held_out_.end(), image)) {
                held_rows_.push_back(static_cast<Index>(row));
                continue;
            }
            kept_rows_.push_back(static_cast<Index>(row));
            kept_places_.push_back(std::lower_bound(kept_.begin(), kept_.end(), image) - kept_.begin());
        }
    }

    void append_logits(Index row, std::vector<double>& to) const {
        const double* logits = pairs_.logits_of(row, 0, setup_.classes());
        to.insert(to.end(), logits, logits + setup_.classes());
    }

    DistillationSetup<D>& setup_;
    Cpu<double> host_;
    Dataset all_images_;
    std::vector<Index> held_out_, kept_;  ///< positions of the images
    EncodedPairs<T> pairs_;
    std::vector<Index> held_rows_, kept_rows_, kept_places_;
    std::vector<double> held_probabilities_;
};

}  // namespace promptkd
