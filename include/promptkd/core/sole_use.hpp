// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <atomic>

namespace promptkd {

/// Finds two threads at a time in what belongs to one thread at a time: the second gets an Error, not a wrong answer.
class SoleUse {
public:
    /// Whoever holds one is inside.
    class Scope {
    public:
        /// Throws Error where someone is inside. `what` is used, `instead` says what to do.
        Scope(SoleUse& use, const char* what, const char* instead) : use_(use) {
            require(!use_.inside_.exchange(true, std::memory_order_acquire), what,
                    " is used by two threads at the same time: ", instead);
        }
        ~Scope() { use_.inside_.store(false, std::memory_order_release); }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

    private:
        SoleUse& use_;
    };

private:
    std::atomic<bool> inside_{false};
};

}  // namespace promptkd
