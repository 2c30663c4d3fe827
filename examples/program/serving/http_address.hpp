// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/un.h>

#include <charconv>
#include <stdexcept>
#include <string>
#include <system_error>

namespace promptkd::cli {

/// Where a server listens.
struct HttpAddress {
    std::string host;  ///< a name or a number; empty: `path` counts
    int port = 0;      ///< 0: one that is free
    std::string path;  ///< of a Unix socket
};

/// A port of this machine, HOST:PORT, [IPv6]:PORT, or the path of a socket (with a slash). Throws
/// std::invalid_argument, in words, for anything else.
inline HttpAddress parse_http_address(const std::string& text) {
    if (text.find('/') != std::string::npos) {
        constexpr std::size_t longest = sizeof(sockaddr_un::sun_path) - 1;
        if (text.size() > longest)
            throw std::invalid_argument("the path of a socket has " + std::to_string(longest) + " bytes at most");
        return {"", 0, text};
    }
    const std::size_t colon = text.rfind(':');
    std::string host = colon == std::string::npos ? "127.0.0.1" : text.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    const std::string number = colon == std::string::npos ? text : text.substr(colon + 1);
    int port = -1;
    const char* const end = number.data() + number.size();
    const auto read = std::from_chars(number.data(), end, port);
    if (host.empty() || read.ec != std::errc() || read.ptr != end || port < 0 || port > 65535)
        throw std::invalid_argument("must be a port (0 to 65535), HOST:PORT or the path of a socket (with a slash)");
    return {host, port, ""};
}

}  // namespace promptkd::cli
