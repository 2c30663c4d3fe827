// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/metrics_json.hpp>
#include <promptkd/experiment/results.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <string>

// The results of the library's runs as JSON and as lines for people.
namespace promptkd::cli {

/// {"accuracy", …, "per_class"}, with "classes" of one half, or with "base", "new", "harmonic_mean" and "all" where
/// both halves were evaluated.
inline nlohmann::json evaluation_json(const EvaluationResult& r) {
    nlohmann::json result = to_json(r.metrics, r.class_names);
    if (r.subset) result["classes"] = name_of(*r.subset);
    for (const ImageJudgement& image : r.images)
        result["images"].push_back(
            {{"image", image.image}, {"class", image.best}, {"weight", image.weight}, {"distance", image.distance}});
    if (!r.halves) return result;
    result["base"] = r.halves->base;
    result["new"] = r.halves->novel;
    result["all"] = r.metrics.accuracy;
    result["harmonic_mean"] = r.halves->harmonic();
    return result;
}

inline std::string evaluation_line(const EvaluationResult& r) {
    char text[160];
    const auto images = static_cast<long long>(r.metrics.n);
    if (r.halves)
        std::snprintf(text, sizeof text, "base %.2f   new %.2f   harmonic mean %.2f   all %.2f   (%lld images)",
                      r.halves->base, r.halves->novel, r.halves->harmonic(), r.metrics.accuracy, images);
    else
        std::snprintf(text, sizeof text, "accuracy %.2f   macro-F1 %.2f   (%lld images)", r.metrics.accuracy,
                      r.metrics.macro_f1, images);
    return text;
}

inline nlohmann::json training_json(const TrainingOutcome& r) {
    const Progress& at = r.training.progress;
    return {{"steps", at.step},
            {"epochs", at.epoch},
            {"seconds", at.seconds},
            {"first_loss", at.first_loss},
            {"last_loss", at.last_loss},
            {"images", r.images},
            {"unreadable", at.unreadable},
            {"loader_wait_seconds", r.training.wait_seconds}};
}

inline nlohmann::json closed_form_json(const ClosedFormSummary& f) {
    return {{"rows", f.images},
            {"width", f.width},
            {"lambda", f.lambda},
            {"rho", f.rho},
            {"eta", f.eta},
            {"encoding_seconds", f.encoding_seconds},
            {"fit_seconds", f.fit_seconds}};
}

inline nlohmann::json likeness_json(const Likeness& l) { return {{"kl", l.divergence}, {"agreement", l.agreement}}; }

/// Which check of a training was the best.
inline nlohmann::json check_json(const CheckSelection& c) {
    nlohmann::json json = {{"step", c.best.step}, {"kl", c.best.score}, {"checks", c.checks}, {"images", c.images}};
    if (c.parts > 1) json["parts"] = c.parts;
    return json;
}

/// What the three students of a best fit are worth, and how they are mixed.
inline nlohmann::json best_fit_json(const BestFitSummary& b) {
    constexpr const char* names[] = {"zero_shot", "closed_form", "adapted"};
    nlohmann::json json = {{"mixture", likeness_json(b.mixture)},
                           {"trust", b.weights.trust},
                           {"temperature", b.temperature},
                           {"guard_cutoff", b.cutoff},
                           {"images", b.images},
                           {"one_pass", b.one_pass}};
    for (std::size_t j = 0; j < b.students.size(); ++j) {
        json["students"][names[j]] = likeness_json(b.students[j]);
        json["students"][names[j]]["weight"] = b.weights.chosen[j];
        json["students"][names[j]]["likeliest_weight"] = b.weights.likeliest[j];
    }
    return json;
}

/// How far a student is trusted, and how it compares with its teacher.
inline nlohmann::json mixture_json(const MixtureSummary& m) {
    nlohmann::json json = {{"weight", m.weight.chosen},
                           {"weight_of_least_loss", m.weight.least},
                           {"temperature", m.temperature},
                           {"teacher_likeness",
                            {{"distilled", likeness_json(m.likeness.student)},
                             {"mixture", likeness_json(m.likeness.mixture)},
                             {"zero_shot", likeness_json(m.likeness.zero_shot)},
                             {"images", m.likeness.images},
                             {"of_training", m.likeness.seen}}}};
    if (m.cutoff > 0) json["guard_cutoff"] = m.cutoff;
    return json;
}

inline nlohmann::json selection_json(const EpochSelection& s) {
    return {{"epoch", s.epoch}, {"epochs", s.epochs}, {"accuracy", s.accuracy}, {"images", s.images}};
}

inline std::string selection_line(const EpochSelection& s) {
    char line[160];
    std::snprintf(line, sizeof line, "protocol clean: epoch %lld of %lld, %.2f %% on %lld validation images",
                  static_cast<long long>(s.epoch), static_cast<long long>(s.epochs), s.accuracy,
                  static_cast<long long>(s.images));
    return line;
}

}  // namespace promptkd::cli
