// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"
#include "signals.hpp"

#include <promptkd/core/utf8.hpp>
#include <promptkd/experiment/observer.hpp>

#include <unistd.h>
#include <chrono>
#include <cstdio>
#include <map>
#include <ostream>
#include <set>
#include <string>

namespace promptkd::cli {

/// Progress on standard error: a line that rewrites itself on a terminal, a plain line now and then elsewhere.
class ProgressLine {
public:
    ProgressLine(std::string what, std::string unit, Index total)
        : what_(std::move(what)),
          unit_(std::move(unit)),
          total_(total),
          terminal_(isatty(2) != 0),
          start_(Clock::now()),
          shown_(start_) {}
    ~ProgressLine() { finish(); }
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    /// `done` of the total are done, `first` of them before this process began; `note` is printed behind.
    void update(Index done, const std::string& note = "", Index first = 0) {
        const auto now = Clock::now();
        const bool last = done >= total_;
        if (!launch().is_root()) return;
        if (!last && seconds(shown_, now) < (terminal_ ? 0.2 : 10.0)) return;
        shown_ = now;
        const double elapsed = seconds(start_, now),
                     rate = elapsed > 0 ? static_cast<double>(done - first) / elapsed : 0;
        const double left = rate > 0 ? static_cast<double>(total_ - done) / rate : 0;
        std::fprintf(stderr, "%s%s %lld/%lld %s, %.1f/s, %s left%s%s%s", terminal_ ? "\r" : "", what_.c_str(),
                     static_cast<long long>(done), static_cast<long long>(total_), unit_.c_str(), rate,
                     duration(left).c_str(), note.empty() ? "" : ", ", note.c_str(), terminal_ ? "\x1b[K" : "\n");
        std::fflush(stderr);
        open_ = terminal_;
    }

    /// Ends the rewriting line.
    void finish() {
        if (open_) std::fputc('\n', stderr);
        open_ = false;
    }

private:
    using Clock = std::chrono::steady_clock;

    static double seconds(Clock::time_point a, Clock::time_point b) {
        return std::chrono::duration<double>(b - a).count();
    }

    static std::string duration(double s) {
        char text[32];
        if (s < 90)
            std::snprintf(text, sizeof text, "%.0f s", s);
        else if (s < 5400)
            std::snprintf(text, sizeof text, "%.0f min", s / 60);
        else
            std::snprintf(text, sizeof text, "%.1f h", s / 3600);
        return text;
    }

    std::string what_, unit_;
    Index total_;
    bool terminal_, open_ = false;
    Clock::time_point start_, shown_;
};

/// The images that this process could not use so far, and why: each is told once.
inline std::set<std::string>& skipped_images() {
    static std::set<std::string> all;
    return all;
}

/// Ends a command's output with the number of images that were skipped.
inline void print_skipped(std::ostream& out) {
    const std::size_t n = skipped_images().size();
    if (n > 0) out << n << (n == 1 ? " image was skipped" : " images were skipped") << std::endl;
}

/// Shows a run to a person: progress and warnings on standard error, decisions as text.
class ProgramObserver : public Observer {
public:
    explicit ProgramObserver(const Output& output) : output_(output) {}

    void on_progress(const StageProgress& now) override {
        if (now.unit != "steps" && !part_of_training_)
            stop_if_interrupted("its output folder");  // a training stops itself, with a checkpoint
        for (auto& [stage, line] : lines_)
            if (stage != now.stage) line.finish();
        lines_.try_emplace(now.stage, now.stage, now.unit, now.total)
            .first->second.update(now.done, now.note, now.resumed);
    }
    void on_stage_end(const std::string& stage) override { lines_.erase(stage); }
    bool is_interrupted() override { return cli::is_interrupted(); }
    void on_warning(const std::string& text) override {
        for (auto& entry : lines_) entry.second.finish();
        std::fprintf(stderr, "warning: %s\n", printable(text).c_str());
    }
    void on_skipped(const std::string& text) override {
        if (skipped_images().insert(text).second) on_warning("skipped: " + text);
    }
    void on_note(const std::string& text) override { say() << printable(text) << std::endl; }
    void on_resume(const Resumption& r) override {
        if (r.complete)
            say() << "already trained for " << r.at.step << " steps; --fresh trains again" << std::endl;
        else
            say() << "continuing after epoch " << r.at.epoch << " (step " << r.at.step << " of " << r.steps << ")"
                  << std::endl;
    }

protected:
    std::ostream& say() const { return output_.text(); }

    bool part_of_training_ = false;  ///< what is done belongs to an epoch: it is finished before a signal counts

private:
    const Output& output_;
    std::map<std::string, ProgressLine> lines_;  ///< of the stages that are not over
};

}  // namespace promptkd::cli
