// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/text/imagenet_templates.hpp>

#include <array>
#include <string_view>

namespace promptkd {

/// The texts over which PromptSRC averages its frozen text features, "{}" standing for the class name, in the published
/// order: the plainest one, then the others among the first 60 that OpenAI published for ImageNet.
inline constexpr std::array<const char*, 60> promptsrc_templates = [] {
    std::array<const char*, 60> templates{"a photo of a {}."};
    std::size_t n = 1;
    for (const char* text : detail::imagenet_templates)
        if (n < templates.size() && std::string_view(text) != templates.front()) templates[n++] = text;
    return templates;
}();

}  // namespace promptkd
