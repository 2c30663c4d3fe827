// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_names.hpp>
#include <promptkd/evaluate/dense/packaged.hpp>
#include <promptkd/experiment/models.hpp>
#include <promptkd/format/safetensors.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// A model whose patches are read, and the classes that pixels are asked for: a student bundle, or a CLIP model with
/// class names.
struct DenseQuerySpec {
    std::string bundle;                        ///< a student's file; empty: `model`
    ModelFile model;                           ///< a CLIP model; of a bundle its `images` alone
    std::string prompts;                       ///< file of learned prompts for it; empty: none
    std::string vocabulary;                    ///< the tokenizer's file; empty: the one beside the weights
    std::string pattern = "a photo of a {}.";  ///< of the class texts
    TextOptions text;                          ///< what else the texts are
    std::vector<std::string> lines;            ///< a class each, synonyms separated by commas; of a bundle: empty
    std::vector<std::string> background;       ///< words of a class 0, "background", in front of the others
    DenseOptions dense;                        ///< how patches are read
    Index batch = 8;                           ///< images or windows a pass
};

/// What pixels are asked for: queries, and the class of each.
struct DenseClasses {
    std::vector<std::string> names;    ///< of the classes
    std::vector<std::string> queries;  ///< texts; several may be of one class
    std::vector<Index> query_class;    ///< the class of each text
};

/// Classes of lines with synonyms: "sofa, couch" is a class with two texts, called "sofa". Throws Error where there is
/// none, for an empty name, and for lines of one text.
inline DenseClasses dense_classes(const std::vector<std::string>& lines, const std::vector<std::string>& background) {
    require(!lines.empty(), "the list of classes is empty; give a name a line");
    const std::vector<std::string> twice = names_of_one_text(lines);
    require(twice.empty(), "the class names hold ", detail::joined(twice, 3),
            " more than once (but for case and spaces); a pixel could be either");
    DenseClasses out;
    const auto add = [&out](const std::string& text) {
        const std::size_t first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t\r");
        require(first != std::string::npos, "a class has an empty name between two commas");
        out.queries.push_back(text.substr(first, last - first + 1));
        out.query_class.push_back(static_cast<Index>(out.names.size()) - 1);
    };
    if (!background.empty()) out.names.emplace_back("background");
    for (const std::string& word : background) add(word);
    for (const std::string& line : lines) {
        out.names.emplace_back();
        for (const std::string& word : comma_separated(line)) add(word);
        const auto own =
            std::find(out.query_class.begin(), out.query_class.end(), static_cast<Index>(out.names.size()) - 1);
        out.names.back() = out.queries[static_cast<std::size_t>(own - out.query_class.begin())];
    }
    out.names = distinct_names(out.names);
    require(out.names.size() <= 255, "there are ", out.names.size(), " classes; label maps hold 255 at most");
    return out;
}

/// A student's parts: of a bundle, whose images go through what `images` says, or of a densely distilled student as it
/// is packaged. Throws Error for other files.
inline BundleParts load_dense_student(const std::string& path, const ImageInputOptions& images, Observer& observer) {
    if (path.ends_with(".safetensors")) {
        const TensorMap map = read_safetensors(path);
        require(!is_packaged_student(map) || images == ImageInputOptions(), path,
                ": a packaged student, whose images go through what CLIP's do; leave the options of images out");
        if (is_packaged_student(map)) return packaged_student(map);
    }
    return read_bundle(load_bundle(path, images, observer));
}

/// A model whose patches are read, its classes and their vectors.
template <Device D>
struct DenseQueries {
    using T = typename D::Scalar;
    std::unique_ptr<DenseModel<D>> model;  ///< the model
    DenseClasses classes;                  ///< what pixels are asked for
    std::vector<T> vectors;                ///< (queries, e), of length 1
    std::optional<BundleParts> student;    ///< of a bundle

    /// Learned prompts of a CLIP model; null: none.
    const TensorMap* prompts() const { return prompts_ ? &*prompts_ : nullptr; }

    /// Loads what `spec` names. Throws Error for files of another kind and a model without a vision transformer.
    DenseQueries(D& device, const DenseQuerySpec& spec, Observer& observer) {
        if (!spec.bundle.empty())
            open_student(device, spec, observer);
        else
            open_clip(device, spec, observer);
    }

private:
    void open_student(D& device, const DenseQuerySpec& spec, Observer& observer) {
        student = load_dense_student(spec.bundle, spec.model.images, observer);
        require(spec.background.empty(), spec.bundle,
                ": background words go with CLIP weights; a student has its classes");
        if (!spec.lines.empty()) {
            require(spec.lines.size() == student->class_names.size(), spec.bundle, ": ", student->class_names.size(),
                    " classes, but ", spec.lines.size(), " class names were given");
            student->class_names = spec.lines;
        }
        model = std::make_unique<DenseModel<D>>(device, *student, spec.dense, spec.batch);
        for (const std::string& name : distinct_names(student->class_names)) {
            classes.query_class.push_back(static_cast<Index>(classes.names.size()));
            classes.names.push_back(name);
            classes.queries.push_back(name);
        }
        vectors = student->class_vectors.template to<T>();
    }

    void open_clip(D& device, const DenseQuerySpec& spec, Observer& observer) {
        classes = dense_classes(spec.lines, spec.background);
        const TensorMap weights = load_model(spec.model, observer);
        if (!spec.prompts.empty()) prompts_ = load_prompts(spec.prompts, observer);
        model = std::make_unique<DenseModel<D>>(device, weights, prompts(), spec.dense, spec.batch);
        const Tokenizer tokenizer = load_tokenizer(spec.vocabulary, spec.model.path, spec.text.truncate);
        const ClassTexts texts{classes.queries, spec.pattern, spec.vocabulary, spec.text};
        vectors = text_features(device, model->model(), tokenizer, texts, prompts());
    }

    std::optional<TensorMap> prompts_;
};

}  // namespace promptkd
