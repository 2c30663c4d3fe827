// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/utf8.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <iostream>
#include <streambuf>
#include <string>
#include <string_view>
#include <system_error>

// The program's standard streams: what it prints arrives, or the program ends with an error.
namespace promptkd::cli {

/// Standard output behind std::cout: keeps the reason of the first write that failed. What a terminal would not show as
/// it is (control characters, bytes that are not UTF-8: of names of files and classes) is escaped, see printable().
class StandardOutput final : public std::streambuf {
public:
    /// errno of the first write that failed; 0: everything has arrived so far.
    int error() const { return error_; }

private:
    static constexpr std::size_t enough = 8192;

    int_type overflow(int_type c) override {
        if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
        pending_ += traits_type::to_char_type(c);
        if (pending_.size() >= enough && pending_.back() == '\n' && sync() != 0) return traits_type::eof();
        return c;
    }

    std::streamsize xsputn(const char* text, std::streamsize size) override {
        pending_.append(text, static_cast<std::size_t>(size));
        const bool written = pending_.size() < enough || pending_.back() != '\n' || sync() == 0;
        return written ? size : 0;
    }

    /// After a failed write nothing more is tried: half a result is no result.
    int sync() override {
        const std::string text = shown(pending_);
        pending_.clear();
        for (std::size_t at = 0; at < text.size() && error_ == 0;) {
            const ssize_t done = ::write(1, text.data() + at, text.size() - at);
            if (done >= 0)
                at += static_cast<std::size_t>(done);
            else if (errno != EINTR)
                error_ = errno;
        }
        return error_ == 0 ? 0 : -1;
    }

    /// Each line as printable() has it.
    static std::string shown(std::string_view text) {
        std::string out;
        while (!text.empty()) {
            const std::size_t end = text.find('\n');
            out += printable(text.substr(0, end));
            if (end == std::string_view::npos) break;
            out += '\n';
            text.remove_prefix(end + 1);
        }
        return out;
    }

    std::string pending_;
    int error_ = 0;
};

/// Opens the standard streams that are closed on /dev/null, so that no file of a run gets their numbers. A closed
/// standard output is opened for reading: to write there stays an error. Then puts StandardOutput behind std::cout.
inline StandardOutput& prepare_streams() {
    for (int stream = 0; stream <= 2; ++stream) {
        const bool closed = ::fcntl(stream, F_GETFD) < 0 && errno == EBADF;
        if (closed) (void)!::open("/dev/null", stream == 2 ? O_WRONLY : O_RDONLY);  // gets the lowest free number
    }
    std::signal(SIGPIPE, SIG_IGN);  // a reader that leaves is then an error of the write, too
    static StandardOutput output;
    std::cout.rdbuf(&output);
    return output;
}

/// Throws Error when something that was printed has been lost.
inline void finish_output(StandardOutput& output) {
    std::cout.flush();
    require(output.error() == 0, "cannot write to standard output: ", std::generic_category().message(output.error()),
            "; what was printed is lost");
}

}  // namespace promptkd::cli
