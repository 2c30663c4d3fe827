// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace promptkd {

/// What went wrong, where (file, key, offset, shape expected and found) and what to do about it, in one line.
/// The library throws nothing else on purpose and never calls exit or abort.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// The machine lacks something for now: open files, memory, a disk that answers. No input is to blame, so none may be
/// passed over for it.
class ResourceError : public Error {
public:
    using Error::Error;
};

/// Joins the arguments with operator<< into one string.
template <class... Args>
std::string concat(const Args&... args) {
    std::ostringstream out;
    (out << ... << args);
    return out.str();
}

/// Throws Error with the joined arguments as its message.
template <class... Args>
[[noreturn]] void fail(const Args&... args) {
    throw Error(concat(args...));
}

/// Throws Error with the joined arguments unless `condition` holds.
template <class... Args>
void require(bool condition, const Args&... args) {
    if (!condition) fail(args...);
}

}  // namespace promptkd
