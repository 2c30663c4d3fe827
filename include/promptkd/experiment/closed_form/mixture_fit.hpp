// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/passes.hpp>
#include <promptkd/experiment/closed_form/features.hpp>
#include <promptkd/experiment/closed_form/report.hpp>
#include <promptkd/experiment/distillation_spec.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace promptkd {

/// What the mixture of a trained student is fitted on.
template <Device D>
struct MixtureFitInput {
    const Dataset& images;          ///< all images of the distillation: they decide what is familiar
    const Dataset& judged;          ///< on which student, zero-shot student and teacher are compared
    const TeacherSet<D>& teachers;  ///< may be empty where there are targets
    std::vector<float> targets;     ///< the teachers' logits (judged, K), where there is no teacher; may be empty
    bool seen = false;              ///< the student was trained on the judged images too
};

/// Fits what keeps a trained student from harm (CLOSED FORM's mixture and guard around any student): temperature of the
/// zero-shot student, mixing weight, guard.
template <Device D>
class MixtureFit {
public:
    using T = typename D::Scalar;

    /// All references must outlive this.
    MixtureFit(D& device, const DistillationSpec& spec, Observer& observer, const Ranks<D>& ranks)
        : device_(device), spec_(spec), observer_(observer), ranks_(ranks) {}

    /// Completes `mixture`, which knows classes, texts and scales of `student`, whose class vectors are `vectors`.
    MixtureSummary fit(Student<D>& student, Mixture& mixture, const std::vector<T>& vectors,
                       const MixtureFitInput<D>& in) {
        const Index classes = mixture.classes;
        mixture.guard.reset();
        const std::vector<double> p = teacher_probabilities(in, classes);
        const FeatureSet<T> rows = encode(student, mixture, in.judged, "compare");
        require(rows.size() * classes == static_cast<Index>(p.size()),
                "the teacher could read other images of the distillation than the student");
        mixture.weight = 1;
        mixture.temperature = 1;
        MixtureSummary summary;
        const std::vector<double> x = encoder_features(rows, mixture);
        const std::vector<double> z =
            detail::scaled_cosines(host_, x, mixture.student_text, classes, mixture.zero_shot_scale);
        mixture.temperature = fit_temperature(host_, p, z, classes);
        summary.temperature = mixture.temperature;
        MixedStudent mixed(mixture, std::vector<double>(vectors.begin(), vectors.end()));
        const MixturePrediction q = mixed.predict(rows.values.data(), rows.size());
        const MixtureChoice choice = choose_mixture(host_, p, q.student, q.zero_shot, classes, spec_.mixes());
        summary.weight = choice.weight;
        mixture.weight = choice.weight.chosen;
        summary.likeness = {choice.student, choice.mixture, choice.zero_shot, look_at_teacher(host_, p, z, classes),
                            rows.size(),    in.seen};
        if (!spec_.guards()) return summary;
        mixture.guard = fit_guard_of(student, mixture, in.images);
        summary.cutoff = mixture.guard->cutoff;
        return summary;
    }

private:
    /// Rows of a MixtureEncoder.
    FeatureSet<T> encode(Student<D>& student, const Mixture& mixture, const Dataset& data, const char* stage) {
        MixtureEncoder<D> encoder(device_, student, mixture, spec_.evaluation_batch);
        return encode_images(device_, encoder, data, {stage, spec_.evaluation_batch, observer_}, ranks_);
    }

    /// The part x of rows.
    static std::vector<double> encoder_features(const FeatureSet<T>& rows, const Mixture& mixture) {
        std::vector<double> x;
        for (auto row = rows.values.begin(); row != rows.values.end(); row += rows.embed)
            x.insert(x.end(), row + (rows.embed - mixture.width), row + rows.embed);
        return x;
    }

    /// p (judged, K), from the teachers or their targets.
    std::vector<double> teacher_probabilities(const MixtureFitInput<D>& in, Index classes) {
        if (in.teachers.empty())
            return softmax_rows(host_, std::vector<double>(in.targets.begin(), in.targets.end()), classes, 1);
        const auto live = in.teachers.live(device_, TeacherGives::logits, spec_.evaluation_batch);
        TeacherEncoder<D> encoder(*live, in.teachers.model().preprocessing());
        const FeatureSet<T> set =
            encode_images(device_, encoder, in.judged, {"ask the teacher", spec_.evaluation_batch, observer_}, ranks_);
        return softmax_rows(host_, std::vector<double>(set.values.begin(), set.values.end()), classes, 1);
    }

    /// Moments over all images, in parts that fit the memory; the cutoff on a subset.
    Guard fit_guard_of(Student<D>& student, const Mixture& mixture, const Dataset& data) {
        constexpr Index part_size = 16384;
        FeatureMoments moments;
        const std::vector<Index> chosen = choice_subset(data.size(), spec_.closed_form.subset, spec_.loop.seed);
        std::vector<double> subset;
        for (Index first = 0; first < data.size(); first += part_size) {
            Dataset part = data;
            const Index count = std::min(part_size, data.size() - first);
            part.items.assign(data.items.begin() + first, data.items.begin() + first + count);
            const FeatureSet<T> rows = encode(student, mixture, part, "guard");
            const std::vector<double> x = encoder_features(rows, mixture);
            const FeaturesInMemory<T> features(std::vector<T>(x.begin(), x.end()), mixture.width, {}, 0);
            const FeatureMoments found = ClosedFormPasses<D>(device_, features, spec_.closed_form.block).moments();
            if (first == 0)
                moments = found;
            else
                moments.merge(found);
            for (std::size_t i = 0; i < rows.indices.size(); ++i) {
                if (!std::binary_search(chosen.begin(), chosen.end(), first + rows.indices[i])) continue;
                const auto row = x.begin() + static_cast<std::ptrdiff_t>(i) * mixture.width;
                subset.insert(subset.end(), row, row + mixture.width);
            }
        }
        return fit_guard(moments, subset, host_);
    }

    D& device_;
    const DistillationSpec& spec_;
    Observer& observer_;
    const Ranks<D>& ranks_;
    Cpu<double> host_;
};

}  // namespace promptkd
