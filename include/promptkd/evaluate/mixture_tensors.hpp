// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/distill/closed_form/mixture.hpp>
#include <promptkd/distill/closed_form/projector_tensors.hpp>

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd {

namespace detail {

inline constexpr std::string_view mixture_prefix = "mixture.";
inline constexpr std::string_view guard_prefix = "guard.";
inline constexpr const char* fitted_prefix = "fitted.";
inline constexpr const char* mixture_features_key = "mixture_features";

/// Whether a bundle's tensor of this name belongs to its mixture or guard.
inline bool is_mixture_name(std::string_view name) {
    return name.starts_with(mixture_prefix) || name.starts_with(guard_prefix) || name.starts_with(fitted_prefix);
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

/// Throws Error unless `values` (width, width) can be the precision Γ of a guard: symmetric, with a positive diagonal
/// and no product of two rows beyond what it allows (|γ_ij| ≤ √(γ_ii·γ_jj)), without which a distance could be
/// negative.
inline void require_precision(const TensorMap& map, const std::string& name, const std::vector<double>& values,
                              Index width) {
    constexpr double tolerance = 1e-6;
    const auto at = [&](Index i, Index j) { return values[static_cast<std::size_t>(i * width + j)]; };
    for (Index i = 0; i < width; ++i)
        require(at(i, i) > 0, map.source, ": '", name, "' has ", at(i, i), " on its diagonal, expected more than 0");
    for (Index i = 0; i < width; ++i)
        for (Index j = 0; j < i; ++j) {
            const double most = std::sqrt(at(i, i)) * std::sqrt(at(j, j));
            require(std::abs(at(i, j) - at(j, i)) <= tolerance * most, map.source, ": '", name,
                    "' is not symmetric at row ", i, ", column ", j);
            require(std::abs(at(i, j)) <= (1 + tolerance) * most, map.source, ": '", name,
                    "' measures no distances: ", at(i, j), " at row ", i, ", column ", j,
                    " is beyond what its diagonal allows");
        }
}

inline Guard load_guard(const TensorMap& map, Index width) {
    constexpr double any = 1e308;
    Guard guard;
    guard.width = width;
    guard.images = static_cast<Index>(finite_value(map, "guard.images", 1e15));
    guard.mean = finite_values(map, "guard.mean", {width});
    guard.precision = finite_values(map, "guard.precision", {width, width});
    require_precision(map, "guard.precision", guard.precision, width);
    guard.cutoff = finite_value(map, "guard.cutoff", any);
    return guard;
}

/// The fitted student of a mixture of features of e_s values.
inline FittedStudent load_fitted(const TensorMap& map, Index inputs) {
    const std::string prefix = fitted_prefix;
    const Shape& hidden = map.at(prefix + projector_name(0, "bias")).shape;
    const Shape& output = map.at(prefix + projector_name(3, "bias")).shape;
    require(hidden.size() == 1 && output.size() == 1 && hidden[0] > 0 && output[0] > 0, map.source,
            ": the fitted student's biases have shapes ", to_string(hidden), " and ", to_string(output));
    FittedStudent fitted;
    const auto read = [&](const std::string& name, const Shape& shape) {
        return finite_values(map, prefix + name, shape);
    };
    read_projector_tensors(read, inputs, hidden[0], output[0], fitted.hidden, fitted.output);
    fitted.scale = finite_value(map, prefix + "scale", 1e308);
    fitted.weight = finite_value(map, prefix + "weight", 1, true);
    return fitted;
}

}  // namespace detail

/// Writes a mixture's tensors (evaluate/bundle.hpp lists them) and says which features it reads.
inline void save_mixture(const Mixture& mixture, TensorMap& map) {
    map.tensors["mixture.student_text"] = make_tensor(mixture.student_text, {mixture.classes, mixture.width});
    map.tensors["mixture.temperature"] = make_tensor(std::vector<double>{mixture.temperature}, {});
    map.tensors["mixture.distilled_scale"] = make_tensor(std::vector<double>{mixture.distilled_scale}, {});
    map.tensors["mixture.weight"] = make_tensor(std::vector<double>{mixture.weight}, {});
    map.metadata[detail::mixture_features_key] = mixture.features == MixtureFeatures::plain ? "plain" : "prompted";
    if (mixture.fitted) {
        const FittedStudent& fitted = *mixture.fitted;
        const std::string prefix = detail::fitted_prefix;
        for (const auto& [name, tensor] : projector_tensors(fitted.hidden, fitted.output).tensors)
            map.tensors[prefix + name] = make_tensor(tensor.to<float>(), tensor.shape);
        map.tensors[prefix + "scale"] = make_tensor(std::vector<double>{fitted.scale}, {});
        map.tensors[prefix + "weight"] = make_tensor(std::vector<double>{fitted.weight}, {});
    }
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
    if (map.contains(std::string(detail::fitted_prefix) + "weight")) {
        mixture.fitted = detail::load_fitted(map, mixture.width);
        require(mixture.weight + mixture.fitted->weight <= 1 + 1e-9, map.source,
                ": the weights of a mixture's students add up to more than 1");
    }
    if (map.contains("guard.cutoff")) mixture.guard = detail::load_guard(map, mixture.width);
    return mixture;
}

}  // namespace promptkd
