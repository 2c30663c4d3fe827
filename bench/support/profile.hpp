// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

#include <cxxabi.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <typeinfo>
#include <vector>

namespace promptkd::bench {

/// Floating-point operations of a product: a multiplication and an addition for each pair of factors.
inline double flops_of(const Gemm& g) {
    return 2.0 * static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(g.k) *
           static_cast<double>(g.batch * g.outer);
}

/// A device that also counts the floating-point operations of its products, without waiting for any: its times are the
/// device's own. A recorded step that is replayed is not counted.
template <Device D>
class Counted : public D {
public:
    using D::D;

    void gemm(const Gemm& g) {
        if (!this->is_planning()) flops_ += flops_of(g);
        D::gemm(g);
    }
    void reset() { flops_ = 0; }
    double flops() const { return flops_; }

private:
    double flops_ = 0;
};

/// A device that also counts the time and the floating-point operations of each kind of launch. On a GPU it waits for
/// every launch, which adds some microseconds to each.
template <Device D>
class Profiled : public D {
public:
    using D::D;

    template <class F>
    void map(Index n, const F& f) {
        const Timer timer(*this, name_of_type<F>(), 0);
        D::map(n, f);
    }
    template <class F>
    void rows(Index n, Index cost, const F& f) {
        const Timer timer(*this, name_of_type<F>(), 0);
        D::rows(n, cost, f);
    }
    template <class F>
    void matrix_teams(Index n, const F& f) {
        const Timer timer(*this, name_of_type<F>(), 0);
        D::matrix_teams(n, f);
    }
    void gemm(const Gemm& g) {
        const char* kind = g.batch * g.outer > 1                      ? "products, batched"
                           : g.b.type == dtype_of<typename D::Scalar> ? "products"
                                                                      : "products, 16-bit weights";
        const Timer timer(*this, kind, flops_of(g));
        D::gemm(g);
    }

    void reset() { entries_.clear(); }

    /// One line an operation, the slowest first.
    void print(std::FILE* out) const {
        std::vector<std::pair<std::string, Entry>> all(entries_.begin(), entries_.end());
        std::sort(all.begin(), all.end(),
                  [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
        const double total = seconds();
        for (const auto& [name, e] : all)
            std::fprintf(out, "%6.2f %%  %9.4f s  %7lld calls  %8.1f GFLOP/s  %s\n", 100 * e.seconds / total, e.seconds,
                         static_cast<long long>(e.calls), e.flops / std::max(e.seconds, 1e-12) * 1e-9, name.c_str());
    }
    double flops() const { return total(&Entry::flops); }
    double seconds() const { return total(&Entry::seconds); }

private:
    struct Entry {
        double seconds = 0, flops = 0;
        Index calls = 0;
    };

    double total(double Entry::*field) const {
        double sum = 0;
        for (const auto& entry : entries_) sum += entry.second.*field;
        return sum;
    }

    using Clock = std::chrono::steady_clock;

    class Timer {
    public:
        Timer(Profiled& owner, const std::string& name, double flops)
            : owner_(owner), name_(name), flops_(flops), start_(Clock::now()) {}
        ~Timer() {
            if (owner_.is_planning()) return;
            owner_.synchronize();
            Entry& e = owner_.entries_[name_];
            e.seconds += std::chrono::duration<double>(Clock::now() - start_).count();
            e.flops += flops_;
            ++e.calls;
        }

    private:
        Profiled& owner_;
        std::string name_;
        double flops_;
        Clock::time_point start_;
    };

    template <class F>
    static const std::string& name_of_type() {
        static const std::string name = [] {
            int status = 0;
            char* text = abi::__cxa_demangle(typeid(F).name(), nullptr, nullptr, &status);
            std::string s = text ? text : typeid(F).name();
            std::free(text);
            const std::size_t at = s.find("detail::");
            return at == std::string::npos ? s : s.substr(at + 8);
        }();
        return name;
    }

    std::map<std::string, Entry> entries_;
};

}  // namespace promptkd::bench
