// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/bundle_format.hpp>
#include <promptkd/experiment/distillation_spec.hpp>
#include <promptkd/format/safetensors.hpp>
#include <promptkd/train/checkpoint.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>

namespace promptkd {

namespace detail {

/// A part of what a finished student's bundle says of the run that made it; an empty object where it says nothing.
inline nlohmann::json made_by(const TensorMap& bundle, const char* part) {
    const auto note = bundle.metadata.find("provenance");
    const auto all =
        note == bundle.metadata.end() ? nlohmann::json() : nlohmann::json::parse(note->second, nullptr, false);
    const bool there = all.is_object() && all.contains(part) && all.at(part).is_object();
    return there ? all.at(part) : nlohmann::json::object();
}

/// What of a recipe decides whose student it is: sums of earlier images are added to by each run anew.
inline nlohmann::json settings_of(nlohmann::json recipe) {
    recipe.erase("add-to");
    return comparable(recipe);
}

}  // namespace detail

/// Throws Error where the output folder of `spec` holds the student of a run with other settings, another teacher or
/// other images, which this run would replace, naming the first difference. `targets` is what this run learns from. A
/// training that has left its checkpoint there is compared with that (read_checkpoint()).
inline void require_own_folder(const DistillationSpec& spec, const Fingerprint& targets) {
    const std::string path = spec.folder() + "/bundle.safetensors";
    const bool judged_later = !spec.in_closed_form() && has_checkpoint(spec.loop.out);
    if (spec.folder().empty() || spec.fresh || judged_later || !std::filesystem::exists(path)) return;
    constexpr const char* remedy = "; use another output folder, or start afresh";
    TensorMap bundle;
    try {
        bundle = read_safetensors(path);
    } catch (const ResourceError&) {
        throw;
    } catch (const Error& error) {
        fail(error.what(), remedy);
    }
    require(is_bundle(bundle), path, ": is no student, and would be replaced by one", remedy);
    const nlohmann::json was = detail::settings_of(detail::made_by(bundle, "config"));
    const nlohmann::json now = detail::settings_of(student_recipe(spec.loop.identity));
    require(was == now, path, ": the student of a run with other settings: ", detail::first_difference(was, now),
            remedy);
    if (!spec.scale.add_to.empty()) return;
    const nlohmann::json before = detail::made_by(bundle, "targets"), after(targets);
    for (const auto& [name, value] : after.items())
        require(!before.contains(name) || before.at(name) == value, path, ": the student of a run whose ", name,
                " differed", remedy);
}

}  // namespace promptkd
