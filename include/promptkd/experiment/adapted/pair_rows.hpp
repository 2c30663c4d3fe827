// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/host_rows.hpp>
#include <promptkd/distill/stored_targets.hpp>
#include <promptkd/experiment/closed_form/features.hpp>
#include <promptkd/experiment/distillation_setup.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

namespace promptkd {

/// What student and teachers make of every image of a distillation as it is, and of its mirror image where the training
/// mirrors: each image goes through each encoder once a view.
template <class T>
struct EncodedPairs {
    std::vector<Index> images;   ///< (n), positions of those that could be read
    Index views = 1;             ///< 2 with the mirror images
    Index student_width = 0;     ///< e_s
    std::vector<T> student;      ///< (n, e_s): raw features x of the images as they are
    std::vector<T> teacher;      ///< (n, e_t): features T of the images as they are, normalised
    double teacher_scale = 1;    ///< s_t that goes with them
    std::vector<double> logits;  ///< (views·n, K): of the teachers, an image's views one behind the other
    Index unreadable = 0;        ///< images that are missing

    /// The teachers' logits of a view of image `row`.
    const double* logits_of(Index row, Index view, Index classes) const {
        return logits.data() + (row * views + view) * classes;
    }

    /// The teachers' logits as targets of `count` images: image places[k] has those of row rows[k], others have none.
    TargetTable targets(const std::vector<Index>& rows, const std::vector<Index>& places, Index count,
                        Index classes) const {
        TargetTable table;
        table.views = views;
        table.images = count;
        table.size = classes;
        std::vector<float> values(static_cast<std::size_t>(views * count * classes),
                                  std::numeric_limits<float>::quiet_NaN());
        for (std::size_t k = 0; k < rows.size(); ++k)
            for (Index view = 0; view < views; ++view)
                std::copy_n(logits_of(rows[k], view, classes), classes,
                            values.begin() + (view * count + places[k]) * classes);
        table.values = make_tensor(std::move(values), {views, count, classes});
        return table;
    }
};

namespace detail {

/// Every `views`th row of `width` values.
template <class T>
std::vector<T> first_views(const std::vector<T>& rows, Index views, Index width) {
    std::vector<T> first;
    for (auto row = rows.begin(); row != rows.end(); row += views * width) first.insert(first.end(), row, row + width);
    return first;
}

}  // namespace detail

/// Encodes `data`, the images that `setup` was made with, divided among the ranks. Stored targets stand for the
/// teachers; several teachers, and stored ones, for one with the setup's class vectors.
template <Device D>
EncodedPairs<typename D::Scalar> encode_pairs(DistillationSetup<D>& setup, const Dataset& data) {
    using T = typename D::Scalar;
    const Index batch = setup.spec.evaluation_batch, classes = setup.classes();
    const bool features = !setup.stored && setup.teachers.size() == 1;
    std::unique_ptr<LiveTeachers<D>> live;
    if (!setup.stored)
        live = setup.teachers.live(setup.device, features ? TeacherGives::features : TeacherGives::logits, batch);
    const bool flips = !setup.stored && setup.spec.loop.augmentation == Augmentation::flip;
    PairEncoder<D> encoder(setup.device, setup.student_model, live.get(), batch, flips);
    const FeatureSet<T> set =
        encode_images(setup.device, encoder, data, EncodingStage{"encode", batch, setup.observer}, setup.ranks);
    PairRows<T> rows(set.values, encoder);
    EncodedPairs<T> pairs;
    pairs.images = set.indices;
    pairs.unreadable = set.unreadable;
    pairs.views = encoder.views();
    pairs.student_width = encoder.student_width();
    pairs.student = detail::first_views(rows.student, pairs.views, pairs.student_width);
    if (setup.stored) rows.teacher = table_rows<T>(setup.stored->table, set.indices);
    if (features) {
        Cpu<double> host;
        const auto& w = setup.teachers.class_vectors();
        const Index e_t = encoder.teacher_width();
        pairs.teacher_scale = setup.teachers.model().logit_scale();
        pairs.logits = detail::scaled_cosines(host, {rows.teacher.begin(), rows.teacher.end()}, {w.begin(), w.end()},
                                              classes, pairs.teacher_scale);
        pairs.teacher = detail::first_views(rows.teacher, pairs.views, e_t);
        return pairs;
    }
    pairs.logits.assign(rows.teacher.begin(), rows.teacher.end());
    const std::vector<T> plain = detail::first_views(rows.teacher, pairs.views, classes);
    if (!setup.spec.is_best()) return pairs;
    Cpu<double> host;
    LogitFeatures inverse(host, {setup.vectors.begin(), setup.vectors.end()}, classes);
    const std::vector<double> features_of = inverse.add({plain.begin(), plain.end()});
    pairs.teacher.assign(features_of.begin(), features_of.end());
    pairs.teacher_scale = detail::mean_of(inverse.norms());
    return pairs;
}

}  // namespace promptkd
