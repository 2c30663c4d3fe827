// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/target_file.hpp>
#include <promptkd/experiment/distillation_spec.hpp>
#include <promptkd/experiment/stage.hpp>

#include <algorithm>
#include <string>

namespace promptkd {

/// What images, views and, where they are loaded, teachers of a distillation are.
template <Device D>
Fingerprint fingerprint_of(const DistillationSpec& spec, const TrainingLoopConfig& loop, const Dataset& train,
                           const TeacherSet<D>& teachers) {
    Fingerprint print;
    print["images"] = images_fingerprint(train, parse_data_spec(spec.data.source).root);
    if (exif_rotation().applied()) print["EXIF rotation"] = "applied";
    teachers.add_inputs(print);
    add_views(print, loop);
    teachers.add_to(print);
    return print;
}

/// The targets of all views of a distillation over `train`.
template <Device D>
TargetTable teacher_targets(D& device, const DistillationSpec& spec, const TrainingLoopConfig& loop,
                            const Dataset& train, const TeacherSet<D>& teachers, Observer& observer) {
    LiveTeachers<D> live(device, given_by_teachers(spec.loss.kd), loop.batch);
    teachers.add_to(live);
    Stage stage("teacher", "images", count_views(loop) * train.size(), observer);
    TrainingLoopConfig watched = loop;
    watched.preprocessing = teachers.model().preprocessing();
    watched.further = live.further_inputs(watched.preprocessing);
    watched.warn = [&observer](const std::string& text) { observer.on_warning("skipped: " + text); };
    TargetTable table =
        compute_targets(device, live, train, watched, [&stage](Index done, Index) { stage.update(done); });
    stage.end();
    return table;
}

/// Writes what the teachers of `spec` say of all views of its images to `path`, for DistillationSpec::stored_targets of
/// a run with the same images and views; returns it. Of the student nothing is looked at.
template <Device D>
StoredTargetsFile write_teacher_targets(D& device, const DistillationSpec& spec, const std::string& path,
                                        Observer& observer = silent_observer()) {
    require(spec.teacher.count() > 0, "stored targets need a teacher: give its weights");
    const DistillationImages images(spec.data, spec.loop, observer);
    const ClassTexts texts = spec.texts(images.train.class_names);
    const TeacherSet<D> teachers(device, spec.teacher, texts, observer);
    TrainingLoopConfig loop = spec.loop;
    loop.batch = std::min(loop.batch, images.train.size());
    StoredTargetsFile file;
    file.features = spec.loss.kd != KdLoss::logits;
    file.fingerprint = fingerprint_of(spec, loop, images.train, teachers);
    file.class_names = images.train.class_names;
    const Index classes = images.train.classes();
    const Index embed = static_cast<Index>(teachers.class_vectors().size()) / classes;
    file.class_vectors = make_tensor(teachers.class_vectors(), {classes, embed});
    file.table = teacher_targets(device, spec, loop, images.train, teachers, observer);
    write_targets(path, file);
    return file;
}

}  // namespace promptkd
