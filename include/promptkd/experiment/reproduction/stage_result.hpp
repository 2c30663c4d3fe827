// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/reproduction/stage.hpp>
#include <promptkd/format/digest.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/sha256.hpp>
#include <promptkd/train/checkpoint.hpp>
#include <promptkd/train/loop.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace promptkd {

/// How far a stage is.
enum class StageState { missing, interrupted, done };

/// For people.
inline const char* name_of(StageState state) {
    constexpr const char* names[] = {"to do", "interrupted", "done"};
    return names[static_cast<int>(state)];
}

/// What a test found, in percent: base, new and their harmonic mean where the protocol has halves, the figures of all
/// classes where they were measured.
struct TestFigures {
    std::optional<double> base, novel, harmonic_mean;      ///< accuracies in percent
    std::optional<double> accuracy, error_rate, macro_f1;  ///< in percent, of all classes
    Index images = 0;                                      ///< evaluated
};

/// What a stage's training did.
struct StageTraining {
    TrainingResult result;  ///< what the training did
    Index images = 0;       ///< that it learned from
};

/// What a stage has found so far.
struct StageResult {
    std::optional<StageTraining> training;         ///< empty: nothing was trained
    std::map<std::string, TestFigures> tests;      ///< by TestSet::key
    std::map<std::string, std::string> made;       ///< SHA-256 of the files that it left in its folder, by name
    std::map<std::string, std::string> used;       ///< SHA-256 of files that an earlier stage left for it, by path
    std::map<std::string, nlohmann::json> inputs;  ///< of the images that it used: see ReproductionStage::inputs
};

namespace detail {

using FigureField = std::optional<double> TestFigures::*;

/// The figures of a test with their names in files.
inline const std::map<std::string, FigureField>& figure_fields() {
    static const std::map<std::string, FigureField> fields = {{"base", &TestFigures::base},
                                                              {"new", &TestFigures::novel},
                                                              {"harmonic_mean", &TestFigures::harmonic_mean},
                                                              {"accuracy", &TestFigures::accuracy},
                                                              {"error_rate", &TestFigures::error_rate},
                                                              {"macro_f1", &TestFigures::macro_f1}};
    return fields;
}

inline nlohmann::json to_json(const TestFigures& figures) {
    nlohmann::json json = {{"n", figures.images}};
    for (const auto& [name, field] : figure_fields())
        if (figures.*field) json[name] = *(figures.*field);
    return json;
}

inline nlohmann::json to_json(const StageTraining& training) {
    const Progress& at = training.result.progress;
    return {{"steps", at.step},
            {"epochs", at.epoch},
            {"seconds", at.seconds},
            {"first_loss", at.first_loss},
            {"last_loss", at.last_loss},
            {"images", training.images},
            {"unreadable", at.unreadable},
            {"loader_wait_seconds", training.result.wait_seconds}};
}

/// A number of result.json. Throws nlohmann's exceptions for what is not there or no number.
inline double number_in(const nlohmann::json& json, const char* key) { return json.at(key).get<double>(); }
inline Index count_in(const nlohmann::json& json, const char* key) { return json.at(key).get<Index>(); }

inline TestFigures figures_from(const nlohmann::json& json) {
    TestFigures figures;
    figures.images = count_in(json, "n");
    for (const auto& [name, field] : figure_fields())
        if (json.contains(name)) figures.*field = number_in(json, name.c_str());
    return figures;
}

inline StageTraining training_from(const nlohmann::json& json) {
    StageTraining training;
    Progress& at = training.result.progress;
    at.step = count_in(json, "steps");
    at.epoch = count_in(json, "epochs");
    at.seconds = number_in(json, "seconds");
    at.first_loss = number_in(json, "first_loss");
    at.last_loss = number_in(json, "last_loss");
    at.unreadable = count_in(json, "unreadable");
    training.images = count_in(json, "images");
    training.result.wait_seconds = number_in(json, "loader_wait_seconds");
    return training;
}

/// What results held before they had a digest.
inline const std::set<std::string> early_entries = {"identity", "tests", "made", "used", "training"};

}  // namespace detail

/// Whether every test of a stage has its figures.
inline bool is_done(const ReproductionStage& stage, const StageResult& result) {
    return std::all_of(stage.tests.begin(), stage.tests.end(),
                       [&result](const TestSet& test) { return result.tests.count(test.key) != 0; });
}

/// The file of a stage's result: {"identity", "training", "tests": {key: figures}, "made", "used", "inputs", "digest"}.
class StageResultFile {
public:
    /// Of `stage`, below the folder `out`.
    StageResultFile(const std::string& out, const ReproductionStage& stage)
        : stage_(stage), folder_(out + "/" + stage.folder), path_(folder_ + "/result.json") {}

    /// The stage's folder.
    const std::string& folder() const { return folder_; }
    /// The file of its result.
    const std::string& path() const { return path_; }

    /// What is there, nothing where there is no file. Throws Error when it holds a result of other settings, or none.
    StageResult read() const {
        if (!exists()) return {};
        nlohmann::json file = nlohmann::json::parse(read_file(path_), nullptr, false);
        require(is_result(file), path_, ": not a result of a reproduction; delete it or choose another output folder");
        check_digest(file);
        const nlohmann::json identity = as_read(stage_.identity);
        require(file["identity"] == identity, path_,
                ": the result of a run with other settings: ", detail::first_difference(file["identity"], identity),
                "; use another output folder, the same settings, or start again");
        StageResult result;
        try {
            if (file.contains("training")) result.training = detail::training_from(file["training"]);
            for (const auto& [key, figures] : file["tests"].items()) result.tests[key] = detail::figures_from(figures);
            result.made = file.value("made", result.made);
            result.used = file.value("used", result.used);
            result.inputs = file.value("inputs", result.inputs);
        } catch (const nlohmann::json::exception& error) {
            fail(path_, ": a damaged result (", error.what(), "); delete it");
        }
        return result;
    }

    /// Whether everything of the stage is done, or a part of it; a stage whose files are missing is not. Throws as
    /// read().
    StageState state() const {
        const StageResult result = read();
        const bool there = std::all_of(result.made.begin(), result.made.end(), [this](const auto& file) {
            return std::filesystem::exists(folder_ + "/" + file.first);
        });
        if (is_done(stage_, result) && there) return StageState::done;
        return exists() || has_checkpoint(folder_) ? StageState::interrupted : StageState::missing;
    }

    /// Throws Error where a file that the stage used or made holds something else now.
    void verify() const {
        const StageResult result = read();
        const auto check = [this](const std::string& path, const std::string& sum) {
            const bool same = !std::filesystem::exists(path) || fingerprint(path) == sum;
            require(same, path, ": not the file that the result in ", path_,
                    " belongs to; put it back, or delete the folder of that result to make it again");
        };
        for (const auto& [name, sum] : result.made) check(folder_ + "/" + name, sum);
        for (const auto& [path, sum] : result.used) check(path, sum);
        for (const auto& [source, images] : result.inputs) {
            const auto now = stage_.inputs.find(source);
            if (now != stage_.inputs.end()) require_same_inputs(images, now->second, path_ + ": " + source, "result");
        }
    }

    /// Writes the result, all or nothing.
    void write(const StageResult& result) const {
        nlohmann::json tests = nlohmann::json::object();
        for (const auto& [key, figures] : result.tests) tests[key] = detail::to_json(figures);
        nlohmann::json file = {{"identity", stage_.identity}, {"tests", std::move(tests)}};
        if (!result.made.empty()) file["made"] = result.made;
        if (!result.used.empty()) file["used"] = result.used;
        if (!stage_.inputs.empty()) file["inputs"] = stage_.inputs;
        if (result.training) file["training"] = detail::to_json(*result.training);
        file = as_read(file);
        file["digest"] = digest_of_text(file.dump());
        make_directories(folder_);
        write_atomically(path_, file.dump(2) + "\n");
    }

private:
    /// Throws Error where the result is not what was written. The digest is taken out. Earlier versions wrote none, and
    /// none of the entries that came with it.
    void check_digest(nlohmann::json& file) const {
        const char* const damaged = ": damaged or changed since it was written; delete it to make this result again";
        if (!file.contains("digest")) {
            for (const auto& entry : file.items())
                require(detail::early_entries.count(entry.key()) != 0, path_, damaged);
            return;
        }
        const nlohmann::json stored = file["digest"];
        file.erase("digest");
        require(stored == digest_of_text(file.dump()), path_, damaged);
    }

    bool exists() const { return std::filesystem::exists(path_); }

    static bool is_result(const nlohmann::json& file) {
        return file.is_object() && file.contains("identity") && file["identity"].is_object() &&
               file.contains("tests") && file["tests"].is_object();
    }

    const ReproductionStage& stage_;
    std::string folder_, path_;
};

}  // namespace promptkd
