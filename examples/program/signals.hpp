// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <exception>
#include <string>

// SIGINT and SIGTERM end a command that can go on later after the step at hand; a second one ends it at once.
namespace promptkd::cli {

namespace signals {

inline volatile std::sig_atomic_t received = 0;

extern "C" inline void remember_signal(int number) {
    received = number;
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
}

}  // namespace signals

/// From now on the first signal is only remembered.
inline void hold_signals() {
    if (std::signal(SIGINT, &signals::remember_signal) == SIG_IGN) std::signal(SIGINT, SIG_IGN);  // of nohup, say
    if (std::signal(SIGTERM, &signals::remember_signal) == SIG_IGN) std::signal(SIGTERM, SIG_IGN);
}

/// Whether a signal has come.
inline bool is_interrupted() { return signals::received != 0; }

/// Another process has got a signal that ends the work of all.
inline void share_interruption() {
    if (!is_interrupted()) signals::received = SIGTERM;
}

/// A command was ended by a signal: how it goes on, and the exit status.
class Interruption : public std::exception {
public:
    /// The result of the command is to lie in `out`.
    explicit Interruption(const std::string& out)
        : text_("interrupted; the same command goes on with what is in " + out) {}

    const char* what() const noexcept override { return text_.c_str(); }
    /// 130 or 143, as shells have it.
    int status() const { return 128 + static_cast<int>(signals::received); }

private:
    std::string text_;
};

/// Throws Interruption when a signal has come.
inline void stop_if_interrupted(const std::string& out) {
    if (is_interrupted()) throw Interruption(out);
}

}  // namespace promptkd::cli
