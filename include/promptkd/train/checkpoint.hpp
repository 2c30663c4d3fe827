// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/finite.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

namespace promptkd {

/// Where a training run stands: `epoch` epochs and `step` steps are done.
struct Progress {
    Index epoch = 0;                       ///< epochs done
    Index step = 0;                        ///< steps done
    Index step_of_epoch = 0;               ///< of these, so many in an epoch that was interrupted
    Index unreadable = 0;                  ///< images skipped in the epoch that skipped most
    double first_loss = 0, last_loss = 0;  ///< of the first and of the last step so far
    double seconds = 0;                    ///< spent so far; the one thing here that differs between two equal runs
};

namespace detail {

/// The first key in which two configurations differ, for the message of a refused resume; what is trained comes first.
/// Of a configuration inside another one, `inside`, its own key: 'start.init'.
inline std::string first_difference(const nlohmann::json& a, const nlohmann::json& b, const std::string& inside = "") {
    const auto differ = [&](const std::string& key) {
        const bool was = a.contains(key), is = b.contains(key);
        if (was && is && a.at(key).is_object() && b.at(key).is_object())
            return first_difference(a.at(key), b.at(key), inside + key + ".");
        return concat("'", inside, key, "' was ", was ? json_text(a.at(key)) : "not set", " and is now ",
                      is ? json_text(b.at(key)) : "not set");
    };
    for (const char* key : {"command", "learner", "weights", "student"})
        if (a.contains(key) && b.contains(key) && a.at(key) != b.at(key)) return differ(key);
    for (const auto& [key, value] : a.items())
        if (!b.contains(key) || b.at(key) != value) return differ(key);
    for (const auto& [key, value] : b.items())
        if (!a.contains(key)) return differ(key);
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

/// What a run depends on, and how far it can come.
struct RunIdentity {
    nlohmann::json config = nlohmann::json::object();  ///< its settings
    nlohmann::json inputs = nlohmann::json::object();  ///< fingerprints of what it is made of, by name
    Index epochs = 0;                                  ///< in all
    Index steps_an_epoch = 0;                          ///< at most: unreadable images make an epoch shorter
};

/// Throws Error naming the first input that is not what it was when `written` ("checkpoint") was written to `source`.
/// Data whose contents were read both times may have other modification times.
inline void require_same_inputs(
    const nlohmann::json& stored, const nlohmann::json& now, const std::string& source,
    const char* written = "checkpoint",
    const char* remedy = "put back what it was, use another output folder, or start again") {
    constexpr const char* times = "modification times of the images";
    constexpr const char* contents = "contents of the images";
    std::vector<std::string> names = {"number of images", "class names", "names of the images",
                                      "sizes of the images"};  // what says most comes first
    for (const auto& named : now.items()) names.push_back(named.key());
    for (const std::string& name : names) {
        if (!now.contains(name)) continue;
        const nlohmann::json& value = now.at(name);
        if (name == times && stored.contains(contents) && now.contains(contents)) continue;
        if (name == contents && !stored.contains(contents)) continue;
        const bool same = stored.contains(name) && stored.at(name) == value;
        const bool counted = value.is_number() && stored.contains(name);  // a digest tells a person nothing
        require(same, source, ": the ", name, " changed since this ", written, " was written",
                counted ? concat(" (", stored.at(name), ", now ", value, ")") : "", "; ", remedy);
    }
    for (const auto& [name, value] : stored.items())
        require(now.contains(name) || name == contents, source, ": the ", name, " (", json_text(value), ") of this ",
                written, "'s run is missing now; use another output folder, or start again");
}

/// The file of a run's checkpoint inside its output folder.
inline std::string checkpoint_path(const std::string& out) { return out + "/checkpoint/state.safetensors"; }

/// Writes `state` (parameters, statistics, optimizer) with what the run is and its progress, all or nothing: a run that
/// is killed while writing keeps the checkpoint before.
inline void write_checkpoint(const std::string& out, TensorMap state, const RunIdentity& run,
                             const Progress& progress) {
    make_directories(out + "/checkpoint");
    state.metadata["format"] = "promptkd.checkpoint";
    state.metadata["config"] = json_text(run.config);
    if (!run.inputs.empty()) state.metadata["inputs"] = json_text(run.inputs);
    nlohmann::json at = {{"epoch", progress.epoch},
                         {"step", progress.step},
                         {"unreadable", progress.unreadable},
                         {"first_loss", progress.first_loss},
                         {"last_loss", progress.last_loss}};
    if (progress.step_of_epoch > 0) at["step_of_epoch"] = progress.step_of_epoch;
    state.metadata["progress"] = json_text(at);
    write_safetensors(checkpoint_path(out), state);
    // Beside the checkpoint, so that equal runs write equal checkpoints.
    write_atomically(out + "/checkpoint/elapsed.json",
                     json_text(nlohmann::json{{"epoch", progress.epoch}, {"seconds", progress.seconds}}) + "\n");
}

/// Whether `out` holds a checkpoint.
inline bool has_checkpoint(const std::string& out) { return std::filesystem::exists(checkpoint_path(out)); }

namespace detail {

/// An entry of a checkpoint's metadata. Throws Error when it is not a JSON object.
inline nlohmann::json checkpoint_object(const TensorMap& state, const char* key) {
    const auto it = state.metadata.find(key);
    require(it != state.metadata.end(), state.source, ": not a checkpoint of promptkd");
    auto object = nlohmann::json::parse(it->second, nullptr, false);
    require(object.is_object(), state.source, ": damaged checkpoint metadata");
    return object;
}

/// A count in the progress of a checkpoint. Throws Error for anything else.
inline Index count_of_progress(const nlohmann::json& at, const char* key, const std::string& source) {
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<Index>::max());
    const bool good = at.contains(key) && at.at(key).is_number_unsigned() && at.at(key).get<std::uint64_t>() <= most;
    require(good, source, ": damaged checkpoint metadata: no '", key, "'");
    return at.at(key).get<Index>();
}

/// A loss in the progress of a checkpoint: a finite number. Throws Error for anything else.
inline double loss_of_progress(const nlohmann::json& at, const char* key, const std::string& source) {
    const bool good = at.contains(key) && at.at(key).is_number() && std::isfinite(at.at(key).get<double>());
    require(good, source, ": damaged checkpoint metadata: no '", key, "'");
    return at.at(key).get<double>();
}

/// Throws Error where the numbers contradict each other, or `run`.
inline void check_progress(const Progress& at, const RunIdentity& run, const std::string& source) {
    const Index whole = run.steps_an_epoch;
    const bool within = at.epoch <= run.epochs && at.step_of_epoch <= whole && (at.step_of_epoch == 0 || whole > 0);
    const bool enough = at.step >= at.step_of_epoch && at.step - at.step_of_epoch >= at.epoch;  // one an epoch at least
    const bool few = within && at.step - at.step_of_epoch <= at.epoch * whole;
    require(within && enough && few && at.step > 0, source, ": damaged checkpoint: ", at.step, " steps in ", at.epoch,
            " epochs", at.step_of_epoch > 0 ? " and a part of another" : "", ", where ", run.epochs, " epochs of ",
            whole, " steps are the whole run");
}

inline Progress progress_in(const TensorMap& state, const RunIdentity& run) {
    const nlohmann::json at = checkpoint_object(state, "progress");
    Progress progress;
    progress.epoch = count_of_progress(at, "epoch", state.source);
    progress.step = count_of_progress(at, "step", state.source);
    progress.unreadable = count_of_progress(at, "unreadable", state.source);
    if (at.contains("step_of_epoch")) progress.step_of_epoch = count_of_progress(at, "step_of_epoch", state.source);
    progress.first_loss = loss_of_progress(at, "first_loss", state.source);
    progress.last_loss = loss_of_progress(at, "last_loss", state.source);
    check_progress(progress, run, state.source);
    return progress;
}

/// Settings as they are compared: texts as they are written, those without a value left out.
inline nlohmann::json comparable(const nlohmann::json& config) {
    nlohmann::json plain = as_read(config);
    for (auto it = plain.begin(); it != plain.end();) it = *it == "" ? plain.erase(it) : std::next(it);
    return plain;
}

/// Throws Error unless a checkpoint belongs to `run`.
inline void require_run(const TensorMap& state, const RunIdentity& run) {
    const auto stored = comparable(checkpoint_object(state, "config"));
    const auto config = comparable(run.config);
    require(stored == config, state.source,
            ": this checkpoint belongs to a run with other settings: ", first_difference(stored, config),
            "; use another output folder or the same settings");
    if (state.metadata.count("inputs") != 0)  // earlier versions did not write them
        require_same_inputs(checkpoint_object(state, "inputs"), run.inputs, state.source);
}

}  // namespace detail

/// Epochs that the checkpoint in `out` has behind it, whatever run it belongs to; 0 where there is none. Throws Error
/// when it is damaged.
inline Index epochs_of_checkpoint(const std::string& out) {
    if (!has_checkpoint(out)) return 0;
    const TensorMap state = read_safetensors(checkpoint_path(out));
    return detail::count_of_progress(detail::checkpoint_object(state, "progress"), "epoch", state.source);
}

/// Throws Error when the checkpoint in `out`, if there is one, belongs to a run with other settings or made of
/// something else: before anything of that run is written over.
inline void require_own_checkpoint(const std::string& out, const RunIdentity& run) {
    if (has_checkpoint(out)) detail::require_run(read_safetensors(checkpoint_path(out)), run);
}

/// The checkpoint in `out`. Throws Error when it is damaged or holds NaN or infinity, or belongs to a run with other
/// settings or made of something else, naming the first difference.
inline TensorMap read_checkpoint(const std::string& out, const RunIdentity& run, Progress& progress) {
    TensorMap state = read_safetensors(checkpoint_path(out));
    require_finite(state);
    detail::require_run(state, run);
    progress = detail::progress_in(state, run);
    progress.seconds = detail::elapsed_seconds(out);
    return state;
}

}  // namespace promptkd
