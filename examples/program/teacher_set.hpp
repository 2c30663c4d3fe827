// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models.hpp"

#include <promptkd/distill/target_file.hpp>

#include <memory>
#include <optional>

namespace promptkd::cli {

/// Teachers as a user names them: weights, and learned prompts for each ("none": none). One file of weights serves all
/// prompts.
struct TeacherFiles {
    std::vector<std::string> weights, prompts;
    std::string config, activation, class_vectors;
    bool int8 = false;  ///< image encoders in 8 bits

    std::size_t count() const { return weights.empty() ? 0 : std::max(weights.size(), prompts.size()); }
    const std::string& weights_of(std::size_t i) const { return weights[weights.size() == 1 ? 0 : i]; }
    std::string prompts_of(std::size_t i) const {
        if (prompts.empty()) return "";
        const std::string& file = prompts[prompts.size() == 1 ? 0 : i];
        return file == "none" ? "" : file;
    }

    /// Throws Error for numbers of files that do not fit.
    void check() const {
        require(weights.size() <= 1 || prompts.size() <= 1 || weights.size() == prompts.size(), weights.size(),
                " teachers but ", prompts.size(),
                " files of teacher prompts; give one for each teacher ('none' for a teacher without)");
        require(class_vectors.empty() || count() <= 1,
                "--class-vectors belong to one teacher; several teachers make their own");
    }
};

/// Normalised text features (classes, e) of the class names.
template <Device D>
std::vector<typename D::Scalar> text_features(D& device, const ClipModel<D>& model, const std::string& file,
                                              const TensorMap* prompts, const std::vector<std::string>& names,
                                              const std::string& pattern, const std::string& vocabulary) {
    Common where;
    where.vocab = vocabulary;
    const Tokenizer tokenizer = Tokenizer::from_file(vocabulary_path(where));
    return promptkd::class_vectors(device, model,
                                   tokenize_classes(tokenizer, model.text().config(), file, names, pattern), prompts);
}

/// The loaded teachers with their class vectors.
template <Device D>
class TeacherSet {
public:
    using T = typename D::Scalar;

    /// Teachers must see images of `resolution` pixels (0: of any size, but all of the same). Throws Error otherwise.
    TeacherSet(D& device, const TeacherFiles& files, const std::vector<std::string>& names, const std::string& pattern,
               const std::string& vocabulary, Index resolution = 0)
        : int8_(files.int8) {
        files.check();
        WeightsOptions weights_options;
        weights_options.activation = files.activation;
        weights_options.config = files.config;
        for (std::size_t i = 0; i < files.count(); ++i) {
            auto t = std::make_unique<Teacher>();
            t->weights = load_weights(files.weights_of(i), weights_options);
            t->model.emplace(device, t->weights, int8_ ? WeightStorage::int8 : WeightStorage::packed);
            const Index seen = t->model->vision().resolution();
            if (resolution == 0) resolution = seen;
            require(seen == resolution, "the teacher sees images of ", seen, " pixels and ",
                    i == 0 ? "the student" : "another model", " of ", resolution, "; both must see the same view");
            if (!files.prompts_of(i).empty()) t->prompts = load_prompts(files.prompts_of(i));
            if (!files.class_vectors.empty())
                t->vectors = read_class_vectors(files.class_vectors, static_cast<Index>(names.size()),
                                                t->model->vision().embed())
                                 .template to<T>();
            else
                t->vectors =
                    text_features(device, *t->model, files.weights_of(i), t->fixed(), names, pattern, vocabulary);
            teachers_.push_back(std::move(t));
        }
    }

    bool empty() const { return teachers_.empty(); }
    const ClipModel<D>& model(std::size_t i = 0) const { return *teachers_.at(i)->model; }
    /// Class vectors of the first teacher: those that the student shares.
    const std::vector<T>& class_vectors() const { return teachers_.at(0)->vectors; }

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
    bool int8_;
    std::vector<std::unique_ptr<Teacher>> teachers_;
};

}  // namespace promptkd::cli
