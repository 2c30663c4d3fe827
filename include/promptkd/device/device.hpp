// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/device/gemm.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace promptkd {

/// What every functor given to Device::map receives: a run of `width` consecutive elements starting at `index`.
/// Functors are structs with `template <class Lane> PROMPTKD_HD void operator()(const Lane& lane) const` that load
/// values with `lane.load(pointer)` (elements pointer[index…index+width-1], widened to the device's Scalar), compute
/// with + - * /, exp, log, sqrt, and the lane's `fill`, `max`, `where_positive`, and store with `lane.store(pointer,
/// value)`. ScalarLane has width 1; the CPU device also instantiates functors on packs of 16 floats, which is what
/// vectorises them.
template <class T>
struct ScalarLane {
    /// See the struct.
    ///@{
    using Value = T;
    static constexpr Index width = 1;
    Index index;

    template <class P>
    PROMPTKD_HD T load(const P* p) const {
        return static_cast<T>(p[index]);
    }
    template <class P>
    PROMPTKD_HD void store(P* p, T v) const {
        p[index] = P(v);
    }
    ///@}
    /// A lane of one value.
    PROMPTKD_HD static T fill(T v) { return v; }
    /// The evaluated value of an expression; return this from lambdas, never an unevaluated expression.
    PROMPTKD_HD static T value(T v) { return v; }
    /// Of two values (a where that is NaN), of one.
    ///@{
    PROMPTKD_HD static T max(T a, T b) { return a < b ? b : a; }
    PROMPTKD_HD static T abs(T a) { return a < 0 ? -a : a; }
    ///@}
    /// `value` where condition > 0, otherwise 0.
    PROMPTKD_HD static T where_positive(T condition, T value) { return condition > 0 ? value : T(0); }
};

/// Quotient and remainder of a row number, for functors. In 32 bits, which rows never exceed: on a GPU a 64-bit
/// division is a subroutine, around which registers are spilled.
struct Division {
    Index quotient, remainder;  ///< row = by·quotient + remainder
};
/// Of a row number.
PROMPTKD_HD inline Division divide(Index row, Index by) {
    const auto a = static_cast<std::uint32_t>(row), b = static_cast<std::uint32_t>(by);
    return {static_cast<Index>(a / b), static_cast<Index>(a % b)};
}

/// The value type of a lane inside a generic lambda: `LaneValue<decltype(lane)>`.
template <class Lane>
using LaneValue = typename std::remove_cvref_t<Lane>::Value;

namespace detail {

struct ProbeMap {
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane&) const {}
};

struct ProbeRows {
    template <class Team>
    PROMPTKD_HD void operator()(Team&, Index) const {}
};

}  // namespace detail

/// Whether the calling thread is planning with a device: a member of every device. It nests.
class PlanningFlag {
public:
    PlanningFlag() = default;
    PlanningFlag(const PlanningFlag&) = delete;
    PlanningFlag& operator=(const PlanningFlag&) = delete;

    /// Begins, or ends what began last. Throws Error when a thread plans with more than 16 devices at a time.
    void set(bool on) {
        Planned& now = planned();
        if (on) {
            require(now.count < most, "planning: more than ", most, " plans inside each other");
            now.flags[now.count++] = this;
            return;
        }
        const auto end = now.flags + now.count;
        const auto mine = std::find(now.flags, end, this);
        if (mine == end) return;
        std::copy(mine + 1, end, mine);
        --now.count;
    }
    /// Whether the calling thread began and did not end.
    bool is_on() const {
        const Planned& now = planned();
        return std::find(now.flags, now.flags + now.count, this) != now.flags + now.count;
    }

private:
    static constexpr int most = 16;
    struct Planned {
        const PlanningFlag* flags[most] = {};
        int count = 0;
    };
    static Planned& planned() {
        thread_local Planned now;
        return now;
    }
};

/// A place where tensors live and operations run. Implementations: Cpu (Eigen), Cuda (cuBLAS), and the tests'
/// EmulatedCuda. `Scalar` is the type of parameters, statistics and losses; `Activation` that of stored activations.
///
/// Memory: allocate/release at set-up only; upload/download between host and device, copy on the device, zero.
///   Work is queued in order. upload may read the host's memory later: leave it unchanged until synchronize() or a
///   download, both of which wait for everything before. A device whose products need factors of one type has
///   `static constexpr bool one_factor_type = true`; frozen matrices are then stored as Activation.
/// map(n, f): f(lane) over lanes that together cover [0, n) once.
/// rows(n, cost, f): f(team, row) once for each row < n. `cost` estimates the elements touched a row. A Team offers
///   each(n, g): g(lane) over lanes that cover [0, n);
///   sum(n, g), max(n, g): the reduction of g(lane) over [0, n), the same value in every thread of the team;
///   items(n, g): g(i) once for each i < n, an index a thread: for what does not run along consecutive elements;
///   once(g): g() in one thread. Every reduction, `each` and `items` is followed by a barrier of the team;
///   memory(): f.team_values() values of Scalar of the team's own, for functors that have such a function. They begin
///   undefined in every row.
/// gemm: see Gemm. planning(true): from now on every operation of the calling thread returns at once without touching
///   memory, so that a step can be run against an unbound Arena to measure what it needs; planning(false) ends what the
///   last planning(true) began. A PlanningFlag does that. Other threads do not see it.
template <class D>
concept Device = requires(D d, void* p, const void* q, std::size_t n, Index i, const Gemm& g, bool on) {
    typename D::Scalar;
    typename D::Activation;
    { d.allocate(n) } -> std::same_as<void*>;
    d.release(p);
    d.upload(p, q, n);
    d.download(p, q, n);
    d.copy(p, q, n);
    d.zero(p, n);
    d.synchronize();
    d.map(i, detail::ProbeMap{});
    d.rows(i, i, detail::ProbeRows{});
    d.gemm(g);
    d.planning(on);
    { d.is_planning() } -> std::convertible_to<bool>;
};

/// Planning mode of the calling thread for a scope.
template <Device D>
class PlanningScope {
public:
    /// Until it is destroyed.
    explicit PlanningScope(D& device) : device_(device) { device_.planning(true); }
    ~PlanningScope() { device_.planning(false); }
    PlanningScope(const PlanningScope&) = delete;
    PlanningScope& operator=(const PlanningScope&) = delete;

private:
    D& device_;
};

}  // namespace promptkd
