// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/format/file.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

namespace promptkd {

/// One line of a run's log.
struct StepRecord {
    Index step = 0;   ///< from 0
    Index epoch = 0;  ///< from 0
    double lr = 0;    ///< learning rate of the step
    double loss = 0;  ///< of the batch
};

namespace detail {

/// The whole lines at the beginning of `text` whose number, behind `head`, is less than `steps` and grows.
inline std::string lines_before(std::string_view text, std::string_view head, Index steps) {
    std::size_t kept = 0;
    Index last = -1;
    while (true) {
        const std::size_t end = text.find('\n', kept);
        if (end == std::string_view::npos) break;
        const std::string_view line = text.substr(kept, end - kept);
        Index step = -1;
        if (line.substr(0, head.size()) == head)
            std::from_chars(line.data() + head.size(), line.data() + line.size(), step);
        if (step <= last || step >= steps) break;
        last = step;
        kept = end + 1;
    }
    return std::string(text.substr(0, kept));
}

/// A text file that grows by lines, one a step. Throws Error when it cannot be written.
class LineFile {
public:
    /// How a file of lines is laid out.
    struct Form {
        std::string_view heading;  ///< its first line; empty: none
        std::string_view head;     ///< what stands before a line's number
    };

    /// Keeps the lines of the first `steps` steps that are there.
    LineFile(const std::string& path, Form form, Index steps) : path_(path), heading_(form.heading) {
        std::string_view old;
        std::string bytes;
        if (steps > 0 && std::filesystem::exists(path)) {
            bytes = read_file(path);
            old = bytes;
        }
        if (old.substr(0, heading_.size()) == heading_) old.remove_prefix(heading_.size());
        const std::string kept = lines_before(old, form.head, steps);
        complete_ = std::count(kept.begin(), kept.end(), '\n') == steps;
        write_atomically(path, heading_ + kept);
        open();
    }

    LineFile(const LineFile&) = delete;
    LineFile& operator=(const LineFile&) = delete;
    ~LineFile() {
        try {
            flush();              // of a run that ends by an error: what led to it
        } catch (const Error&) {  // that error is told already
        }
    }

    /// Whether the lines of all steps before were there.
    bool complete() const { return complete_; }

    void write(std::string_view text) {
        pending_ += text;
        if (pending_.size() >= 4096) flush();
    }

    /// Hands everything to the operating system.
    void flush() {
        while (!pending_.empty()) {
            const ssize_t done = ::write(file_.get(), pending_.data(), pending_.size());
            if (done < 0 && errno == EINTR) continue;
            if (done < 0) fail_errno("cannot write", path_, errno);
            pending_.erase(0, static_cast<std::size_t>(done));
        }
    }

    /// Flushes to the disk. False where the file is no longer under its name: a new one is then begun.
    bool save() {
        flush();
        synchronize(file_.get(), path_);
        struct stat mine {};
        struct stat now {};
        const bool there = ::fstat(file_.get(), &mine) == 0 && ::stat(path_.c_str(), &now) == 0 &&
                           mine.st_ino == now.st_ino && mine.st_dev == now.st_dev;
        if (!there) {
            write_atomically(path_, heading_);
            open();
        }
        return there;
    }

private:
    void open() {
        file_ = Descriptor(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        if (!file_.valid()) fail_errno("cannot write", path_, errno);
    }

    std::string path_, heading_, pending_;
    Descriptor file_;
    bool complete_ = true;
};

}  // namespace detail

/// log.jsonl (one JSON object a step) and log.csv (with a heading) in the output folder. A resumed run first drops the
/// lines behind its checkpoint; lines that are missing before it are no obstacle.
class StepLog {
public:
    /// Opens the logs in the folder `out`, keeping the first `steps` steps. Throws Error when they cannot be written.
    StepLog(const std::string& out, Index steps)
        : json_(out + "/log.jsonl", {"", "{\"step\": "}, steps),
          csv_(out + "/log.csv", {"step,epoch,lr,loss\n", ""}, steps) {}

    /// Whether the lines of all steps before were there.
    bool complete() const { return json_.complete() && csv_.complete(); }

    /// Adds a line to both files. Throws Error when the disk is full.
    void write(const StepRecord& r) {
        char line[128];
        const auto step = static_cast<long long>(r.step), epoch = static_cast<long long>(r.epoch);
        std::snprintf(line, sizeof line, "{\"step\": %lld, \"epoch\": %lld, \"lr\": %.9g, \"loss\": %.9g}\n", step,
                      epoch, r.lr, r.loss);
        json_.write(line);
        std::snprintf(line, sizeof line, "%lld,%lld,%.9g,%.9g\n", step, epoch, r.lr, r.loss);
        csv_.write(line);
    }

    /// Flushes everything to the disk: before the checkpoint that counts these steps. False where a log was removed
    /// meanwhile; it goes on in a new file. Throws Error when the disk is full.
    bool save() {
        const bool json = json_.save();
        const bool csv = csv_.save();
        return json && csv;
    }

private:
    detail::LineFile json_, csv_;
};

}  // namespace promptkd
