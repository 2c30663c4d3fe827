// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/loader.hpp>
#include <promptkd/distill/closed_form/fit.hpp>
#include <promptkd/distill/closed_form/stored_part.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// What a fit in closed form has to know of images that it does not see: their sums, and some of their rows to choose λ
/// and the mixture on. Sums of several parts of the images can be added.
struct FitSums {
    std::string source;                 ///< for messages
    nlohmann::json run;                 ///< what all parts have in common: models, first layer
    nlohmann::json images;              ///< an array: the identity of each data set
    std::vector<Slice> ranges;          ///< images of the data set that were asked for
    FeatureMoments moments;             ///< pass 1
    double norms = 0;                   ///< Σ‖W⁺q‖ of features of logits; 0: the teacher's own features
    HiddenStatistics statistics;        ///< of the first layer that pass 2 was made behind
    std::optional<RidgeMoments> ridge;  ///< pass 2
    std::vector<float> chosen_student, chosen_teacher;  ///< (n, e_s), (n, e_t)

    /// n
    Index chosen() const { return moments.width > 0 ? static_cast<Index>(chosen_student.size()) / moments.width : 0; }

    /// Throws Error unless they are sums of the run that is `now`.
    void require_run(const nlohmann::json& now) const {
        require(run == now, source, ": these sums belong to another run: ", detail::identity_difference(run, now));
    }
    /// Throws Error when the images `set` are among these.
    void require_new(const nlohmann::json& set) const {
        require(std::find(images.begin(), images.end(), set) == images.end(), source,
                ": these sums have the same images already");
    }

    /// Throws Error when two of its ranges have an image in common.
    void check_ranges() const {
        const std::vector<Slice> sorted = sorted_ranges();
        for (std::size_t i = 0; i < sorted.size(); ++i) {
            require(sorted[i].first >= 0 && sorted[i].count > 0, source, ": an empty range of images");
            require(i == 0 || sorted[i - 1].first + sorted[i - 1].count <= sorted[i].first, source, ": images ",
                    sorted[i].first, " to ", sorted[i].first + sorted[i].count - 1, " are in these sums twice");
        }
    }

    /// Throws Error unless the ranges are all of `total` images.
    void require_complete(Index total) const {
        Index at = 0;
        for (const Slice& range : sorted_ranges()) {
            require(range.first <= at, source, ": images ", at, " to ", range.first - 1,
                    " are missing in these sums; add all shards");
            at = range.first + range.count;
        }
        require(at == total, source, ": these sums hold ", at, " images of a set of ", total,
                at < total ? "; add all shards" : "; they belong to another run");
    }

    /// Adds another shard of the same images. Throws Error for a shard of another run, or with images that are here.
    void merge(const FitSums& other) {
        require_same_run(other);
        require(images == other.images, other.source, ": these sums are of other images than ", source, ": ",
                detail::identity_difference(other.images.at(0), images.at(0)));
        ranges.insert(ranges.end(), other.ranges.begin(), other.ranges.end());
        add(other);
        check_ranges();
    }

    /// Adds images of another set, which then count behind these; of the chosen rows at most `most` stay, of each set
    /// in proportion to its images, drawn by `seed`. Throws Error for another run, and for images that are here.
    void merge_further(FitSums other, Index most, std::uint64_t seed) {
        require_same_run(other);
        for (const nlohmann::json& set : other.images) {
            require_new(set);
            images.push_back(set);
        }
        Index end = 0;
        for (const Slice& range : ranges) end = std::max(end, range.first + range.count);
        for (const Slice& range : other.ranges) ranges.push_back({end + range.first, range.count});
        if (chosen() + other.chosen() > most) {
            const double share =
                static_cast<double>(moments.images) / static_cast<double>(moments.images + other.moments.images);
            const auto mine = static_cast<Index>(share * static_cast<double>(most));
            thin(mine, seed);
            other.thin(most - mine, seed);
        }
        add(other);
    }

private:
    std::vector<Slice> sorted_ranges() const {
        std::vector<Slice> sorted = ranges;
        std::sort(sorted.begin(), sorted.end(), [](const Slice& a, const Slice& b) { return a.first < b.first; });
        return sorted;
    }

    /// Leaves at most `most` of the chosen rows, drawn by `seed`.
    void thin(Index most, std::uint64_t seed) {
        const Index n = chosen(), e_s = moments.width;
        if (n <= most) return;
        const Index e_t = static_cast<Index>(chosen_teacher.size()) / n;
        std::vector<float> x, t;
        for (const Index i : choice_subset(n, most, seed)) {
            x.insert(x.end(), chosen_student.begin() + i * e_s, chosen_student.begin() + (i + 1) * e_s);
            t.insert(t.end(), chosen_teacher.begin() + i * e_t, chosen_teacher.begin() + (i + 1) * e_t);
        }
        chosen_student = std::move(x);
        chosen_teacher = std::move(t);
    }

    void require_same_run(const FitSums& other) const {
        require(run == other.run, other.source, ": these sums belong to another run than those of ", source, ": ",
                detail::identity_difference(other.run, run));
        require(ridge.has_value() == other.ridge.has_value(), other.source, other.ridge ? ": has" : ": lacks",
                " the sums of the second round, other than ", source, "; run that round for all shards");
        require(statistics.mean == other.statistics.mean && statistics.variance == other.statistics.variance,
                other.source, ": was summed behind another first layer than ", source,
                "; run the second round of all shards with the same file of moments");
    }

    void add(const FitSums& other) {
        moments.merge(other.moments);
        norms += other.norms;
        if (ridge) ridge->merge(*other.ridge);
        chosen_student.insert(chosen_student.end(), other.chosen_student.begin(), other.chosen_student.end());
        chosen_teacher.insert(chosen_teacher.end(), other.chosen_teacher.begin(), other.chosen_teacher.end());
    }
};

/// Adds to `sums`, which has the moments, pass 2 behind the first layer `layer`, and the rows `chosen` of `features`.
template <Device D>
void add_second_pass(FitSums& sums, const ClosedFormPasses<D>& passes, const HiddenLayer& layer,
                     const DistillationFeatures<typename D::Scalar>& features, const std::vector<Index>& chosen) {
    using T = typename D::Scalar;
    sums.statistics = {layer.mean, layer.variance};
    sums.ridge = passes.normal_equations(layer);
    std::vector<T> x(static_cast<std::size_t>(features.student_width()));
    std::vector<T> t(static_cast<std::size_t>(features.teacher_width()));
    for (const Index row : chosen) {
        features.read(row, 1, x.data(), t.data());
        sums.chosen_student.insert(sums.chosen_student.end(), x.begin(), x.end());
        sums.chosen_teacher.insert(sums.chosen_teacher.end(), t.begin(), t.end());
    }
}

/// A fit from sums alone. The KL step, which needs a pass of its own, is left out.
template <Device D>
ClosedFormFit solve_sums(D& device, const ClosedFormSpec& spec, FitSums sums, const ClassGeometry& geometry) {
    using T = typename D::Scalar;
    require(sums.ridge.has_value() && sums.chosen() > 0, sums.source, ": has no sums of the second round");
    ClosedFormSolver<D> solver(device, spec, geometry);
    const Index e_s = sums.moments.width, e_t = sums.ridge->outputs, n = sums.chosen();
    const FeaturesInMemory<T> rows(std::vector<T>(sums.chosen_student.begin(), sums.chosen_student.end()), e_s,
                                   std::vector<T>(sums.chosen_teacher.begin(), sums.chosen_teacher.end()), e_t);
    solver.begin(std::move(sums.moments), sums.statistics);
    solver.solve_ridge(std::move(*sums.ridge), rows, in_order(n));
    return solver.finish();
}

}  // namespace promptkd
