// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/image_input.hpp>
#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/core/config.hpp>
#include <promptkd/experiment/distillation_fit.hpp>
#include <promptkd/experiment/protocols.hpp>
#include <promptkd/image/augment.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// Settings of the prompt learner of a reproduction. An absent one has the published value of protocol and data set.
struct ReproducedLearner {
    std::string name = "promptsrc";       ///< a learner, or "none": a teacher without learned prompts
    std::optional<double> lr;             ///< base learning rate; empty: published
    std::optional<Index> epochs, batch;   ///< empty: published
    std::optional<Index> prompts, depth;  ///< prompt vectors in each branch, prompted blocks
    Augmentation augmentation = Augmentation::random_resized_crop;  ///< of the training images
    std::string context_words = "a photo of a";                     ///< words that its context starts from
};

/// Settings of the student of a reproduction. An absent one has the published value of protocol and data set.
struct ReproducedStudent {
    std::optional<double> lr;                                       ///< base learning rate; empty: published
    std::optional<Index> epochs, batch;                             ///< empty: published
    std::optional<Index> prompts, depth;                            ///< visual prompts, prompted blocks
    std::optional<double> kd_weight, temperature;                   ///< empty: published
    Augmentation augmentation = Augmentation::random_resized_crop;  ///< of the training images
    DistillationFit fit = DistillationFit::sgd;  ///< published: gradient descent; else the settings above are not used
    bool mix = false, guard = false;             ///< keep a student of gradient descent from harm, see MixtureSpec
    std::vector<DistillationFit> beside;         ///< students of other fits, in rows of their own

    /// Whether it follows the published recipe, whose settings are those above.
    bool is_published() const { return fit == DistillationFit::sgd; }
};

/// A published experiment to be repeated: PromptKD (`teacher` and `student`), or a prompt learner alone (`weights`).
struct ReproductionSpec {
    Protocol protocol = Protocol::base_to_novel;  ///< which experiment
    std::vector<std::string> data;     ///< "NAME:ROOT" each; "all:ROOT" stands for those of the published table
    std::string source;                ///< "NAME:ROOT" that prompts are learned on, where the protocol has a source
    std::string weights;               ///< a learner alone: CLIP weights …
    std::string teacher, student;      ///< … or PromptKD: prompts learned on the teacher, then the student
    std::string teacher_prompts;       ///< instead of learning them; {data}, {seed}, {shots} stand for the run's
    std::string vocabulary;            ///< BPE merges of the tokenizer
    std::string activation;            ///< of a model whose file does not tell: "quick_gelu", "gelu"
    std::string teacher_config;        ///< the teacher's (or `weights`') JSON, where it is not beside its file
    std::string student_config;        ///< configuration file of the student; empty: from its tensors
    ImageInputOptions teacher_images;  ///< what the teacher's images go through, in place of what its files say
    ImageInputOptions student_images;  ///< the same of the student (or of `weights`)
    SettingNames teacher_names;        ///< what messages call the settings of the teacher (or of `weights`)
    SettingNames student_names;        ///< the same of the student
    ReproducedLearner learner;         ///< stage 1
    ReproducedStudent distillation;    ///< stage 2
    std::vector<std::uint64_t> seeds = {1, 2, 3};  ///< one run each
    std::vector<Index> shots;                      ///< images a class; empty: 16, for few-shot 1, 2, 4, 8, 16
    Index images = 0, test_images = 0;             ///< only the first so many; 0: all
    Index evaluation_batch = 50;                   ///< images a call of the encoder
    int loader_threads = 2;                        ///< that decode and preprocess
    std::string out;                               ///< folder of the results and the report
    bool verify_data = false;                      ///< the images' identity is their bytes, not their times
    bool fresh = false;                            ///< start again, whatever `out` holds
    bool allow_incomplete = false;  ///< go on with benchmarks whose classes or images are not the published ones

    /// What is said about the images of the model in `file`.
    const ImageInputOptions& images_of(const std::string& file) const {
        return distils() && file == teacher ? teacher_images : student_images;
    }
    /// Whether there is a student.
    bool distils() const { return !student.empty(); }
    /// Whether prompts are learned.
    bool learns() const { return learner.name != "none" && teacher_prompts.empty(); }
    /// The model whose prompts are learned.
    const std::string& prompted_model() const { return distils() ? teacher : weights; }
};

}  // namespace promptkd
