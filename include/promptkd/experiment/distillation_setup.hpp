// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/bundle.hpp>
#include <promptkd/experiment/closed_form/settings.hpp>
#include <promptkd/experiment/teacher_targets.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// What a distillation has loaded before a student is built: images, models, targets, class vectors, and its complete
/// specification.
template <Device D>
class DistillationSetup {
public:
    using T = typename D::Scalar;

    /// Loads everything. Device and observer must outlive this. Throws Error for what does not fit together.
    DistillationSetup(D& device, const DistillationSpec& spec, Observer& observer, const Ranks<D>& ranks)
        : device(device),
          observer(observer),
          ranks(ranks),
          spec(checked(spec)),
          images(spec.data, spec.loop, observer),
          texts(spec.texts(images.train.class_names)),
          student_map(load_model(spec.student, observer)),
          student_model(device, detail::image_branch(student_map)),
          teachers(device, spec.teacher, texts, observer) {
        if (this->spec.loop.identity.empty()) this->spec.loop.identity = derived_identity(spec);
        if (this->spec.settings.is_null()) this->spec.settings = this->spec.loop.identity;
        if (spec.in_closed_form()) complete_closed_form(this->spec, student_model.vision().embed());
        if (spec.adapted.recipe)
            complete_adapted(this->spec, images.train.size(), classes(), student_model.vision().layers());
        this->spec.loop.preprocessing = student_model.preprocessing();
        if (!spec.in_closed_form()) {
            this->spec.loop.batch = whole_batch(this->spec.loop, images.train.size(), observer);
            warn_of_warm_up(this->spec.loop, images.train.size(), observer);
        }
        evaluation = open_evaluation(spec.data, images, observer);
        open_stored_targets();
        choose_vectors();
    }

    /// The classes, in label order.
    const std::vector<std::string>& class_names() const { return images.train.class_names; }
    /// Number of classes.
    Index classes() const { return images.train.classes(); }

    /// Text features of the student's own text branch.
    std::vector<T> own_text_features() const {
        return text_features(device, ClipModel<D>(device, student_map), texts, nullptr);
    }
    /// V: the student's own class vectors, from a file or its text branch.
    std::vector<T> student_text() const {
        const std::string& file = spec.mixture.student_text;
        if (file.empty()) return own_text_features();
        return load_class_vectors(file, classes(), student_model.vision().embed(), observer).template to<T>();
    }

    /// Fingerprints of everything that the result is made of.
    nlohmann::json inputs() const {
        nlohmann::json all = images_identity(images.train, parse_data_spec(spec.data.source).root, spec.data.verify);
        teachers.add_inputs(all);
        all["weights of the student"] = weights_identity(student_map);
        const std::pair<const char*, std::string> files[] = {
            {"vocabulary", spec.needs_vocabulary() ? spec.vocabulary : ""},
            {"stored targets", spec.stored_targets},
            {"initial prompts and projector", spec.init},
            {"class vectors", spec.teacher.class_vectors},
            {"class vectors of the student", spec.mixture.student_text}};
        for (const auto& [name, path] : files)
            if (!path.empty()) all[name] = fingerprint_of_file(path);
        if (images.validation.size() > 0)
            all["validation images"] =
                detail::sha256_of_images(images.validation, [this](Index i) { return images.validation.item_name(i); });
        return all;
    }

    D& device;                                ///< where it computes
    Observer& observer;                       ///< whom it tells
    Ranks<D> ranks;                           ///< who computes
    DistillationSpec spec;                    ///< what was asked for, completed
    DistillationImages images;                ///< to learn from, and held out of them
    ClassTexts texts;                         ///< of the classes
    TensorMap student_map;                    ///< the student's weights
    ClipModel<D> student_model;               ///< its image branch
    TeacherSet<D> teachers;                   ///< may be empty where there are stored targets
    std::optional<StoredTargetsFile> stored;  ///< targets from a file
    std::optional<Dataset> evaluation;        ///< labelled images to evaluate on
    Fingerprint fingerprint;                  ///< what the targets belong to
    std::vector<T> vectors;                   ///< W: what the student's features are compared with

private:
    static const DistillationSpec& checked(const DistillationSpec& spec) {
        spec.check();
        return spec;
    }

    /// Says what the targets belong to; stored ones must be this run's.
    void open_stored_targets() {
        fingerprint = fingerprint_of(spec, spec.loop, images.train, teachers);
        const std::string& path = spec.stored_targets;
        if (path.empty()) {
            require(!teachers.empty(), "a distillation needs a teacher, or stored targets of one");
            return;
        }
        stored = read_targets(path);
        require(stored->range.count == 0, path, ": the targets of a shard; merge all shards of teacher-logits first");
        require_same_names(*stored, class_names(), path);
        warn_of_precision();
        require_same_fingerprint(stored->fingerprint, fingerprint, path);
        require_same_images(*stored, images.train, spec);
        const bool features = spec.loss.kd != KdLoss::logits;
        require(stored->features == features, path, ": holds the teacher's ", stored->features ? "features" : "logits",
                ", but this loss needs its ", features ? "features" : "logits", "; write the targets anew for it");
        require(stored->table.views >= count_views(spec.loop), path, ": holds the views of ", stored->table.views,
                " epochs, this run has ", count_views(spec.loop));
        fingerprint = stored->fingerprint;
    }

    static std::string fingerprint_of_file(const std::string& path) { return promptkd::fingerprint(path); }

    /// Targets of another precision are of use, but they do not make the live teacher's student.
    void warn_of_precision() {
        const auto precision = [](const Fingerprint& print) {
            const bool told = print.contains("precision") && print["precision"].is_string();
            return told ? print["precision"].template get<std::string>() : std::string("f32");
        };
        const std::string then = precision(stored->fingerprint);
        const std::string now = precision(fingerprint);
        if (then != now)
            observer.on_warning(concat(spec.stored_targets, ": these targets were computed in ", then,
                                       ", this run computes in ", now,
                                       ": the student is not, to the last bit, that of a live teacher"));
        fingerprint.erase("precision");
    }

    /// Decides what the student is compared with.
    void choose_vectors() {
        const Index classes = images.train.classes();
        if (spec.own_text)
            vectors = own_text_features();
        else if (!spec.teacher.class_vectors.empty())
            vectors = load_class_vectors(spec.teacher.class_vectors, classes, 0, observer).template to<T>();
        else
            vectors = stored ? stored->class_vectors.template to<T>() : teachers.class_vectors();
        require(vectors.size() % class_names().size() == 0, "class vectors: ", vectors.size(), " values for ", classes,
                " classes");
    }
};

}  // namespace promptkd
