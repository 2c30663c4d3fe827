// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/checksum.hpp>
#include <promptkd/distill/stored_targets.hpp>
#include <promptkd/distill/teachers.hpp>
#include <promptkd/experiment/models.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// One or several teachers on the disk: weights, and learned prompts for each. One file of weights serves all prompts.
struct TeacherSpec {
    std::vector<std::string> weights;  ///< CLIP models, one for all or one for each teacher
    std::vector<std::string> prompts;  ///< one for all teachers, or one for each; "": a teacher without
    std::string config, activation;    ///< see ModelFile
    std::string class_vectors;         ///< file with a single teacher's class vectors instead of its text branch
    SettingNames names = {};           ///< see ModelFile
    bool int8 = false;                 ///< image encoders in 8 bits (CPU)

    /// Number of teachers.
    std::size_t count() const { return weights.empty() ? 0 : std::max(weights.size(), prompts.size()); }
    /// The model of teacher `i`.
    ModelFile model(std::size_t i) const { return {weights[weights.size() == 1 ? 0 : i], config, activation, names}; }
    /// The prompts of teacher `i`, empty for none.
    std::string prompts_of(std::size_t i) const { return prompts.empty() ? "" : prompts[prompts.size() == 1 ? 0 : i]; }

    /// Throws Error for numbers of files that do not fit.
    void check() const {
        require(weights.size() <= 1 || prompts.size() <= 1 || weights.size() == prompts.size(), weights.size(),
                " teachers but ", prompts.size(),
                " files of teacher prompts; give one for each teacher ('none' for a teacher without)");
        require(class_vectors.empty() || count() <= 1,
                "given class vectors belong to one teacher; several teachers make their own");
    }
};

/// The loaded teachers with their class vectors.
template <Device D>
class TeacherSet {
public:
    using T = typename D::Scalar;

    /// Teachers must see images of `resolution` pixels (0: of any size, but all of the same). Throws Error otherwise.
    TeacherSet(D& device, const TeacherSpec& spec, const ClassTexts& texts, Index resolution, Observer& observer)
        : int8_(spec.int8) {
        spec.check();
        for (std::size_t i = 0; i < spec.count(); ++i) {
            add(device, spec, i, observer);
            const Index seen = model(i).vision().resolution();
            if (resolution == 0) resolution = seen;
            require(seen == resolution, "the teacher sees images of ", seen, " pixels and ",
                    i == 0 ? "the student" : "another model", " of ", resolution, "; both must see the same view");
            add_class_vectors(device, spec, texts, observer);
        }
    }

    /// Whether there is no teacher.
    bool empty() const { return teachers_.empty(); }
    /// How many there are.
    std::size_t size() const { return teachers_.size(); }
    /// The model of teacher `i`.
    const ClipModel<D>& model(std::size_t i = 0) const { return *teachers_.at(i)->model; }
    /// Class vectors of the first teacher: those that the student shares.
    const std::vector<T>& class_vectors() const { return teachers_.at(0)->vectors; }

    /// Adds all teachers to `live`.
    void add_to(LiveTeachers<D>& live) const {
        for (const auto& t : teachers_) live.add(*t->model, t->fixed(), t->vectors);
    }

    /// Weights, prompts and class vectors of each teacher.
    void add_to(Fingerprint& print) const {
        if (!empty()) print["number of teachers"] = teachers_.size();
        for (std::size_t i = 0; i < teachers_.size(); ++i) {
            const Teacher& t = *teachers_[i];
            const std::string which = teachers_.size() > 1 ? concat(" of teacher ", i + 1) : " of the teacher";
            print["weights" + which] = tensors_fingerprint(t.weights) + (int8_ ? " in 8 bits" : "");
            print["prompts" + which] = t.prompts ? tensors_fingerprint(*t.prompts) : "none";
            Checksum sum;
            sum.add(t.vectors.data(), t.vectors.size() * sizeof(T));
            print["class vectors" + which] = sum.text();
        }
    }

private:
    struct Teacher {
        TensorMap weights;
        std::optional<ClipModel<D>> model;
        std::optional<TensorMap> prompts;
        std::vector<T> vectors;
        const TensorMap* fixed() const { return prompts ? &*prompts : nullptr; }
    };

    void add(D& device, const TeacherSpec& spec, std::size_t i, Observer& observer) {
        auto t = std::make_unique<Teacher>();
        t->weights = load_weights(spec.model(i), observer);
        t->model.emplace(device, t->weights, int8_ ? WeightStorage::int8 : WeightStorage::packed);
        if (!spec.prompts_of(i).empty()) t->prompts = load_prompts(spec.prompts_of(i), observer);
        teachers_.push_back(std::move(t));
    }

    /// Those of the last teacher.
    void add_class_vectors(D& device, const TeacherSpec& spec, const ClassTexts& texts, Observer& observer) {
        Teacher& t = *teachers_.back();
        if (spec.class_vectors.empty()) {
            t.vectors = text_features(device, *t.model, texts, t.fixed());
            return;
        }
        const Index classes = static_cast<Index>(texts.names.size());
        t.vectors =
            load_class_vectors(spec.class_vectors, classes, t.model->vision().embed(), observer).template to<T>();
    }

    bool int8_;
    std::vector<std::unique_ptr<Teacher>> teachers_;
};

}  // namespace promptkd
