// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/packets.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

#ifdef PROMPTKD_DISPATCH

/// 16 floats in two registers of V3, with what functors compute. Copied by a constructor of its own: values of such
/// classes are passed in memory by every function, whatever the registers of its processors.
class Wide {
public:
    PROMPTKD_TARGET_V3 Wide() {}
    PROMPTKD_TARGET_V3 Wide(const Wide& other) : low_(other.low_), high_(other.high_) {}
    PROMPTKD_TARGET_V3 explicit Wide(float value) : low_(_mm256_set1_ps(value)), high_(low_) {}
    PROMPTKD_TARGET_V3 Wide& operator=(const Wide& other) {
        low_ = other.low_;
        high_ = other.high_;
        return *this;
    }

    template <class P>
    PROMPTKD_TARGET_V3 static Wide load(const P* from) {
        Wide x;
        Packets<float, V3>::load(from, x.low_);
        Packets<float, V3>::load(from + 8, x.high_);
        return x;
    }
    template <class P>
    PROMPTKD_TARGET_V3 void store(P* to) const {
        Packets<float, V3>::store(to, low_);
        Packets<float, V3>::store(to + 8, high_);
    }

    PROMPTKD_TARGET_V3 friend Wide operator+(const Wide& a, const Wide& b) {
        return Wide(_mm256_add_ps(a.low_, b.low_), _mm256_add_ps(a.high_, b.high_));
    }
    PROMPTKD_TARGET_V3 friend Wide operator-(const Wide& a, const Wide& b) {
        return Wide(_mm256_sub_ps(a.low_, b.low_), _mm256_sub_ps(a.high_, b.high_));
    }
    PROMPTKD_TARGET_V3 friend Wide operator*(const Wide& a, const Wide& b) {
        return Wide(_mm256_mul_ps(a.low_, b.low_), _mm256_mul_ps(a.high_, b.high_));
    }
    PROMPTKD_TARGET_V3 friend Wide operator/(const Wide& a, const Wide& b) {
        return Wide(_mm256_div_ps(a.low_, b.low_), _mm256_div_ps(a.high_, b.high_));
    }
    PROMPTKD_TARGET_V3 friend Wide operator+(const Wide& a, float b) { return a + Wide(b); }
    PROMPTKD_TARGET_V3 friend Wide operator-(const Wide& a, float b) { return a - Wide(b); }
    PROMPTKD_TARGET_V3 friend Wide operator*(const Wide& a, float b) { return a * Wide(b); }
    PROMPTKD_TARGET_V3 friend Wide operator/(const Wide& a, float b) { return a / Wide(b); }
    PROMPTKD_TARGET_V3 friend Wide operator-(const Wide& a) { return Wide(0.0f) - a; }
    PROMPTKD_TARGET_V3 Wide& operator+=(const Wide& other) { return *this = *this + other; }

    /// a < b ? b : a.
    PROMPTKD_TARGET_V3 static Wide max(const Wide& a, const Wide& b) {
        return Wide(_mm256_max_ps(b.low_, a.low_), _mm256_max_ps(b.high_, a.high_));
    }
    PROMPTKD_TARGET_V3 static Wide abs(const Wide& a) {
        const __m256 sign = _mm256_set1_ps(-0.0f);
        return Wide(_mm256_andnot_ps(sign, a.low_), _mm256_andnot_ps(sign, a.high_));
    }
    PROMPTKD_TARGET_V3 static Wide where_positive(const Wide& condition, const Wide& value) {
        const __m256 zero = _mm256_setzero_ps();
        return Wide(_mm256_and_ps(_mm256_cmp_ps(condition.low_, zero, _CMP_GT_OQ), value.low_),
                    _mm256_and_ps(_mm256_cmp_ps(condition.high_, zero, _CMP_GT_OQ), value.high_));
    }
    PROMPTKD_TARGET_V3 float sum() const {
        alignas(32) float x[8];
        _mm256_store_ps(x, _mm256_add_ps(low_, high_));
        return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
    }
    PROMPTKD_TARGET_V3 float largest() const {
        alignas(32) float x[8];
        _mm256_store_ps(x, _mm256_max_ps(high_, low_));
        float best = x[0];
        for (int i = 1; i < 8; ++i) best = best < x[i] ? x[i] : best;
        return best;
    }

    PROMPTKD_TARGET_V3 friend Wide sqrt(const Wide& a) { return Wide(_mm256_sqrt_ps(a.low_), _mm256_sqrt_ps(a.high_)); }
    PROMPTKD_TARGET_V3 friend Wide exp(const Wide& a) { return Wide(exponential(a.low_), exponential(a.high_)); }
    /// 1 − (a₁t + … + a₅t⁵)·exp(−x²), t = 1/(1 + p·|x|), with the sign of x (Abramowitz and Stegun, 1964, 7.1.26): to
    /// 1.5e-7.
    PROMPTKD_TARGET_V3 friend Wide erf(const Wide& x) {
        const Wide magnitude = abs(x), t = Wide(1.0f) / (magnitude * 0.3275911f + 1.0f);
        const Wide series =
            ((((t * 1.061405429f - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
        const Wide y = Wide(1.0f) - series * exp(-(x * x));
        const __m256 sign = _mm256_set1_ps(-0.0f);
        return Wide(_mm256_or_ps(y.low_, _mm256_and_ps(sign, x.low_)),
                    _mm256_or_ps(y.high_, _mm256_and_ps(sign, x.high_)));
    }

private:
    PROMPTKD_TARGET_V3 Wide(const __m256& low, const __m256& high) : low_(low), high_(high) {}

    /// eˣ = 2ⁿ·eʳ, n = round(x/log 2), |r| ≤ log(2)/2: Taylor's series of eʳ to r⁷, whose rest is below 6e-9. 2ⁿ in two
    /// factors: large results become infinite and small ones subnormal as they should. NaN stays NaN.
    PROMPTKD_TARGET_V3 static __m256 exponential(__m256 x) {
        x = _mm256_max_ps(_mm256_set1_ps(-110.0f), _mm256_min_ps(_mm256_set1_ps(100.0f), x));
        const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        // log 2 in two parts, of which the first has few digits: n·first is exact.
        __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
        r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
        __m256 y = _mm256_set1_ps(1.0f / 5040);
        for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
            y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(c));
        const __m256i whole = _mm256_cvtps_epi32(n), half_of = _mm256_srai_epi32(whole, 1);
        return _mm256_mul_ps(_mm256_mul_ps(y, power_of_two(half_of)), power_of_two(_mm256_sub_epi32(whole, half_of)));
    }
    PROMPTKD_TARGET_V3 static __m256 power_of_two(__m256i n) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
    }

    __m256 low_, high_;
};

#endif

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
