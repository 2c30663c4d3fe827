// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/target_file.hpp>
#include <promptkd/experiment/distillation_spec.hpp>
#include <promptkd/experiment/inputs.hpp>
#include <promptkd/experiment/stage.hpp>
#include <promptkd/format/folder_lock.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace promptkd {

/// What images, views and, where they are loaded, teachers of a distillation are.
template <Device D>
Fingerprint fingerprint_of(const DistillationSpec& spec, const TrainingLoopConfig& loop, const Dataset& train,
                           const TeacherSet<D>& teachers) {
    Fingerprint print;
    if (!std::is_same_v<typename D::Scalar, typename D::Activation>)
        print["precision"] = name_of(dtype_of<typename D::Activation>);
    print["images"] = images_fingerprint(train, parse_data_spec(spec.data.source).root);
    if (exif_rotation().applied()) print["EXIF rotation"] = "applied";
    teachers.add_inputs(print);
    add_views(print, loop);
    teachers.add_to(print);
    return print;
}

namespace detail {

/// An identity of images without that of their classes.
inline nlohmann::json without_classes(nlohmann::json identity) {
    identity.erase("class names");
    identity.erase("labels of the images");
    return identity;
}

}  // namespace detail

/// What tells the images of stored targets from others; the classes are compared by name. With `contents`: their bytes.
inline nlohmann::json target_inputs(const Dataset& train, const std::string& root, bool contents) {
    return detail::without_classes(images_identity(train, root, contents));
}

/// Throws Error unless `train` holds the images that the stored targets of `spec` were made of. Images whose
/// modification times are others (copies on another machine) are compared byte by byte.
inline void require_same_images(const StoredTargetsFile& file, const Dataset& train, const DistillationSpec& spec) {
    if (file.inputs.is_null()) return;
    const std::string root = parse_data_spec(spec.data.source).root;
    constexpr const char* times = "modification times of the images";
    nlohmann::json now = target_inputs(train, root, spec.data.verify);
    if (!spec.data.verify && file.inputs.value(times, nlohmann::json()) != now[times])
        now = target_inputs(train, root, true);
    require_same_inputs(file.inputs, now, spec.stored_targets, "file",
                        "put back what it was, or write the targets again");
}

/// Whom a computation of targets tells, and where it keeps what is done.
struct TargetWatch {
    Observer& observer;            ///< whom it tells
    TargetParts* parts = nullptr;  ///< null: nothing is kept
    Slice range = {};              ///< the images that are asked for; empty: all
};

/// The targets of all views of a distillation over `train`.
template <Device D>
TargetTable teacher_targets(D& device, const DistillationSpec& spec, const TrainingLoopConfig& loop,
                            const Dataset& train, const TeacherSet<D>& teachers, const TargetWatch& watch) {
    const auto live = teachers.live(device, given_by_teachers(spec.loss.kd), loop.batch);
    Observer& observer = watch.observer;
    const Index images = watch.range.count > 0 ? watch.range.count : train.size();
    Stage stage("teacher", "images", count_views(loop) * images, observer);
    TrainingLoopConfig watched = loop;
    watched.preprocessing = teachers.model().preprocessing();
    watched.further = live->further_inputs(watched.preprocessing);
    watched.warn = [&observer](const std::string& text) { observer.on_skipped(text); };
    const auto progress = [&stage](Index done, Index) { stage.update(done); };
    TargetTable table = compute_targets(device, *live, train, watched, {progress, watch.parts, watch.range});
    stage.end();
    return table;
}

namespace detail {

struct RemoveEmptyFolder {
    std::string path;
    ~RemoveEmptyFolder() {
        std::error_code code;
        std::filesystem::remove(path, code);
    }
};

}  // namespace detail

/// Writes what the teachers of `spec` say of all views of its images to `whole`, for DistillationSpec::stored_targets
/// of a run with the same images and views; returns it. Of the student nothing is looked at. What is done is kept in
/// the folder `path`.parts until the file is there: an interrupted computation goes on. Of a shard (spec.scale.shard)
/// the file is `path`.shard-i-of-n.
template <Device D>
StoredTargetsFile write_teacher_targets(D& device, const DistillationSpec& spec, const std::string& whole,
                                        Observer& observer = silent_observer()) {
    require(spec.teacher.count() > 0, "stored targets need a teacher: give its weights");
    const Shard& shard = spec.scale.shard;
    const std::string path = shard.is_part() ? whole + "." + shard.name() : whole;
    require_writable(path);
    const std::string kept = path + ".parts";
    const detail::RemoveEmptyFolder at_end{kept};  // where nothing was kept, after the lock is gone
    const auto lock = FolderLock::acquire(kept);
    const DistillationImages images(spec.data, spec.loop, observer);
    const ClassTexts texts = spec.texts(images.train.class_names);
    const TeacherSet<D> teachers(device, spec.teacher, texts, observer);
    TrainingLoopConfig loop = spec.loop;
    loop.batch = std::min(loop.batch, images.train.size());
    StoredTargetsFile file;
    if (shard.is_part()) file.range = shard.of(images.train.size());
    file.features = spec.loss.kd != KdLoss::logits;
    file.fingerprint = fingerprint_of(spec, loop, images.train, teachers);
    file.class_names = images.train.class_names;
    const Index classes = images.train.classes();
    const Index embed = static_cast<Index>(teachers.class_vectors().size()) / classes;
    file.class_vectors = make_tensor(teachers.class_vectors(), {classes, embed});
    nlohmann::json identity = images_identity(images.train, parse_data_spec(spec.data.source).root, true);
    file.inputs = detail::without_classes(identity);
    if (!spec.data.verify) identity.erase("contents of the images");
    identity["fingerprint"] = file.fingerprint;
    identity["kind"] = file.features ? "features" : "logits";
    identity["order"] = {loop.batch, loop.shuffle, loop.seed, count_views(loop)};
    if (shard.is_part()) identity["shard"] = shard.name();
    TargetParts parts(kept, std::move(identity));
    file.table = teacher_targets(device, spec, loop, images.train, teachers, {observer, &parts, file.range});
    write_targets(path, file);
    parts.remove();
    return file;
}

/// Writes the targets of all images to `path` from those of their shards beside it; returns them. See merge_targets().
inline StoredTargetsFile merge_teacher_targets(const std::string& path) {
    const std::filesystem::path file(path);
    require_writable(path);
    std::vector<std::string> shards;
    for (const Shard& shard : find_shards(file.parent_path().string(), file.filename().string() + "."))
        shards.push_back(path + "." + shard.name());
    StoredTargetsFile all = merge_targets(shards);
    write_targets(path, all);
    return all;
}

}  // namespace promptkd
