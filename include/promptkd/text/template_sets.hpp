// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/text/class_names.hpp>
#include <promptkd/text/imagenet_templates.hpp>

#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// The prompt texts that were published together for a data set, "{}" standing for the class name.
struct TemplateSet {
    std::string name;                    ///< of the data set
    std::vector<std::string> templates;  ///< whose class vectors are averaged
};

namespace detail {

template <std::size_t N>
TemplateSet template_set(const char* name, const char* const (&templates)[N]) {
    return {name, {templates, templates + N}};
}

// CLIP, data/prompts.md.
inline constexpr const char* caltech101_templates[] = {
    "a photo of a {}.",
    "a painting of a {}.",
    "a plastic {}.",
    "a sculpture of a {}.",
    "a sketch of a {}.",
    "a tattoo of a {}.",
    "a toy {}.",
    "a rendition of a {}.",
    "a embroidered {}.",
    "a cartoon {}.",
    "a {} in a video game.",
    "a plushie {}.",
    "a origami {}.",
    "art of a {}.",
    "graffiti of a {}.",
    "a drawing of a {}.",
    "a doodle of a {}.",
    "a photo of the {}.",
    "a painting of the {}.",
    "the plastic {}.",
    "a sculpture of the {}.",
    "a sketch of the {}.",
    "a tattoo of the {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "the embroidered {}.",
    "the cartoon {}.",
    "the {} in a video game.",
    "the plushie {}.",
    "the origami {}.",
    "art of the {}.",
    "graffiti of the {}.",
    "a drawing of the {}.",
    "a doodle of the {}.",
};
inline constexpr const char* dtd_templates[] = {
    "a photo of a {} texture.",   "a photo of a {} pattern.",   "a photo of a {} thing.",   "a photo of a {} object.",
    "a photo of the {} texture.", "a photo of the {} pattern.", "a photo of the {} thing.", "a photo of the {} object.",
};
inline constexpr const char* stanford_cars_templates[] = {
    "a photo of a {}.",        "a photo of the {}.",      "a photo of my {}.",     "i love my {}!",
    "a photo of my dirty {}.", "a photo of my clean {}.", "a photo of my new {}.", "a photo of my old {}.",
};
inline constexpr const char* ucf101_templates[] = {
    "a photo of a person {}.",
    "a video of a person {}.",
    "a example of a person {}.",
    "a demonstration of a person {}.",
    "a photo of the person {}.",
    "a video of the person {}.",
    "a example of the person {}.",
    "a demonstration of the person {}.",
    "a photo of a person using {}.",
    "a video of a person using {}.",
    "a example of a person using {}.",
    "a demonstration of a person using {}.",
    "a photo of the person using {}.",
    "a video of the person using {}.",
    "a example of the person using {}.",
    "a demonstration of the person using {}.",
    "a photo of a person doing {}.",
    "a video of a person doing {}.",
    "a example of a person doing {}.",
    "a demonstration of a person doing {}.",
    "a photo of the person doing {}.",
    "a video of the person doing {}.",
    "a example of the person doing {}.",
    "a demonstration of the person doing {}.",
    "a photo of a person during {}.",
    "a video of a person during {}.",
    "a example of a person during {}.",
    "a demonstration of a person during {}.",
    "a photo of the person during {}.",
    "a video of the person during {}.",
    "a example of the person during {}.",
    "a demonstration of the person during {}.",
    "a photo of a person performing {}.",
    "a video of a person performing {}.",
    "a example of a person performing {}.",
    "a demonstration of a person performing {}.",
    "a photo of the person performing {}.",
    "a video of the person performing {}.",
    "a example of the person performing {}.",
    "a demonstration of the person performing {}.",
    "a photo of a person practicing {}.",
    "a video of a person practicing {}.",
    "a example of a person practicing {}.",
    "a demonstration of a person practicing {}.",
    "a photo of the person practicing {}.",
    "a video of the person practicing {}.",
    "a example of the person practicing {}.",
    "a demonstration of the person practicing {}.",
};
inline constexpr const char* cifar10_templates[] = {
    "a photo of a {}.",
    "a blurry photo of a {}.",
    "a black and white photo of a {}.",
    "a low contrast photo of a {}.",
    "a high contrast photo of a {}.",
    "a bad photo of a {}.",
    "a good photo of a {}.",
    "a photo of a small {}.",
    "a photo of a big {}.",
    "a photo of the {}.",
    "a blurry photo of the {}.",
    "a black and white photo of the {}.",
    "a low contrast photo of the {}.",
    "a high contrast photo of the {}.",
    "a bad photo of the {}.",
    "a good photo of the {}.",
    "a photo of the small {}.",
    "a photo of the big {}.",
};
inline constexpr const char* resisc45_templates[] = {
    "satellite imagery of {}.",     "aerial imagery of {}.",     "satellite photo of {}.",
    "aerial photo of {}.",          "satellite view of {}.",     "aerial view of {}.",
    "satellite imagery of a {}.",   "aerial imagery of a {}.",   "satellite photo of a {}.",
    "aerial photo of a {}.",        "satellite view of a {}.",   "aerial view of a {}.",
    "satellite imagery of the {}.", "aerial imagery of the {}.", "satellite photo of the {}.",
    "aerial photo of the {}.",      "satellite view of the {}.", "aerial view of the {}.",
};
inline constexpr const char* country211_templates[] = {
    "a photo i took in {}.",        "a photo i took while visiting {}.",  "a photo from my home country of {}.",
    "a photo from my visit to {}.", "a photo showing the country of {}.",
};
inline constexpr const char* kinetics700_templates[] = {
    "a photo of {}.",
    "a photo of a person {}.",
    "a photo of a person using {}.",
    "a photo of a person doing {}.",
    "a photo of a person during {}.",
    "a photo of a person performing {}.",
    "a photo of a person practicing {}.",
    "a video of {}.",
    "a video of a person {}.",
    "a video of a person using {}.",
    "a video of a person doing {}.",
    "a video of a person during {}.",
    "a video of a person performing {}.",
    "a video of a person practicing {}.",
    "a example of {}.",
    "a example of a person {}.",
    "a example of a person using {}.",
    "a example of a person doing {}.",
    "a example of a person during {}.",
    "a example of a person performing {}.",
    "a example of a person practicing {}.",
    "a demonstration of {}.",
    "a demonstration of a person {}.",
    "a demonstration of a person using {}.",
    "a demonstration of a person doing {}.",
    "a demonstration of a person during {}.",
    "a demonstration of a person performing {}.",
    "a demonstration of a person practicing {}.",
};
inline constexpr const char* fer2013_templates[] = {
    "a photo of a {} looking face.",
    "a photo of a face showing the emotion: {}.",
    "a photo of a face looking {}.",
    "a face that looks {}.",
    "they look {}.",
    "look at how {} they are.",
};

}  // namespace detail

/// Every published set: ImageNet's 80 texts, the seven selected from them, and those of further data sets.
inline const std::vector<TemplateSet>& template_sets() {
    using detail::template_set;
    static const std::vector<TemplateSet> sets = {
        template_set("imagenet", detail::imagenet_templates),
        template_set("imagenet_select", detail::imagenet_select_templates),
        template_set("caltech101", detail::caltech101_templates),
        template_set("dtd", detail::dtd_templates),
        {"eurosat",
         {"a centered satellite photo of {}.", "a centered satellite photo of a {}.",
          "a centered satellite photo of the {}."}},
        {"fgvc_aircraft", {"a photo of a {}, a type of aircraft.", "a photo of the {}, a type of aircraft."}},
        {"oxford_flowers", {"a photo of a {}, a type of flower."}},
        {"food101", {"a photo of {}, a type of food."}},
        {"oxford_pets", {"a photo of a {}, a type of pet."}},
        template_set("stanford_cars", detail::stanford_cars_templates),
        {"sun397", {"a photo of a {}.", "a photo of the {}."}},
        template_set("ucf101", detail::ucf101_templates),
        template_set("cifar10", detail::cifar10_templates),
        template_set("cifar100", detail::cifar10_templates),
        {"mnist", {"a photo of the number: \"{}\"."}},
        {"stl10", {"a photo of a {}.", "a photo of the {}."}},
        template_set("resisc45", detail::resisc45_templates),
        {"gtsrb",
         {"a zoomed in photo of a \"{}\" traffic sign.", "a centered photo of a \"{}\" traffic sign.",
          "a close up photo of a \"{}\" traffic sign."}},
        template_set("country211", detail::country211_templates),
        {"pcam", {"this is a photo of {}"}},
        template_set("kinetics700", detail::kinetics700_templates),
        {"birdsnap", {"a photo of a {}, a type of bird."}},
        template_set("fer2013", detail::fer2013_templates),
    };
    return sets;
}

/// The set of a data set, case and - or _ apart; null when none was published.
inline const TemplateSet* find_template_set(std::string name) {
    name = data_set_key(std::move(name));
    const bool variant = name == "imagenetv2" || name.rfind("imagenet_", 0) == 0;
    for (const TemplateSet& set : template_sets())
        if (set.name == name) return &set;
    return variant ? &template_sets().front() : nullptr;
}

}  // namespace promptkd
