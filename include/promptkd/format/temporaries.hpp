// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <system_error>

/// Temporary files: "NAME.tmp-MACHINE-PROCESS-NUMBER" beside the file NAME that is being written.
namespace promptkd::detail {

inline constexpr std::string_view temporary_mark = ".tmp-";

/// Tells machines apart that share a folder: eight hexadecimal digits of the host's name.
inline std::string machine_mark() {
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    char digits[9];
    std::snprintf(digits, sizeof digits, "%08x", static_cast<unsigned>(std::hash<std::string>()(name) & 0xffffffffu));
    return digits;
}

/// A name that no other write has.
inline std::string temporary_name(const std::string& target) {
    static std::atomic<unsigned> serial{0};
    static const std::string machine = machine_mark();
    return concat(target, temporary_mark, machine, "-", ::getpid(), "-", serial++);
}

/// Whether a file of this name was left by a process of this machine that is no more. One with our own number is: it is
/// asked before this process writes its first file in the folder.
inline bool is_left_behind(std::string_view name) {
    const std::size_t at = name.rfind(temporary_mark);
    if (at == std::string_view::npos) return false;
    name.remove_prefix(at + temporary_mark.size());
    const std::string machine = machine_mark() + "-";
    if (name.substr(0, machine.size()) != machine) return false;
    name.remove_prefix(machine.size());
    long process = 0;
    const auto number = std::from_chars(name.data(), name.data() + name.size(), process);
    if (number.ec != std::errc() || process <= 0) return false;
    return process == ::getpid() || (::kill(static_cast<pid_t>(process), 0) != 0 && errno == ESRCH);
}

/// Removes what killed processes have left in `folder`, the first time that this process writes there. What cannot be
/// removed stays: that is no reason not to write.
inline void remove_left_behind(const std::string& folder) {
    static std::mutex mutex;
    static std::set<std::string> seen;
    const std::lock_guard lock(mutex);
    std::error_code code;
    const std::filesystem::path place = std::filesystem::canonical(folder, code);  // "out", "./out" are one
    if (code || !seen.insert(place.string()).second) return;
    auto entry = std::filesystem::directory_iterator(folder, code);
    for (; !code && entry != std::filesystem::directory_iterator(); entry.increment(code)) {
        std::error_code ignored;
        if (is_left_behind(entry->path().filename().string())) std::filesystem::remove(entry->path(), ignored);
    }
}

/// The same in an output folder and in that of its checkpoint.
inline void remove_left_by_runs(const std::string& out) {
    remove_left_behind(out);
    remove_left_behind(out + "/checkpoint");
}

}  // namespace promptkd::detail
