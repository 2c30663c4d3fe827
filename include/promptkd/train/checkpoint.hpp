// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>

namespace promptkd {

/// Where a training run stands: `epoch` epochs and `step` steps are done.
struct Progress {
    Index epoch = 0;                       ///< epochs done
    Index step = 0;                        ///< steps done
    Index unreadable = 0;                  ///< images skipped in the epoch that skipped most
    double first_loss = 0, last_loss = 0;  ///< of the first and of the last step so far
    double seconds = 0;                    ///< spent so far; the one thing here that differs between two equal runs
};

namespace detail {

/// The first key in which two configurations differ, for the message of a refused resume; what is trained comes first.
inline std::string first_difference(const nlohmann::json& a, const nlohmann::json& b) {
    for (const char* key : {"command", "learner", "weights", "student"})
        if (a.contains(key) && b.contains(key) && a.at(key) != b.at(key))
            return concat("'", key, "' was ", a.at(key).dump(), " and is now ", b.at(key).dump());
    for (const auto& [key, value] : a.items())
        if (!b.contains(key) || b.at(key) != value)
            return concat("'", key, "' was ", value.dump(), " and is now ",
                          b.contains(key) ? b.at(key).dump() : "not set");
    for (const auto& [key, value] : b.items())
        if (!a.contains(key)) return concat("'", key, "' was not set and is now ", value.dump());
    return "nothing";
}

/// Seconds in elapsed.json of the output folder; 0 where there is none: nothing but a report depends on it.
inline double elapsed_seconds(const std::string& out) {
    const std::string path = out + "/checkpoint/elapsed.json";
    if (!std::filesystem::exists(path)) return 0;
    const auto json = nlohmann::json::parse(read_file(path), nullptr, false);
    return json.is_object() && json.contains("seconds") && json.at("seconds").is_number()
               ? json.at("seconds").get<double>()
               : 0.0;
}

}  // namespace detail

/// The file of a run's checkpoint inside its output folder.
inline std::string checkpoint_path(const std::string& out) { return out + "/checkpoint/state.safetensors"; }

/// Writes `state` (parameters, statistics, optimizer) with the run's configuration and progress, all or nothing: a run
/// that is killed while writing keeps the checkpoint before.
inline void write_checkpoint(const std::string& out, TensorMap state, const nlohmann::json& config,
                             const Progress& progress) {
    make_directories(out + "/checkpoint");
    state.metadata["format"] = "promptkd.checkpoint";
    state.metadata["config"] = config.dump();
    state.metadata["progress"] = nlohmann::json{
        {"epoch", progress.epoch},
        {"step", progress.step},
        {"unreadable", progress.unreadable},
        {"first_loss", progress.first_loss},
        {"last_loss",
         progress.last_loss}}.dump();
    write_safetensors(checkpoint_path(out), state);
    // Beside the checkpoint, so that equal runs write equal checkpoints.
    write_atomically(out + "/checkpoint/elapsed.json",
                     nlohmann::json{{"epoch", progress.epoch}, {"seconds", progress.seconds}}.dump() + "\n");
}

/// Whether `out` holds a checkpoint.
inline bool has_checkpoint(const std::string& out) { return std::filesystem::exists(checkpoint_path(out)); }

/// The checkpoint in `out`. Throws Error when it belongs to a run with another configuration, naming the first
/// difference.
inline TensorMap read_checkpoint(const std::string& out, const nlohmann::json& config, Progress& progress) {
    TensorMap state = read_safetensors(checkpoint_path(out));
    require(state.metadata.count("config") && state.metadata.count("progress"), state.source,
            ": not a checkpoint of promptkd");
    const auto stored = nlohmann::json::parse(state.metadata.at("config"), nullptr, false);
    const auto at = nlohmann::json::parse(state.metadata.at("progress"), nullptr, false);
    require(stored.is_object() && at.is_object(), state.source, ": damaged checkpoint metadata");
    for (const char* key : {"epoch", "step", "unreadable"})
        require(at.contains(key) && at.at(key).is_number_unsigned(), state.source,
                ": damaged checkpoint metadata: no '", key, "'");
    for (const char* key : {"first_loss", "last_loss"})
        require(at.contains(key) && at.at(key).is_number(), state.source, ": damaged checkpoint metadata: no '", key,
                "'");
    require(stored == config, state.source,
            ": this checkpoint belongs to a run with other settings: ", detail::first_difference(stored, config),
            "; use another output folder or the same settings");
    progress.epoch = at.at("epoch").get<Index>();
    progress.step = at.at("step").get<Index>();
    progress.unreadable = at.at("unreadable").get<Index>();
    progress.first_loss = at.at("first_loss").get<double>();
    progress.last_loss = at.at("last_loss").get<double>();
    progress.seconds = detail::elapsed_seconds(out);
    return state;
}

}  // namespace promptkd
