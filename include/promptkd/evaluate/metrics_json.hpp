// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/metrics.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace promptkd {

/// {"accuracy", "error_rate", "macro_f1", "mean_per_class", "per_class": {name: accuracy}, "n"} in percent;
/// "unreadable" too when images were skipped. Classes without an image are left out. Throws Error unless there is a
/// name a class.
inline nlohmann::ordered_json to_json(const Metrics& metrics, const std::vector<std::string>& class_names) {
    require(static_cast<Index>(class_names.size()) == metrics.classes, "metrics: ", class_names.size(),
            " class names for ", metrics.classes, " classes");
    nlohmann::ordered_json per_class = nlohmann::ordered_json::object();
    for (std::size_t c = 0; c < class_names.size(); ++c)
        if (metrics.support[c] > 0) per_class[class_names[c]] = metrics.per_class[c];
    nlohmann::ordered_json json = {{"accuracy", metrics.accuracy},      {"error_rate", metrics.error_rate},
                                   {"macro_f1", metrics.macro_f1},      {"mean_per_class", metrics.mean_per_class},
                                   {"per_class", std::move(per_class)}, {"n", metrics.n}};
    if (metrics.unreadable > 0) json["unreadable"] = metrics.unreadable;
    return json;
}

}  // namespace promptkd
