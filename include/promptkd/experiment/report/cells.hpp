// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/metrics.hpp>
#include <promptkd/experiment/published.hpp>
#include <promptkd/experiment/report/report.hpp>

#include <cmath>
#include <map>
#include <optional>
#include <string>

namespace promptkd::detail {

/// Values of one figure by seed; under 0 what has no seed.
using SeedValues = std::map<std::uint64_t, double>;

inline double mean_of(const SeedValues& values) {
    double sum = 0;
    for (const auto& entry : values) sum += entry.second;
    return sum / static_cast<double>(values.size());
}

/// Mean and deviation of `values`; nothing without values.
inline std::optional<ReportCell> make_cell(const SeedValues& values, std::optional<double> published = {}) {
    if (values.empty()) return std::nullopt;
    ReportCell cell;
    cell.values = values;
    cell.mean = mean_of(values);
    cell.published = published;
    double square = 0;
    for (const auto& entry : values) square += (entry.second - cell.mean) * (entry.second - cell.mean);
    const double n = static_cast<double>(values.size());
    if (n > 1) cell.standard_deviation = std::sqrt(square / (n - 1));
    return cell;
}

/// Base and new accuracy by seed, and their harmonic mean.
struct HalvesValues {
    SeedValues base, novel, harmonic;
};

/// The cells of a row of the base-to-novel protocol. The harmonic mean is that of the mean base and mean new accuracy,
/// as the papers have it; its deviation is that of the harmonic means of the seeds.
inline std::vector<std::optional<ReportCell>> halves_cells(const HalvesValues& values,
                                                           const std::optional<PublishedAccuracy>& published) {
    const auto part = [&published](double PublishedAccuracy::*field) {
        return published ? std::optional<double>(*published.*field) : std::nullopt;
    };
    std::optional<ReportCell> mean = make_cell(values.harmonic, part(&PublishedAccuracy::harmonic_mean));
    if (mean) mean->mean = harmonic_mean(mean_of(values.base), mean_of(values.novel));
    return {make_cell(values.base, part(&PublishedAccuracy::base)),
            make_cell(values.novel, part(&PublishedAccuracy::novel)), mean};
}

/// The published method that a row is to be compared with.
inline std::optional<PublishedMethod> method_of(const std::string& row) {
    if (row == "CLIP" || row == "CLIP student") return PublishedMethod::clip;
    for (int i = 1; i <= static_cast<int>(PublishedMethod::promptkd); ++i)
        if (row == name_of(static_cast<PublishedMethod>(i))) return static_cast<PublishedMethod>(i);
    return std::nullopt;
}

}  // namespace promptkd::detail
