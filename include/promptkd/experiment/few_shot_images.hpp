// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/few_shot_file.hpp>
#include <promptkd/experiment/data.hpp>
#include <promptkd/experiment/training_spec.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace promptkd {

/// The labelled images that a prompt learner learns from, and those held out to choose the best epoch on and to test
/// on.
struct FewShotImages {
    Dataset all;                             ///< the training part, with every class
    Dataset train, validation;               ///< of the classes that are learned
    std::optional<Dataset> held;             ///< images held out to test on
    ClassSubset classes = ClassSubset::all;  ///< that are learned

    /// Throws Error where labels or images of a class are missing, and for a single class.
    FewShotImages(const FewShotData& data, std::uint64_t seed, Observer& observer = silent_observer()) {
        const FolderLabels labels = data.labels_needed ? FolderLabels::required : FolderLabels::automatic;
        all = open_dataset(data.source, Split::train, data.class_names, labels, teller(observer));
        require_classes(all);
        if (!data.labels_needed && !all.labelled()) {
            take_unlabelled(data, seed);
            return;
        }
        if (data.holdout > 0) {
            HeldOut parts = hold_out_of(data.source, all, data.holdout, seed);
            all = std::move(parts.train);
            held = std::move(parts.test);
        }
        all = limited(data.source, std::move(all), data.images, seed);
        classes = data.classes.value_or(has_halves(all.classes()) ? ClassSubset::base : ClassSubset::all);
        require_classes(select_subset(all, classes));
        train = draw(data, seed);
        if (data.validation > 0) hold_out_validation(data, seed);
    }

    /// The images to test on: data.evaluation, those held out, the test part, or of an undivided source those that are
    /// not learned from. Tells `observer` why there are none.
    std::optional<Dataset> open_test(const FewShotData& data, Observer& observer) const {
        const std::vector<const Dataset*> seen{&train, &validation};
        if (held) return held;
        if (data.evaluation.empty()) {
            const Dataset own =
                open_dataset(data.source, Split::test, data.class_names, FolderLabels::required, test_teller(observer));
            return unseen_images(data.source, own, seen, observer);
        }
        Dataset given = open_dataset(data.evaluation, Split::test, ClassNames(all.class_names, all.class_ids),
                                     FolderLabels::required, teller(observer));
        warn_of_seen(given, seen, observer);
        return given;
    }

private:
    /// Images without labels: all, or so many of them.
    void take_unlabelled(const FewShotData& data, std::uint64_t seed) {
        require(data.shots == 0 && data.validation == 0 && data.holdout == 0, data.source,
                ": has no labels, so images of each class cannot be drawn or held out; take all images (0 shots)");
        require(data.classes.value_or(ClassSubset::all) == ClassSubset::all, data.source,
                ": has no labels, so there are no images of one half of the classes");
        train = all = limited(data.source, std::move(all), data.images, seed);
    }

    /// The half's images, or a few of each class: the published draw of a benchmark where its file is there, else our
    /// own.
    Dataset draw(const FewShotData& data, std::uint64_t seed) const {
        if (data.shots == 0) return select_subset(all, classes);
        const DataSpec spec = parse_data_spec(data.source);
        if (const auto path = published_draw(spec.name, spec.root, data.shots, seed))
            return select_subset(read_few_shot(*find_benchmark(spec.name), *path, all), classes);
        return draw_few_shot(select_subset(all, classes), data.shots, seed, data.allow_fewer);
    }

    /// Out of those that are not learned from (out of all when all are).
    void hold_out_validation(const FewShotData& data, std::uint64_t seed) {
        const Dataset half = select_subset(all, classes);
        const Index n = data.shots > 0 ? std::min(data.shots, data.validation) : data.validation;
        validation = draw_few_shot(data.shots > 0 ? without(half, train) : half, n, seed, data.allow_fewer);
        if (data.shots == 0) train = without(train, validation);
    }
};

}  // namespace promptkd
