// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <iostream>
#include <streambuf>
#include <system_error>

// The program's standard streams: what it prints arrives, or the program ends with an error.
namespace promptkd::cli {

/// Standard output behind std::cout: keeps the reason of the first write that failed.
class StandardOutput final : public std::streambuf {
public:
    StandardOutput() { setp(buffer_.data(), buffer_.data() + buffer_.size()); }

    /// errno of the first write that failed; 0: everything has arrived so far.
    int error() const { return error_; }

private:
    int_type overflow(int_type c) override {
        if (sync() != 0) return traits_type::eof();
        if (!traits_type::eq_int_type(c, traits_type::eof())) sputc(traits_type::to_char_type(c));
        return traits_type::not_eof(c);
    }

    /// After a failed write nothing more is tried: half a result is no result.
    int sync() override {
        for (const char* next = pbase(); next < pptr() && error_ == 0;) {
            const ssize_t done = ::write(1, next, static_cast<std::size_t>(pptr() - next));
            if (done >= 0)
                next += done;
            else if (errno != EINTR)
                error_ = errno;
        }
        setp(buffer_.data(), buffer_.data() + buffer_.size());
        return error_ == 0 ? 0 : -1;
    }

    std::array<char, 8192> buffer_;
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
