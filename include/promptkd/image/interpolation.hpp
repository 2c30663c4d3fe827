// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <cmath>
#include <string>

namespace promptkd {

/// Pillow's resampling filters. All but `nearest` are antialiased: stretched by the scale when they shrink an image.
enum class Interpolation { nearest, bilinear, bicubic, lanczos, box, hamming };

/// "nearest", "bilinear", "bicubic", "lanczos", "box", "hamming".
inline const char* name_of(Interpolation interpolation) {
    constexpr const char* names[] = {"nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"};
    return names[static_cast<int>(interpolation)];
}

/// Throws Error listing the filters for an unknown name.
inline Interpolation parse_interpolation(const std::string& name) {
    for (int i = 0; i <= static_cast<int>(Interpolation::hamming); ++i)
        if (name == name_of(static_cast<Interpolation>(i))) return static_cast<Interpolation>(i);
    fail("unknown interpolation '", name, "'; known: nearest, bilinear, bicubic, lanczos, box, hamming");
}

namespace detail {

/// Cubic convolution with parameter `a` (Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981).
/// The order of the operations is Pillow's, so that the weights round alike.
inline double cubic(double x, double a) {
    x = std::abs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

/// Pillow's bicubic kernel.
inline double bicubic(double x) { return cubic(x, -0.5); }

/// sin(πx)/(πx)
inline double sinc(double x) {
    constexpr double pi = 3.141592653589793238462643383279502884;
    if (x == 0.0) return 1.0;
    x *= pi;
    return std::sin(x) / x;
}

/// A filter and how far it reaches to each side, in input pixels at scale 1. The formulas are Pillow's.
struct ResampleFilter {
    double (*value)(double) = nullptr;
    double support = 0;
};

inline double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

inline double bilinear(double x) {
    x = std::abs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

inline double hamming(double x) {
    constexpr double pi = 3.141592653589793238462643383279502884;
    x = std::abs(x);
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x *= pi;
    return std::sin(x) / x * (0.54 + 0.46 * std::cos(x));
}

/// Truncated sinc windowed by a wider one.
inline double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

/// Throws Error for `nearest`, which is no weighted sum.
inline ResampleFilter resample_filter(Interpolation interpolation) {
    switch (interpolation) {
        case Interpolation::box:
            return {box, 0.5};
        case Interpolation::bilinear:
            return {bilinear, 1.0};
        case Interpolation::hamming:
            return {hamming, 1.0};
        case Interpolation::bicubic:
            return {bicubic, 2.0};
        case Interpolation::lanczos:
            return {lanczos, 3.0};
        default:
            fail("nearest-neighbour interpolation has no filter");
    }
}

}  // namespace detail

}  // namespace promptkd
