// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/checksum.hpp>
#include <promptkd/distill/stored_targets.hpp>
#include <promptkd/distill/teachers.hpp>
#include <promptkd/experiment/inputs.hpp>
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
    ImageInputOptions images = {};     ///< see ModelFile
    TeacherWeights combined = TeacherWeights::mean;  ///< how several teachers become one

    /// Number of teachers.
    std::size_t count() const { return weights.empty() ? 0 : std::max(weights.size(), prompts.size()); }
    /// The model of teacher `i`.
    ModelFile model(std::size_t i) const {
        return {weights[weights.size() == 1 ? 0 : i], config, activation, names, images};
    }
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

/// What teachers say of images, as a FeatureEncoder (evaluate/evaluate.hpp).
template <Device D>
class TeacherEncoder {
public:
    using T = typename D::Scalar;

    /// `teachers` get images as `input` makes them, and the further ones that they ask for.
    TeacherEncoder(TeacherSource<D>& teachers, const Preprocessing& input) : teachers_(teachers), input_(input) {}

    /// See FeatureEncoder.
    const Preprocessing& preprocessing() const { return input_; }
    /// See FeatureEncoder.
    std::vector<Preprocessing> further_inputs() { return teachers_.further_inputs(input_); }
    /// See FeatureEncoder.
    void prepare(const Batch& batch) { teachers_.prepare(batch, 0); }
    /// Values of a target.
    Index embed() const { return teachers_.size(); }
    /// Targets (n, embed()).
    const T* encode(const T* images, Index n) { return teachers_.targets(images, n); }

private:
    TeacherSource<D>& teachers_;
    Preprocessing input_;
};

/// The loaded teachers with their class vectors.
template <Device D>
class TeacherSet {
public:
    using T = typename D::Scalar;

    /// Loads them all; each may take images of its own preprocessing.
    TeacherSet(D& device, const TeacherSpec& spec, const ClassTexts& texts, Observer& observer)
        : int8_(spec.int8), combined_(spec.combined) {
        spec.check();
        for (std::size_t i = 0; i < spec.count(); ++i) {
            add(device, spec, i, observer);
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

    /// All teachers at work, on batches of at most `batch` images.
    std::unique_ptr<LiveTeachers<D>> live(D& device, TeacherGives gives, Index batch) const {
        auto live = std::make_unique<LiveTeachers<D>>(device, gives, batch, combined_);
        for (const auto& t : teachers_) live->add(*t->model, t->fixed(), t->vectors);
        return live;
    }

    /// What each teacher takes of an image; CLIP's preprocessing is a resolution alone.
    void add_inputs(Fingerprint& print) const {
        for (std::size_t i = 0; i < teachers_.size(); ++i) {
            const Preprocessing& p = model(i).preprocessing();
            const bool same = i > 0 && p == model(0).preprocessing();
            const std::string which = i > 0 ? concat(" of teacher ", i + 1) : "";
            if (!same) print["resolution" + which] = p.height;
            if (!same && p != Preprocessing::clip(p.height)) print["preprocessing" + which] = to_json(p);
        }
    }

    /// Weights, prompts and class vectors of each teacher.
    void add_to(Fingerprint& print) const {
        if (!empty()) print["number of teachers"] = teachers_.size();
        if (combined_ == TeacherWeights::confidence) print["weights of the teachers' answers"] = "their confidence";
        for (std::size_t i = 0; i < teachers_.size(); ++i) {
            Teacher& t = *teachers_[i];
            const std::string which = teachers_.size() > 1 ? concat(" of teacher ", i + 1) : " of the teacher";
            if (t.sum.empty()) t.sum = tensors_fingerprint(t.weights);
            print["weights" + which] = t.sum + (int8_ ? " in 8 bits" : "");
            print["prompts" + which] = t.prompts ? tensors_fingerprint(*t.prompts) : "none";
            Checksum sum;
            sum.add(t.vectors.data(), t.vectors.size() * sizeof(T));
            print["class vectors" + which] = sum.text();
        }
    }

    /// SHA-256 of weights and prompts of each teacher, for the identity of a run.
    void add_inputs(nlohmann::json& inputs) const {
        for (std::size_t i = 0; i < teachers_.size(); ++i) {
            const std::string which = teachers_.size() > 1 ? concat(" of teacher ", i + 1) : " of the teacher";
            inputs["weights" + which] = weights_identity(teachers_[i]->weights);
            if (teachers_[i]->prompts) inputs["prompts" + which] = weights_identity(*teachers_[i]->prompts);
        }
    }

private:
    struct Teacher {
        TensorMap weights;
        std::optional<ClipModel<D>> model;
        std::optional<TensorMap> prompts;
        std::vector<T> vectors;
        std::string sum;  ///< tensors_fingerprint() of the weights, once it was asked for
        const TensorMap* fixed() const { return prompts ? &*prompts : nullptr; }
    };

    void add(D& device, const TeacherSpec& spec, std::size_t i, Observer& observer) {
        auto t = std::make_unique<Teacher>();
        t->weights = load_model(spec.model(i), observer);
        t->prompts = adapt_model(t->weights, spec.prompts_of(i), observer);
        t->model.emplace(device, t->weights, int8_ ? WeightStorage::int8 : WeightStorage::packed);
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
    TeacherWeights combined_;
    std::vector<std::unique_ptr<Teacher>> teachers_;
};

}  // namespace promptkd
