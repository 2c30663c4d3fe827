// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "http_address.hpp"

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>

// HTTP without its library: http_server.cpp alone, a unit of its own, sees cpp-httplib.
namespace promptkd::cli {

/// What a client sent.
struct HttpRequest {
    std::string body;                          ///< as it came, or of multipart/form-data the content of its file
    std::string file;                          ///< the name that a multipart file has; empty: none
    std::map<std::string, std::string> query;  ///< of the address, "?top=3"
};

/// What it gets.
struct HttpReply {
    int status = 200;                       ///< of HTTP
    std::string body;                       ///< of the reply
    std::string type = "application/json";  ///< of the body
};

/// A request that is refused with a status of its own.
struct HttpRefusal {
    int status;        ///< 4xx or 5xx
    std::string what;  ///< in words
};

/// What clients may do.
struct HttpLimits {
    std::size_t body = std::size_t{16} << 20;  ///< bytes of a request's body
    int connections = 64;                      ///< at the same time; others wait
    double seconds = 10;                       ///< to send a request, and to take the reply
};

/// An HTTP server on cpp-httplib. Bodies, errors included, are JSON unless a handler says otherwise.
class HttpServer {
public:
    using Handler = std::function<HttpReply(const HttpRequest&)>;

    explicit HttpServer(const HttpLimits& limits);
    ~HttpServer();  // as stop()
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    /// Handlers run in several threads at a time and may throw HttpRefusal; what else they throw is a 500.
    void on_get(const std::string& path, Handler handler);
    void on_post(const std::string& path, Handler handler);
    /// Told the status of every reply.
    void on_reply(std::function<void(int status)> told);

    /// Binds, and answers in threads of its own from now on. Throws Error where it cannot listen.
    void start(const HttpAddress& address);
    /// "http://127.0.0.1:8080", or the path of the socket.
    const std::string& where() const;
    /// Takes no further connection, and returns when those that are open have ended.
    void stop();

private:
    class Implementation;
    std::unique_ptr<Implementation> implementation_;
};

}  // namespace promptkd::cli
