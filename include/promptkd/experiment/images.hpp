// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_subset.hpp>
#include <promptkd/experiment/data.hpp>
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
    ClassNames class_names;                  ///< in label order; empty: those of the data set
    Index images = 0;                        ///< so many of them alone, see limited(); 0: all
    Index images_per_class = 0;              ///< so many of each class, drawn (labelled images); 0: all
    ClassSubset classes = ClassSubset::all;  ///< whose images are seen (labelled images)
    Index validation = 0;                    ///< images of each class held out to choose the best epoch on; 0: none,
                                             ///< the student is the one after the last epoch
    bool verify = false;                     ///< the identity of a run counts the bytes of the images too
    std::string evaluation;                  ///< labelled images to test on; empty: the test part of `source`
    double holdout = 0;  ///< images of each class (below 1: that share) that are tested on instead; 0: none
};

/// The images that a student learns from, and those held out to choose the best epoch on and to test on.
struct DistillationImages {
    Dataset train, validation;    ///< images to learn from, images held out of them
    std::optional<Dataset> test;  ///< images held out to test on

    /// The seed of `loop` draws the validation images, that of its views the others. Throws Error where there are no
    /// class names or one alone, or labels are missing that the draw needs.
    DistillationImages(const DistillationData& data, const TrainingLoopConfig& loop,
                       Observer& observer = silent_observer()) {
        train = open_dataset(data.source, data.part, data.class_names, FolderLabels::automatic, teller(observer));
        require(!train.class_names.empty(), data.source,
                ": these images have no class folders; give the class names, one for each class");
        require_classes(train);
        const std::uint64_t view_seed = loop.view_seed.value_or(loop.seed);
        if (data.holdout > 0) take_test(data, view_seed);
        train = limited(data.source, std::move(train), data.images, view_seed);
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
            require(train.size() > 0, data.source, ": all images are held out to choose the epoch by, ",
                    data.validation, " of each class; none is left to learn from, hold out fewer");
        }
        if (data.images_per_class > 0) train = draw(train, data.images_per_class, view_seed);
    }

private:
    void take_test(const DistillationData& data, std::uint64_t seed) {
        HeldOut parts = hold_out_of(data.source, train, data.holdout, seed);
        train = std::move(parts.train);
        test = std::move(parts.test);
    }

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

/// The labelled images to test a student on that learns from `images`: data.evaluation, those held out, else the test
/// part of data.source where it is labelled, or of an undivided source what is not learned from. Tells `observer` why
/// there are none. Throws Error when images that were asked for have no labels.
inline std::optional<Dataset> open_evaluation(const DistillationData& data, const DistillationImages& images,
                                              Observer& observer) {
    const std::vector<const Dataset*> seen{&images.train, &images.validation};
    if (!data.evaluation.empty()) {
        const ClassNames names(images.train.class_names, images.train.class_ids);
        Dataset given = open_dataset(data.evaluation, Split::test, names, FolderLabels::required, teller(observer));
        require(given.labelled(), data.evaluation, ": an evaluation needs labelled images");
        warn_of_seen(given, seen, observer);
        return given;
    }
    if (images.test) return images.test;
    try {
        const Dataset own =
            open_dataset(data.source, Split::test, data.class_names, FolderLabels::automatic, test_teller(observer));
        if (own.labelled()) return unseen_images(data.source, own, seen, observer);
        observer.on_note(concat("the student will not be evaluated: '", own.name, "' has no labels"));
    } catch (const ResourceError&) {
        throw;
    } catch (const Error& error) {  // nobody asked for an evaluation
        observer.on_note(concat("the student will not be evaluated: ", error.what()));
    }
    return std::nullopt;
}

}  // namespace promptkd
