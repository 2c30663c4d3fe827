// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/learned_parameters.hpp>
#include <promptkd/clip/schema/lookup.hpp>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace promptkd::detail {

/// What OpenAI's names of the image branch begin with.
inline constexpr const char* image_branch_prefix = "visual.";

/// What stands in front of the names of a model in a file, found by its tensors: "module." of DataParallel,
/// "_orig_mod." of torch.compile, "model." of Lightning, the name of any module around it, or several of them.
struct NamePrefixes {
    std::vector<std::string> used;     ///< taken off the names; a file may keep the branches apart
    std::vector<std::string> skipped;  ///< of further models (averages of the weights), which are not read
    std::string added;  ///< the image branch alone, saved without its own prefix ("visual.", "vision_model.")
};

/// The names of patch embedding, first convolution and token table in all layouts: where one is, there is a model.
inline std::set<std::string> anchor_names() {
    std::set<std::string> names;
    for (const schema::Architecture* architecture : schema::architectures)
        for (const schema::Role role :
             {schema::Role::patch_embedding, schema::Role::convolution_1, schema::Role::token_table})
            if (const auto w = schema::find(*architecture, role))
                for (std::size_t i = 0; i < schema::layout_count; ++i)
                    names.insert(schema::name_of(*w, static_cast<schema::Layout>(i)));
    names.erase("");
    return names;
}

/// `name` without `ending`, which must begin it or follow a "."; false where it ends otherwise.
inline bool take_ending(std::string_view name, std::string_view ending, std::string& front) {
    if (!name.ends_with(ending)) return false;
    front = std::string(name.substr(0, name.size() - ending.size()));
    return front.empty() || front.back() == '.';
}

/// Prefix -> the anchors behind it.
inline std::map<std::string, std::set<std::string>> anchored_prefixes(const TensorMap& map,
                                                                      const std::set<std::string>& anchors) {
    std::map<std::string, std::set<std::string>> found;
    for (const auto& named : map.tensors) {
        std::string best, front;
        bool any = false;
        for (const std::string& anchor : anchors)  // the longest: with "text." before without
            if (take_ending(named.first, anchor, front) && (!any || front.size() < best.size())) {
                best = front;
                any = true;
            }
        if (any) found[best].insert(named.first.substr(best.size()));
    }
    return found;
}

inline bool names_an_average(const std::string& prefix) {
    for (const char* word : {"ema", "average", "swa", "shadow"})
        if (prefix.find(word) != std::string::npos) return true;
    return false;
}

/// The prefixes of the model in `map`; nothing where its names are as they should be, or there is none. Throws Error
/// where several models stand beside each other and nobody can tell which is meant. `found`: see anchored_prefixes().
inline NamePrefixes find_prefixes(const TensorMap& map, const std::map<std::string, std::set<std::string>>& found) {
    NamePrefixes out;
    if (found.empty() || found.count("") != 0) return out;
    std::map<std::string, std::string> owner;  // anchor -> prefix
    for (const auto& [prefix, anchors] : found) {
        bool taken = false;
        for (const std::string& anchor : anchors) taken = taken || owner.count(anchor) != 0;
        if (!taken) {
            for (const std::string& anchor : anchors) owner[anchor] = prefix;
            out.used.push_back(prefix);
            continue;
        }
        std::string& first = out.used.front();
        require(out.used.size() == 1 && names_an_average(first) != names_an_average(prefix), map.source,
                ": holds several models, under '", first, "' and '", prefix, "'; save the one that is meant alone");
        out.skipped.push_back(names_an_average(first) ? first : prefix);
        if (names_an_average(first)) first = prefix;
    }
    return out;
}

/// What Hugging Face's names of the image branch begin with.
inline constexpr const char* huggingface_image_prefix = "vision_model.";

/// A layout's name of a tensor of the image branch without `prefix`, with which all of them begin.
inline std::string bare_image_name(const schema::Architecture& architecture, schema::Role role,
                                   schema::Layout layout = schema::Layout::openai,
                                   std::string_view prefix = image_branch_prefix) {
    return schema::name_of(*schema::find(architecture, role), layout).substr(prefix.size());
}

/// What an image branch lacks in front of its names that was saved without it, and in `prefix` what stands there
/// instead; empty where there is none.
inline std::string find_bare_image_branch(const TensorMap& map, std::string& prefix) {
    using schema::Role;
    struct Bare {
        std::string anchor, first;  // two names without what is lacking
        const char* lacking;
    };
    const auto huggingface = [](Role role) {
        return bare_image_name(schema::vision_transformer, role, schema::Layout::huggingface, huggingface_image_prefix);
    };
    const std::string convolution = bare_image_name(schema::vision_transformer, Role::patch_embedding);
    for (const Bare& bare :
         {Bare{bare_image_name(schema::vision_transformer, Role::class_token), convolution, image_branch_prefix},
          Bare{bare_image_name(schema::modified_resnet, Role::positions), convolution, image_branch_prefix},
          Bare{huggingface(Role::positions), huggingface(Role::patch_embedding), huggingface_image_prefix}})
        for (const auto& named : map.tensors) {
            std::string front;
            if (!take_ending(named.first, bare.anchor, front) || !map.contains(front + bare.first)) continue;
            prefix = front;
            return bare.lacking;
        }
    return "";
}

/// `name` without the prefixes by which libraries keep branches of a model apart: TinyCLIP's, with DataParallel's
/// behind them or not.
inline std::string without_branch(const std::string& name) {
    for (const std::string prefix : {"_image_encoder.", "_text_encoder.", "_logit_scale."}) {
        if (!name.starts_with(prefix)) continue;
        const std::string rest = name.substr(prefix.size());
        return rest.starts_with("module.") ? rest.substr(7) : rest;
    }
    return name;
}

/// Without the prefixes of without_branch().
inline TensorMap without_branches(TensorMap in) {
    TensorMap out;
    out.metadata = std::move(in.metadata);
    out.source = std::move(in.source);
    for (auto& [name, tensor] : in.tensors) {
        const std::string plain = without_branch(name);
        require(out.tensors.emplace(plain, std::move(tensor)).second, out.source, ": tensor '", plain,
                "' is there twice, with and without a prefix");
    }
    return out;
}

/// Without "module." and "_orig_mod.", in which DataParallel and torch.compile wrap every name.
inline TensorMap unwrapped(TensorMap in) {
    for (const std::string_view wrapper : {"module.", "_orig_mod."}) {
        bool all = !in.tensors.empty();
        for (const auto& named : in.tensors) all = all && named.first.starts_with(wrapper);
        if (!all) continue;
        TensorMap out;
        out.metadata = std::move(in.metadata);
        out.source = std::move(in.source);
        for (auto& [name, tensor] : in.tensors) out.tensors[name.substr(wrapper.size())] = std::move(tensor);
        return unwrapped(std::move(out));
    }
    return in;
}

/// What stands in front of the names by which a learner's checkpoint is known; empty where nothing does, and where
/// several learners stand beside each other (a first and a last state, say), none of which is the one.
inline std::string learner_prefix(const TensorMap& map) {
    std::set<std::string> found;
    std::string front;
    for (const std::string& anchor :
         {std::string(context_name), std::string(visual_prompt_name), projector_name(0, "weight")})
        for (const auto& named : map.tensors)
            if (take_ending(named.first, anchor, front)) found.insert(front);
    return found.size() == 1 ? *found.begin() : "";
}

/// The tensors without those prefixes; names that begin otherwise stay as they are.
inline TensorMap without_prefixes(TensorMap in, const NamePrefixes& prefixes) {
    TensorMap out;
    out.metadata = std::move(in.metadata);
    out.source = std::move(in.source);
    const auto starts = [](const std::string& name, const std::vector<std::string>& with) {
        const std::string* best = nullptr;
        for (const std::string& prefix : with)
            if (name.starts_with(prefix) && (best == nullptr || prefix.size() > best->size())) best = &prefix;
        return best;
    };
    for (auto& [name, tensor] : in.tensors) {
        if (starts(name, prefixes.skipped) != nullptr && starts(name, prefixes.used) == nullptr) continue;
        const std::string* prefix = starts(name, prefixes.used);
        std::string plain = prefix != nullptr ? name.substr(prefix->size()) : name;
        if (prefix != nullptr) plain = prefixes.added + plain;
        require(out.tensors.emplace(plain, std::move(tensor)).second, out.source, ": tensor '", plain,
                "' is there twice, with and without the prefix '", prefix != nullptr ? *prefix : std::string(), "'");
    }
    return out;
}

/// The tensors of a file under the names of the model in it, which may lie inside other modules. Metadata
/// `name_prefix`: what was taken off.
inline TensorMap plain_names(TensorMap in) {
    in = without_branches(unwrapped(std::move(in)));
    if (is_learner_checkpoint(in)) return in;
    const auto found = anchored_prefixes(in, anchor_names());
    NamePrefixes prefixes = find_prefixes(in, found);
    if (found.empty()) {
        std::string prefix = learner_prefix(in);
        if (prefix.empty()) prefixes.added = find_bare_image_branch(in, prefix);
        if (!prefix.empty() || !prefixes.added.empty()) prefixes.used.push_back(prefix);
    }
    if (prefixes.used.empty()) return in;
    std::string all;
    for (const std::string& prefix : prefixes.used) all += (all.empty() ? "" : ", ") + prefix;
    TensorMap out = without_prefixes(std::move(in), prefixes);
    if (!all.empty()) out.metadata["name_prefix"] = all;
    if (!prefixes.skipped.empty()) out.metadata["skipped_prefix"] = prefixes.skipped.front();
    return out;
}

}  // namespace promptkd::detail
