// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "progress.hpp"

#include <promptkd/core/error.hpp>

#include <nlohmann/json.hpp>

#include <iostream>
#include <new>
#include <string>

namespace promptkd::cli {

/// A command's answers for pictures, one a file. A file that cannot be read, or whose picture is too large for the
/// memory there is, is told, counted and answered by its "error"; the others are still answered.
class ImageAnswers {
public:
    /// Appends answer(), the JSON for `file`.
    template <class F>
    void add(const std::string& file, const F& answer) {
        try {
            all_.push_back(answer());
        } catch (const Error& error) {
            refuse(file, error.what());
        } catch (const std::bad_alloc&) {
            refuse(file, "this image is too large for the memory there is");
        }
    }

    /// Tells what is wrong with a part of an image that has an answer for the rest.
    void complain(const std::string& what) {
        std::cerr << "promptkd: " << printable(what) << std::endl;
        status_ = 1;
    }

    /// All so far, an array.
    const nlohmann::json& all() const { return all_; }
    /// The command's exit status: 1 where a file has no answer.
    int status() const { return status_; }

private:
    void refuse(const std::string& file, const std::string& what) {
        const std::string said = what.find(file) == std::string::npos ? file + ": " + what : what;
        complain(said);
        skipped_images().insert(said);
        all_.push_back({{"file", file}, {"error", said}});
    }

    nlohmann::json all_ = nlohmann::json::array();
    int status_ = 0;
};

}  // namespace promptkd::cli
