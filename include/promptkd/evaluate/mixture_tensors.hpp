// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/distill/closed_form/mixture.hpp>

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd {

namespace detail {

inline constexpr std::string_view mixture_prefix = "mixture.";
inline constexpr std::string_view guard_prefix = "guard.";
inline constexpr const char* mixture_features_key = "mixture_features";

/// Whether a bundle's tensor of this name belongs to its mixture or guard.
inline bool is_mixture_name(std::string_view name) {
    return name.starts_with(mixture_prefix) || name.starts_with(guard_prefix);
}

/// The values of a tensor of this shape. Throws Error naming file and tensor for one that is not finite.
inline std::vector<double> finite_values(const TensorMap& map, const std::string& name, const Shape& shape) {
    std::vector<double> values = map.at(name, shape).to<double>();
    for (const double value : values)
        require(std::isfinite(value), map.source, ": '", name, "' holds a value that is not finite");
    return values;
}

/// A tensor of one value. Throws Error unless it lies in (low, high], or [0, high] for low = 0 with `zero`.
inline double finite_value(const TensorMap& map, const std::string& name, double high, bool zero = false) {
    const double value = finite_values(map, name, {}).front();
    require((zero ? value >= 0 : value > 0) && value <= high, map.source, ": '", name, "' is ", value, ", expected ",
            zero ? "0" : "more than 0", high < 1e300 ? concat(" to ", high) : std::string());
    return value;
}

inline Guard load_guard(const TensorMap& map, Index width) {
    constexpr double any = 1e308;
    Guard guard;
    guard.width = width;
    guard.images = static_cast<Index>(finite_value(map, "guard.images", 1e15));
    guard.mean = finite_values(map, "guard.mean", {width});
    guard.precision = finite_values(map, "guard.precision", {width, width});
    guard.cutoff = finite_value(map, "guard.cutoff", any);
    return guard;
}

}  // namespace detail

/// Writes a mixture's tensors (evaluate/bundle.hpp lists them) and says which features it reads.
inline void save_mixture(const Mixture& mixture, TensorMap& map) {
    map.tensors["mixture.student_text"] = make_tensor(mixture.student_text, {mixture.classes, mixture.width});
    map.tensors["mixture.temperature"] = make_tensor(std::vector<double>{mixture.temperature}, {});
    map.tensors["mixture.distilled_scale"] = make_tensor(std::vector<double>{mixture.distilled_scale}, {});
    map.tensors["mixture.weight"] = make_tensor(std::vector<double>{mixture.weight}, {});
    map.metadata[detail::mixture_features_key] = mixture.features == MixtureFeatures::plain ? "plain" : "prompted";
    if (!mixture.guard) return;
    const Guard& guard = *mixture.guard;
    map.tensors["guard.mean"] = make_tensor(guard.mean, {guard.width});
    map.tensors["guard.precision"] = make_tensor(guard.precision, {guard.width, guard.width});
    map.tensors["guard.cutoff"] = make_tensor(std::vector<double>{guard.cutoff}, {});
    map.tensors["guard.images"] = make_tensor(std::vector<double>{static_cast<double>(guard.images)}, {});
}

/// What save_mixture() wrote, for a student of K classes with logit scale s_s. Throws Error naming file and tensor for
/// what is missing, has another shape, is not finite or out of range.
inline Mixture load_mixture(const TensorMap& map, Index classes, double zero_shot_scale) {
    constexpr double any = 1e308;
    const Shape& shape = map.at("mixture.student_text").shape;
    require(shape.size() == 2 && shape[0] == classes && shape[1] > 0, map.source, ": 'mixture.student_text' has shape ",
            to_string(shape), " for ", classes, " class names");
    Mixture mixture;
    mixture.classes = classes;
    mixture.width = shape[1];
    mixture.student_text = detail::finite_values(map, "mixture.student_text", shape);
    mixture.zero_shot_scale = zero_shot_scale;
    mixture.temperature = detail::finite_value(map, "mixture.temperature", any);
    mixture.distilled_scale = detail::finite_value(map, "mixture.distilled_scale", any);
    mixture.weight = detail::finite_value(map, "mixture.weight", 1, true);
    const auto features = map.metadata.find(detail::mixture_features_key);
    if (features != map.metadata.end()) {
        require(features->second == "plain" || features->second == "prompted", map.source, ": metadata '",
                detail::mixture_features_key, "' is '", features->second, "', expected plain or prompted");
        if (features->second == "prompted") mixture.features = MixtureFeatures::prompted;
    }
    if (map.contains("guard.cutoff")) mixture.guard = detail::load_guard(map, mixture.width);
    return mixture;
}

}  // namespace promptkd
