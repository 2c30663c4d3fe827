// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_subset.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/experiment/observer.hpp>
#include <promptkd/train/loop.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// Whose images a student learns from, and is tested on.
struct DistillationData {
    std::string source;                      ///< "NAME:ROOT", see open_dataset()
    Split part = Split::train;               ///< whose images it learns from
    std::vector<std::string> class_names;    ///< in label order; empty: those of the data set
    Index images = 0;                        ///< only the first so many; 0: all
    Index images_per_class = 0;              ///< so many of each class, drawn (labelled images); 0: all
    ClassSubset classes = ClassSubset::all;  ///< whose images are seen (labelled images)
    Index validation = 0;                    ///< images of each class held out to choose the best epoch on; 0: none,
                                             ///< the student is the one after the last epoch
    std::string evaluation;                  ///< labelled images to test on; empty: the test part of `source`
};

/// The images that a student learns from, and those held out to choose the best epoch on.
struct DistillationImages {
    Dataset train, validation;  ///< images to learn from, images held out of them

    /// The seed of `loop` draws the validation images, that of its views those of images_per_class. Throws Error where
    /// there are no class names, or labels are missing that the draw needs.
    DistillationImages(const DistillationData& data, const TrainingLoopConfig& loop) {
        train = open_dataset(data.source, data.part, data.class_names);
        require(!train.class_names.empty(), data.source,
                ": these images have no class folders; give the class names, one for each class");
        if (data.images > 0) train = take(train, data.images);
        const bool labels = data.validation > 0 || data.images_per_class > 0 || data.classes != ClassSubset::all;
        require(!labels || train.labelled(), data.source, ": ",
                data.validation > 0         ? "a choice of the best epoch"
                : data.images_per_class > 0 ? "a number of images of each class"
                                            : "a half of the classes",
                " needs labelled images");
        train = keep_subset(train, data.classes);
        if (data.validation > 0) {
            validation = draw(train, data.validation, loop.seed);
            train = without(train, validation);
        }
        if (data.images_per_class > 0) train = draw(train, data.images_per_class, loop.view_seed.value_or(loop.seed));
    }

private:
    /// `n` images of each class that has any here, in the order of the data set.
    static Dataset draw(const Dataset& data, Index n, std::uint64_t seed) {
        std::vector<Index> present;
        for (Index c = 0; c < data.classes(); ++c)
            if (std::any_of(data.items.begin(), data.items.end(), [c](const Item& i) { return i.label == c; }))
                present.push_back(c);
        const Dataset drawn = draw_few_shot(select_labels(data, present), n, seed);
        return without(data, without(data, drawn));
    }
};

/// The labelled images to test a student on: data.evaluation, else the test part of data.source where it is labelled.
/// Throws Error when images that were asked for have no labels.
inline std::optional<Dataset> open_evaluation(const DistillationData& data, const std::vector<std::string>& class_names,
                                              Observer& observer) {
    if (!data.evaluation.empty()) {
        Dataset given = open_dataset(data.evaluation, Split::test, class_names, FolderLabels::required);
        require(given.labelled(), data.evaluation, ": an evaluation needs labelled images");
        return given;
    }
    try {
        Dataset own = open_dataset(data.source, Split::test, class_names);
        if (own.labelled()) return own;
    } catch (const Error& error) {  // nobody asked for an evaluation
        observer.on_note(concat("the student will not be evaluated: ", error.what()));
    }
    return std::nullopt;
}

}  // namespace promptkd
