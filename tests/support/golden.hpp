// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace promptkd::test {

/// Bounds that replace smaller ones of the golden data on a device that computes in 16 bits: for losses; for the
/// gradients and the updated parameters of the first step; of later steps, where differences have fed back; for
/// everything else.
struct Bounds {
    double loss = 0, gradients = 0, later = 0, values = 0;

    double at_least(const std::string& what, double tolerance) const {
        const auto says = [&](const char* part) { return what.find(part) != std::string::npos; };
        if (says("loss")) return std::max(tolerance, loss);
        if (!says("grad.") && !says("after.")) return std::max(tolerance, values);
        return std::max(tolerance, says("step0.") ? gradients : later);
    }
};

/// Collects the comparisons of one golden case. A case fails when any comparison does; the worst are printed.
class Report {
public:
    explicit Report(std::string name, Bounds bounds = {}) : name_(std::move(name)), bounds_(bounds) {}

    /// max|got − want| / max|want| ≤ tolerance (golden/README.md's measure). A NaN on either side fails.
    template <class A, class B>
    void close(const std::string& what, const A* got, const B* want, Index n, double tolerance) {
        tolerance = bounds_.at_least(what, tolerance);
        double difference = 0, magnitude = 0;
        for (Index i = 0; i < n; ++i) {
            const double g = static_cast<double>(got[i]), w = static_cast<double>(want[i]);
            const double d = std::abs(g - w);
            difference = std::isnan(d) ? INFINITY : std::max(difference, d);
            magnitude = std::max(magnitude, std::abs(w));
        }
        const double relative = magnitude > 0 ? difference / magnitude : difference;
        check(relative <= tolerance, concat(what, ": relative difference ", relative, " > ", tolerance));
        worst_ = std::max(worst_, relative / tolerance);
    }

    template <class A, class B>
    void close(const std::string& what, const std::vector<A>& got, const std::vector<B>& want, double tolerance) {
        if (got.size() != want.size())
            return check(false, concat(what, ": ", got.size(), " values, expected ", want.size()));
        close(what, got.data(), want.data(), static_cast<Index>(want.size()), tolerance);
    }

    /// Records a failure with `message` unless `good`.
    void check(bool good, const std::string& message) {
        ++comparisons_;
        if (good) return;
        ++failures_;
        if (failures_ <= 10) std::printf("  %s: %s\n", name_.c_str(), message.c_str());
    }

    const Bounds& bounds() const { return bounds_; }
    const std::string& name() const { return name_; }
    int failures() const { return failures_; }
    int comparisons() const { return comparisons_; }
    /// Largest relative difference divided by its bound.
    double worst() const { return worst_; }

private:
    std::string name_;
    Bounds bounds_;
    int failures_ = 0, comparisons_ = 0;
    double worst_ = 0;
};

}  // namespace promptkd::test
