// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_subset.hpp>
#include <promptkd/distill/closed_form/fit.hpp>
#include <promptkd/distill/closed_form/student_weights.hpp>
#include <promptkd/evaluate/metrics.hpp>
#include <promptkd/train/best_check.hpp>
#include <promptkd/train/loop.hpp>

#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// Accuracy (%) on the base and on the new classes, each half among its own classes alone.
struct BaseNew {
    double base = 0, novel = 0;  ///< accuracies in percent
    /// Harmonic mean of the two.
    double harmonic() const { return harmonic_mean(base, novel); }
};

/// What a student with a mixture says of one image.
struct ImageJudgement {
    std::string image;    ///< its name
    std::string best;     ///< the most likely class
    double weight = 0;    ///< w: how far the distilled student is trusted there
    double distance = 0;  ///< ℓ/c_g: above 1 the image is unfamiliar
};

/// What an evaluation found.
struct EvaluationResult {
    Metrics metrics;                       ///< of the classes of `subset`, or of all
    std::vector<std::string> class_names;  ///< of the classes in `metrics`
    std::optional<ClassSubset> subset;     ///< the half that was asked for
    std::optional<BaseNew> halves;         ///< where both were evaluated
    std::vector<ImageJudgement> images;    ///< where they were asked for, of a student with a mixture
};

/// Which epoch a model selection has chosen.
struct EpochSelection {
    Index epoch = 0, epochs = 0;  ///< the chosen one (from 1), of so many
    double accuracy = 0;          ///< on the validation images
    Index images = 0;             ///< their number
};

/// Which check of a training was the best.
struct CheckSelection {
    Check best;        ///< the one whose model was kept; its score is the mean KL to the teacher
    Index checks = 0;  ///< of so many
    Index images = 0;  ///< held out to judge them
    Index parts = 1;   ///< in so many parts in turn, each of a training of its own (CrossFitting)
};

/// What every training leaves.
struct TrainingOutcome {
    TrainingResult training;                  ///< what the training did
    Index images = 0, classes = 0;            ///< that it learned from
    std::optional<EpochSelection> selection;  ///< where the best epoch was chosen
    std::optional<CheckSelection> check;      ///< where the best check was
};

/// How a student, its mixture with the zero-shot one and that one alone compare with the teacher on images of the
/// distillation.
struct TeacherLikeness {
    Likeness student, mixture, zero_shot;  ///< KL to the teacher and agreement with it
    TeacherLook teacher;                   ///< what the teacher looks like on them
    Index images = 0;                      ///< that were looked at
    bool seen = false;  ///< the student had learned from these very images; else from others, or each
                        ///< image is predicted without itself
};

/// How a student was fitted in closed form.
struct ClosedFormSummary {
    Index images = 0;                              ///< N, rows of flipped images counted
    Index width = 0;                               ///< h
    double lambda = 0;                             ///< λ, of the ridge regression
    double rho = 0;                                ///< λ relative to the mean of the eigenvalues
    double eta = 0;                                ///< η, of the step along the KL's gradient; 0: none
    double encoding_seconds = 0, fit_seconds = 0;  ///< how long it took
};

/// How far a student is trusted beside the zero-shot one.
struct MixtureSummary {
    MixingWeight weight;       ///< a, and the weight of the smallest loss
    double temperature = 1;    ///< τ_z, of the zero-shot student
    double cutoff = 0;         ///< c_g; 0: no guard
    TeacherLikeness likeness;  ///< compared with the teacher
};

/// What three students of a pair are worth, and how they are mixed.
struct BestFitSummary {
    StudentWeights weights;            ///< of the zero-shot, the fitted and the adapted student
    std::array<Likeness, 3> students;  ///< each of them compared with the teacher,
    Likeness mixture;                  ///< and their mixture, before the guard
    double temperature = 1;            ///< τ_z, of the zero-shot student
    double cutoff = 0;                 ///< c_g, of the guard
    Index images = 0;                  ///< held out to judge them
    bool one_pass = false;             ///< the adapted student alone was asked for
};

/// Mean and standard deviation (of a sample; 0 for a single value) of one figure over several runs.
struct Spread {
    double mean = 0, standard_deviation = 0;  ///< over the seeds
};

/// Throws Error when there is no value.
inline Spread spread_of(const std::vector<double>& values) {
    require(!values.empty(), "mean over runs: there is no run");
    double sum = 0, square = 0;
    for (const double x : values) sum += x;
    const double n = static_cast<double>(values.size()), mean = sum / n;
    for (const double x : values) square += (x - mean) * (x - mean);
    return {mean, n > 1 ? std::sqrt(square / (n - 1)) : 0.0};
}

}  // namespace promptkd
