// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/io/file.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <string>

namespace promptkd {

/// One line of a run's log.
struct StepRecord {
    Index step = 0;   ///< from 0
    Index epoch = 0;  ///< from 0
    double lr = 0;
    double loss = 0;
};

/// log.jsonl in the output folder: one JSON object a step. A resumed run first drops the lines behind its checkpoint.
class StepLog {
public:
    /// Opens `path`, keeping the first `steps` lines. Throws Error when it cannot be written.
    StepLog(const std::string& path, Index steps) : path_(path) {
        std::string kept;
        if (steps > 0) {
            const std::string old = read_file(path);
            std::size_t end = 0;
            for (Index i = 0; i < steps; ++i) {
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
    ~StepLog() {
        if (file_) std::fclose(file_);
    }
    StepLog(const StepLog&) = delete;
    StepLog& operator=(const StepLog&) = delete;

    void write(const StepRecord& r) {
        const int n = std::fprintf(file_, "{\"step\": %lld, \"epoch\": %lld, \"lr\": %.9g, \"loss\": %.9g}\n",
                                   static_cast<long long>(r.step), static_cast<long long>(r.epoch), r.lr, r.loss);
        require(n > 0, "cannot write '", path_, "': the disk may be full");
    }

    /// Hands everything to the operating system. Throws Error when the disk is full.
    void flush() { require(std::fflush(file_) == 0, "cannot write '", path_, "': the disk may be full"); }

private:
    std::string path_;
    std::FILE* file_ = nullptr;
};

}  // namespace promptkd
