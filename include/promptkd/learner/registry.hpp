// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/learner/clip_lora.hpp>
#include <promptkd/learner/cocoop.hpp>
#include <promptkd/learner/coop.hpp>
#include <promptkd/learner/ivlp.hpp>
#include <promptkd/learner/kgcoop.hpp>
#include <promptkd/learner/maple.hpp>
#include <promptkd/learner/promptsrc.hpp>
#include <promptkd/learner/vpt.hpp>

namespace promptkd {

namespace detail {

template <class... Methods>
struct MethodList {};

/// The learners: one line each. A checkpoint belongs to the last that recognises it.
using Methods = MethodList<CoOpMethod,       //
                           CoCoOpMethod,     //
                           VptMethod,        //
                           IvlpMethod,       //
                           MapleMethod,      //
                           PromptSrcMethod,  //
                           KgCoOpMethod,     //
                           ClipLoraMethod>;

template <class... M>
std::vector<LearnerInfo> infos(MethodList<M...>) {
    return {M::info()...};
}

/// f(method) of the method called `name`, which exists.
template <class F, class First, class... Rest>
auto with_method(MethodList<First, Rest...>, const std::string& name, const F& f) {
    if constexpr (sizeof...(Rest) > 0)
        if (name != First::info().name) return with_method(MethodList<Rest...>{}, name, f);
    return f(First{});
}

}  // namespace detail

/// All learners, in the order of the registry.
inline const std::vector<LearnerInfo>& learners() {
    static const std::vector<LearnerInfo> all = detail::infos(detail::Methods{});
    return all;
}

/// "coop, cocoop, …": the names of all learners, or of those that `accepts`.
template <class Accepts>
std::string learner_names(const Accepts& accepts) {
    std::string names;
    for (const LearnerInfo& info : learners())
        if (accepts(info)) names += (names.empty() ? "" : ", ") + info.name;
    return names;
}
/// The names of all learners.
inline std::string learner_names() {
    return learner_names([](const LearnerInfo&) { return true; });
}

/// Null for an unknown name.
inline const LearnerInfo* try_find_learner(const std::string& name) {
    for (const LearnerInfo& info : learners())
        if (info.name == name) return &info;
    return nullptr;
}

/// Throws Error listing the learners for an unknown name.
inline const LearnerInfo& find_learner(const std::string& name) {
    const LearnerInfo* info = try_find_learner(name);
    if (!info) fail("unknown learner '", name, "'; known: ", learner_names());
    return *info;
}

/// A learner's published settings with its own numbers. `shots` matters where the authors say so (CoOp's epochs).
/// Throws Error for an unknown name.
inline Recipe published_recipe(const std::string& learner, Index shots) {
    const LearnerInfo& info = find_learner(learner);
    Recipe recipe = info.published(shots);
    for (const LearnerOption& option : info.options) recipe.options[option.name] = option.published;
    return recipe;
}

/// Whose checkpoint these tensors are, under a published trainer's names or this library's; null for none known.
inline const LearnerInfo* recognise_learner(const TensorMap& map) {
    const LearnerInfo* found = nullptr;
    for (const LearnerInfo& info : learners())
        if (info.recognises(map)) found = &info;
    return found;
}

/// Its name, empty for none known: see WeightsOptions::learner_of.
inline std::string name_of_learner(const TensorMap& map) {
    const LearnerInfo* info = recognise_learner(map);
    return info ? info->name : "";
}

/// Learned parameters as prompts of two independent branches, where they are anything else (MaPLe's).
inline TensorMap independent_prompts(const TensorMap& map) {
    const LearnerInfo* info = recognise_learner(map);
    return info && info->fixed_prompts ? info->fixed_prompts(map) : map;
}

/// Learned parameters, as read_weights returned them, as fixed prompts of the two branches (`prompt_learner.ctx`,
/// `image_encoder.VPT`, `VPT_shallow` of the deeper blocks of both encoders): what a teacher is prompted with.
/// Throws Error for a learner whose context depends on the image, and for a file without prompts.
inline TensorMap fixed_prompts(const TensorMap& map) {
    const auto named = map.metadata.find("learner");
    const LearnerInfo* info = named == map.metadata.end() ? nullptr : try_find_learner(named->second);
    if (!info) info = recognise_learner(map);
    require(info != nullptr, map.source, ": holds no learned prompts ('", context_name, "' or '", visual_prompt_name,
            "')");
    if (!info->fixed_prompts)
        fail(map.source, ": ", info->title,
             "'s context depends on each image; its checkpoint cannot be used as fixed prompts");
    return info->fixed_prompts(map);
}

/// A new learner with parameters of 0. `classes`: of the training, for class-specific contexts. Throws Error where the
/// recipe does not fit the model, or the learner has no class-specific contexts.
template <Device D>
std::unique_ptr<PromptLearner<D>> make_learner(const std::string& name, const FrozenClip<D>& clip, const Recipe& recipe,
                                               const ContextOptions& context, Index classes) {
    const LearnerInfo& info = find_learner(name);
    require(
        !context.class_specific || info.takes_class_specific, info.title, ": no contexts of their own for each ",
        "class; learners that have them: ", learner_names([](const LearnerInfo& i) { return i.takes_class_specific; }));
    return detail::with_method(detail::Methods{}, name, [&](auto method) {
        return decltype(method)::make(clip.device, clip.model, recipe, context.class_specific ? classes : 0);
    });
}

/// What a learner of this recipe is trained on: the class prompts, and the frozen features that it keeps close to.
template <Device D>
LearnerTexts<typename D::Scalar> training_texts(const std::string& name, const FrozenClip<D>& clip,
                                                const Recipe& recipe, const ContextOptions& context,
                                                const std::vector<std::string>& class_names) {
    find_learner(name);
    LearnerTexts<typename D::Scalar> texts;
    texts.prompts = context_texts(clip, class_names, recipe.text, context);
    texts.frozen = detail::with_method(detail::Methods{}, name, [&](auto method) {
        return decltype(method)::template frozen_features<D>(clip, class_names, context);
    });
    return texts;
}

/// What it is evaluated on: the class prompts alone.
template <Device D>
LearnerTexts<typename D::Scalar> evaluation_texts(const FrozenClip<D>& clip, const Recipe& recipe,
                                                  const ContextOptions& context,
                                                  const std::vector<std::string>& class_names) {
    return {context_texts(clip, class_names, recipe.text, context), {}};
}

/// The trainer of a learner that make_learner() made under this name: with training_texts() it trains as published,
/// with evaluation_texts() by cross-entropy alone. Model, learner and device outlive it.
template <Device D>
std::unique_ptr<LearnerTrainer<D>> make_trainer(const std::string& name, const FrozenClip<D>& clip,
                                                PromptLearner<D>& learner,
                                                const LearnerTexts<typename D::Scalar>& texts, const Recipe& recipe,
                                                const TrainerOptions<D>& options) {
    find_learner(name);
    return detail::with_method(detail::Methods{}, name, [&](auto method) {
        return decltype(method)::template make_trainer<D>(clip.device, clip.model, learner, texts, recipe, options);
    });
}

PROMPTKD_COMPILED_FUNCTION(std::unique_ptr<PromptLearner<Cpu<float>>> make_learner(
    const std::string&, const FrozenClip<Cpu<float>>&, const Recipe&, const ContextOptions&, Index));
PROMPTKD_COMPILED_FUNCTION(std::unique_ptr<LearnerTrainer<Cpu<float>>> make_trainer(
    const std::string&, const FrozenClip<Cpu<float>>&, PromptLearner<Cpu<float>>&, const LearnerTexts<float>&,
    const Recipe&, const TrainerOptions<Cpu<float>>&));

}  // namespace promptkd
