// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/format/file.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <string>

namespace promptkd {

/// One line of a run's log.
struct StepRecord {
    Index step = 0;   ///< from 0
    Index epoch = 0;  ///< from 0
    double lr = 0;    ///< learning rate of the step
    double loss = 0;  ///< of the batch
};

namespace detail {

/// A text file that grows by lines. Opening keeps its first `lines` lines. Throws Error when it cannot be written, or
/// holds fewer.
class LineFile {
public:
    LineFile(const std::string& path, Index lines, Index steps) : path_(path) {
        std::string kept;
        if (lines > 0) {
            const std::string old = read_file(path);
            std::size_t end = 0;
            for (Index i = 0; i < lines; ++i) {
                end = old.find('\n', end);
                require(end != std::string::npos, path, ": holds fewer than the ", steps,
                        " steps of the checkpoint; delete the output folder and start again");
                ++end;
            }
            kept = old.substr(0, end);
        }
        write_atomically(path, kept);
        file_ = std::fopen(path.c_str(), "a");
        require(file_ != nullptr, "cannot write '", path, "'");
    }
    ~LineFile() {
        if (file_) std::fclose(file_);
    }
    LineFile(const LineFile&) = delete;
    LineFile& operator=(const LineFile&) = delete;

    void write(const char* text) { require(std::fputs(text, file_) >= 0, "cannot write '", path_, "'", full); }
    /// Hands everything to the operating system. Throws Error when the disk is full.
    void flush() { require(std::fflush(file_) == 0, "cannot write '", path_, "'", full); }

private:
    static constexpr const char* full = ": the disk may be full";
    std::string path_;
    std::FILE* file_ = nullptr;
};

}  // namespace detail

/// log.jsonl (one JSON object a step) and log.csv (with a heading) in the output folder. A resumed run first drops the
/// lines behind its checkpoint.
class StepLog {
public:
    /// Opens the logs in the folder `out`, keeping the first `steps` steps. Throws Error when they cannot be written.
    StepLog(const std::string& out, Index steps)
        : json_(out + "/log.jsonl", steps, steps), csv_(out + "/log.csv", steps > 0 ? steps + 1 : 0, steps) {
        if (steps == 0) csv_.write("step,epoch,lr,loss\n");
    }

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

    /// Hands everything to the operating system. Throws Error when the disk is full.
    void flush() {
        json_.flush();
        csv_.flush();
    }

private:
    detail::LineFile json_, csv_;
};

}  // namespace promptkd
