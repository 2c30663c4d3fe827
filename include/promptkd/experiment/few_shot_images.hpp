// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/few_shot_file.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/experiment/training_spec.hpp>

#include <algorithm>
#include <cstdint>

namespace promptkd {

/// The labelled images that a prompt learner learns from, and those held out to choose the best epoch on.
struct FewShotImages {
    Dataset all;                ///< the training part, with every class
    Dataset train, validation;  ///< of the classes that are learned

    /// Throws Error where labels or images of a class are missing.
    FewShotImages(const FewShotData& data, std::uint64_t seed) {
        all = open_dataset(data.source, Split::train, data.class_names, FolderLabels::required);
        if (data.images > 0) all = take(all, data.images);
        train = draw(data, seed);
        if (data.validation > 0) hold_out(data, seed);
    }

private:
    /// The half's images, or a few of each class: the published draw of a benchmark where its file is there, else our
    /// own.
    Dataset draw(const FewShotData& data, std::uint64_t seed) const {
        if (data.shots == 0) return select_subset(all, data.classes);
        const DataSpec spec = parse_data_spec(data.source);
        if (const auto path = published_draw(spec.name, spec.root, data.shots, seed))
            return select_subset(read_few_shot(*find_benchmark(spec.name), *path, all), data.classes);
        return draw_few_shot(select_subset(all, data.classes), data.shots, seed, data.allow_fewer);
    }

    /// Out of those that are not learned from (out of all when all are).
    void hold_out(const FewShotData& data, std::uint64_t seed) {
        const Dataset half = select_subset(all, data.classes);
        const Index n = data.shots > 0 ? std::min(data.shots, data.validation) : data.validation;
        validation = draw_few_shot(data.shots > 0 ? without(half, train) : half, n, seed, data.allow_fewer);
        if (data.shots == 0) train = without(train, validation);
    }
};

}  // namespace promptkd
