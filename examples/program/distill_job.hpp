// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "teacher_set.hpp"

#include <promptkd/data/class_subset.hpp>
#include <promptkd/distill/objective.hpp>
#include <promptkd/distill/student.hpp>

namespace promptkd::cli {

/// A whole distillation as a user describes it: files in, bundle and results out.
struct DistillJob {
    TeacherFiles teacher;
    std::string stored, student, student_config, init, vocab, data, evaluation, class_names, activation, pattern;
    StudentConfig shape;
    DistillationConfig loss;
    TrainingLoopConfig run;
    Split part = Split::train;  ///< whose images the student learns from
    Index images = 0, images_per_class = 0, micro_batches = 1, validation = 16;
    std::string classes = "all";  ///< whose images are seen
    bool own_text = false, clean = false, fresh = false;
    nlohmann::json config;  ///< the resolved options, written beside the results
    const Output* output = nullptr;
    Index evaluation_batch = 100;
    bool graph = false;             ///< record a step on the GPU and repeat it
    bool local_batch_norm = false;  ///< with several processes: statistics of each one's images alone
};

/// The images of a distillation: those it learns from, and for the protocol "clean" those it selects the epoch on.
struct DistillImages {
    Dataset train, validation;

    explicit DistillImages(const DistillJob& job) {
        std::vector<std::string> names;
        if (!job.class_names.empty()) names = read_class_names(job.class_names);
        train = open_dataset(job.data, job.part, names);
        require(!train.class_names.empty(), job.data,
                ": these images have no class folders; give the class names with --class-names FILE (one name a line)");
        if (job.images > 0) train = take(train, job.images);
        const bool labels = job.clean || job.images_per_class > 0 || job.classes != "all";
        require(!labels || train.labelled(), job.data, ": ",
                job.clean                  ? "--protocol clean"
                : job.images_per_class > 0 ? "--images-per-class"
                                           : "--distil-classes",
                " needs labelled images");
        train = keep_subset(train, parse_class_subset(job.classes));
        if (job.clean) {
            validation = draw(train, job.validation, job.run.seed);
            train = without(train, validation);
        }
        if (job.images_per_class > 0)
            train = draw(train, job.images_per_class, job.run.view_seed.value_or(job.run.seed));
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

/// What the images, class names and views of a job are; and its teachers, where they are loaded.
template <Device D>
Fingerprint fingerprint_of(const DistillJob& job, const TrainingLoopConfig& run, const Dataset& train,
                           const TeacherSet<D>& teachers) {
    Fingerprint print;
    print["images"] = images_fingerprint(train, parse_data_spec(job.data).root);
    add_views(print, run);
    teachers.add_to(print);
    return print;
}

/// The targets of all views of a job, with progress.
template <Device D>
TargetTable make_targets(D& device, const DistillJob& job, const TrainingLoopConfig& run, const Dataset& train,
                         const TeacherSet<D>& teachers) {
    LiveTeachers<D> live(device, given_by_teachers<D>(job.loss.kd), run.batch);
    teachers.add_to(live);
    ProgressLine line("teacher", "images", count_views(run) * train.size());
    TrainingLoopConfig quiet = run;
    quiet.warn = [&](const std::string& text) {
        line.finish(), std::fprintf(stderr, "warning: skipped: %s\n", text.c_str());
    };
    return compute_targets(device, live, train, quiet, [&](Index done, Index) { line.update(done); });
}

}  // namespace promptkd::cli
