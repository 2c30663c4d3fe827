// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/io/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>

namespace promptkd {

/// Where a training run stands: `epoch` epochs and `step` steps are done.
struct Progress {
    Index epoch = 0;
    Index step = 0;
    double seconds = 0;
};

namespace detail {

/// The first key in which two configurations differ, for the message of a refused resume.
inline std::string first_difference(const nlohmann::json& a, const nlohmann::json& b) {
    for (const auto& [key, value] : a.items())
        if (!b.contains(key) || b.at(key) != value)
            return concat("'", key, "' was ", value.dump(), " and is now ", b.contains(key) ? b.at(key).dump() : "not set");
    for (const auto& [key, value] : b.items())
        if (!a.contains(key)) return concat("'", key, "' was not set and is now ", value.dump());
    return "nothing";
}

}  // namespace detail

/// The file of a run's checkpoint inside its output folder.
inline std::string checkpoint_path(const std::string& out) { return out + "/checkpoint/state.safetensors"; }

/// Writes `state` (parameters, statistics, optimizer) with the run's configuration and progress, all or nothing: a run that is
/// killed while writing keeps the checkpoint before.
inline void write_checkpoint(const std::string& out, TensorMap state, const nlohmann::json& config, const Progress& progress) {
    make_directories(out + "/checkpoint");
    state.metadata["format"] = "promptkd.checkpoint";
    state.metadata["config"] = config.dump();
    state.metadata["progress"] = nlohmann::json{{"epoch", progress.epoch}, {"step", progress.step}, {"seconds", progress.seconds}}.dump();
    write_safetensors(checkpoint_path(out), state);
}

/// Whether `out` holds a checkpoint.
inline bool has_checkpoint(const std::string& out) { return std::filesystem::exists(checkpoint_path(out)); }

/// The checkpoint in `out`. Throws Error when it belongs to a run with another configuration, naming the first difference.
inline TensorMap read_checkpoint(const std::string& out, const nlohmann::json& config, Progress& progress) {
    TensorMap state = read_safetensors(checkpoint_path(out));
    require(state.metadata.count("config") && state.metadata.count("progress"), state.source, ": not a checkpoint of promptkd");
    const auto stored = nlohmann::json::parse(state.metadata.at("config"), nullptr, false);
    const auto at = nlohmann::json::parse(state.metadata.at("progress"), nullptr, false);
    require(stored.is_object() && at.is_object() && at.contains("epoch") && at.contains("step"), state.source, ": damaged checkpoint metadata");
    require(stored == config, state.source, ": this checkpoint belongs to a run with other settings: ", detail::first_difference(stored, config),
            "; use another --out or the same settings");
    progress.epoch = at.at("epoch").get<Index>();
    progress.step = at.at("step").get<Index>();
    progress.seconds = at.value("seconds", 0.0);
    return state;
}

}  // namespace promptkd
