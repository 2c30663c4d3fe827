// SPDX-License-Identifier: Apache-2.0
#include "http_server.hpp"

#include <promptkd/core/error.hpp>

#include <httplib.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace promptkd::cli {

namespace {

using Clock = std::chrono::steady_clock;

std::string error_body(const std::string& what) {
    return nlohmann::json({{"error", what}}).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

/// Connections in threads that are made when they are first needed; those beyond `most` wait for a thread.
class ConnectionThreads : public httplib::TaskQueue {
public:
    explicit ConnectionThreads(std::size_t most) : most_(most) {}

    // Newer versions of cpp-httplib ask whether the job was taken.
    using Taken = decltype(std::declval<httplib::TaskQueue&>().enqueue(std::function<void()>()));

    Taken enqueue(std::function<void()> job) override {
        {
            const std::lock_guard lock(mutex_);
            jobs_.push_back(std::move(job));
            if (idle_ < jobs_.size() && threads_.size() < most_) add_thread();
        }
        ready_.notify_one();
        return static_cast<Taken>(true);
    }

    void shutdown() override {
        {
            const std::lock_guard lock(mutex_);
            over_ = true;
        }
        ready_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

private:
    void add_thread() {
        try {
            threads_.emplace_back([this] { work(); });
        } catch (const std::system_error&) {
            if (threads_.empty()) throw;  // fewer threads than allowed will do
        }
    }

    void work() {
        std::unique_lock lock(mutex_);
        while (true) {
            ++idle_;
            ready_.wait(lock, [&] { return over_ || !jobs_.empty(); });
            --idle_;
            if (jobs_.empty()) return;
            const std::function<void()> job = std::move(jobs_.front());
            jobs_.pop_front();
            lock.unlock();
            job();
            lock.lock();
        }
    }

    std::size_t most_;
    std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<std::function<void()>> jobs_;
    std::vector<std::thread> threads_;
    std::size_t idle_ = 0;
    bool over_ = false;
};

/// A body as it arrives, within its limits.
class Body {
public:
    explicit Body(const HttpLimits& limits)
        : limits_(limits),
          end_(Clock::now() +
               std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limits.seconds))) {}

    /// False: the rest is not wanted. A body that is too large is read to four times its limit, without being kept, so
    /// that its client sees the answer.
    bool take(const char* data, std::size_t size) {
        total_ += size;
        if (!too_large()) bytes_.append(data, size);
        late_ = Clock::now() > end_;
        return !late_ && total_ / 4 <= limits_.body;
    }
    /// The name of the file whose bytes come next.
    void begin_file(const std::string& name) {
        ++files_;
        file_ = name;
    }

    bool too_large() const { return total_ > limits_.body; }
    bool late() const { return late_; }
    int files() const { return files_; }
    HttpRequest request() { return {std::move(bytes_), std::move(file_), {}}; }

private:
    HttpLimits limits_;
    Clock::time_point end_;
    std::string bytes_, file_;
    std::size_t total_ = 0;
    int files_ = 0;
    bool late_ = false;
};

/// Writes the whole reply and ends the connection: what the client sends still is no further request.
void reply_and_close(httplib::Response& response, const HttpReply& reply) {
    response.status = reply.status;
    const std::string body = reply.body;
    response.set_content_provider(body.size(), reply.type,
                                  [body](std::size_t offset, std::size_t length, httplib::DataSink& sink) {
                                      sink.write(body.data() + offset, length);
                                      return false;
                                  });
}

HttpReply refused(int status, const std::string& what) { return {status, error_body(what), "application/json"}; }

std::string too_large_text(const HttpLimits& limits) {
    return concat("the body is larger than ", limits.body, " bytes");
}

/// What a status that cpp-httplib chose itself means.
std::string described(int status) {
    switch (status) {
        case 404:
            return "there is no such path";
        case 405:
            return "this path takes another method";
        case 413:
            return "the body is too large";
        case 414:
            return "the address is too long";
        case 417:
            return "this expectation is not met";
        default:
            return status < 500 ? "this is not a request of HTTP as it is understood here" : "an error of the server";
    }
}

HttpReply answered(const HttpServer::Handler& handler, const HttpRequest& request) {
    try {
        return handler(request);
    } catch (const HttpRefusal& refusal) {
        return refused(refusal.status, refusal.what);
    } catch (const std::bad_alloc&) {
        return refused(503, "out of memory");
    } catch (const std::exception& error) {
        return refused(500, error.what());
    }
}

void put(httplib::Response& response, const HttpReply& reply) {
    response.status = reply.status;
    if (reply.status == 503) response.set_header("Retry-After", "1");
    response.set_content(reply.body, reply.type);
}

std::map<std::string, std::string> query_of(const httplib::Request& request) {
    std::map<std::string, std::string> query;
    for (const auto& [name, value] : request.params) query[name] = value;
    return query;
}

/// Removes a socket that a server which was killed left behind; one that answers, and any other file, stays.
void remove_stale_socket(const std::string& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) return;
    require(S_ISSOCK(status.st_mode), path, ": this is no socket but another file; choose another path");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    const int client = ::socket(AF_UNIX, SOCK_STREAM, 0);
    const bool answers = ::connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    ::close(client);
    require(!answers, path, ": another server listens there");
    ::unlink(path.c_str());
}

}  // namespace

class HttpServer::Implementation {
public:
    explicit Implementation(const HttpLimits& limits) : limits_(limits) {
        server_.new_task_queue = [this] {
            return new ConnectionThreads(static_cast<std::size_t>(limits_.connections));  // cpp-httplib deletes it
        };
        const auto seconds = std::chrono::duration<double>(limits.seconds);
        server_.set_read_timeout(std::chrono::duration_cast<std::chrono::microseconds>(seconds));
        server_.set_write_timeout(std::chrono::duration_cast<std::chrono::microseconds>(seconds));
        server_.set_keep_alive_max_count(1000);
        server_.set_keep_alive_timeout(5);
        server_.set_tcp_nodelay(true);
        server_.set_socket_options([this](socket_t socket) { prepare(socket); });
        server_.set_error_handler([](const httplib::Request&, httplib::Response& response) {
            const bool answered = !response.body.empty() || response.content_length_ > 0;
            if (!answered) response.set_content(error_body(described(response.status)), "application/json");
        });
        server_.set_expect_100_continue_handler([this](const httplib::Request& request, httplib::Response& response) {
            return expected(request, response);
        });
    }

    void on_get(const std::string& path, const Handler& handler) {
        server_.Get(path, [handler](const httplib::Request& request, httplib::Response& response) {
            put(response, answered(handler, {"", "", query_of(request)}));
        });
        refuse_method(path, true);
    }

    void on_post(const std::string& path, const Handler& handler) {
        server_.Post(
            path, [this, handler](const httplib::Request& request, httplib::Response& response,
                                  const httplib::ContentReader& read) { take_post(handler, request, response, read); });
        refuse_method(path, false);
    }

    void on_reply(std::function<void(int)> told) {
        server_.set_logger([told = std::move(told)](const httplib::Request&, const httplib::Response& response) {
            told(response.status);
        });
    }

    void start(const HttpAddress& address) {
        if (address.host.empty())
            bind_path(address.path);
        else
            bind_port(address);
        ::listen(socket_, 512);  // cpp-httplib lets five connections wait
        thread_ = std::thread([this] {
            server_.listen_after_bind();
            ended_ = true;
        });
        while (!server_.is_running() && !ended_) std::this_thread::yield();
    }

    const std::string& where() const { return where_; }

    void stop() {
        if (!thread_.joinable()) return;
        server_.stop();
        thread_.join();
        if (!path_.empty()) ::unlink(path_.c_str());
    }

private:
    /// cpp-httplib's own choice lets two servers share a port.
    void prepare(socket_t socket) {
        const int yes = 1;
        ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        socket_ = socket;
    }

    void bind_port(const HttpAddress& address) {
        int port = address.port;
        errno = 0;
        if (port == 0)
            port = server_.bind_to_any_port(address.host);
        else if (!server_.bind_to_port(address.host, port))
            port = -1;
        const int error = errno;
        require(port > 0, "cannot listen on ", address.host, ":", address.port, ": ",
                error != 0 ? std::strerror(error) : "no such host");
        const bool ipv6 = address.host.find(':') != std::string::npos;
        where_ = concat("http://", ipv6 ? "[" : "", address.host, ipv6 ? "]:" : ":", port);
    }

    /// A socket that its owner alone may use.
    void bind_path(const std::string& path) {
        remove_stale_socket(path);
        server_.set_address_family(AF_UNIX);
        const mode_t before = ::umask(0177);
        errno = 0;
        const bool bound = server_.bind_to_port(path, 80);
        const int error = errno;
        ::umask(before);
        require(bound, "cannot listen on ", path, ": ", std::strerror(error));
        path_ = path;
        where_ = path;
    }

    void refuse_method(const std::string& path, bool reads) {
        const auto refuse = [reads](const httplib::Request&, httplib::Response& response) {
            response.set_header("Allow", reads ? "GET" : "POST");
            put(response, refused(405, described(405)));
        };
        if (reads)
            server_.Post(path, refuse);
        else
            server_.Get(path, refuse);
        server_.Put(path, refuse);
        server_.Patch(path, refuse);
        server_.Delete(path, refuse);
    }

    /// A client that asks first hears at once that its body is too large.
    int expected(const httplib::Request& request, httplib::Response& response) const {
        if (!announces_too_much(request)) return 100;
        put(response, refused(413, too_large_text(limits_)));
        return 413;
    }

    bool announces_too_much(const httplib::Request& request) const {
        const std::string text = request.get_header_value("Content-Length");
        std::size_t length = 0;
        const auto read = std::from_chars(text.data(), text.data() + text.size(), length);
        return read.ec == std::errc::result_out_of_range || length > limits_.body;
    }

    /// Reads the body; whether there is no more of it. cpp-httplib would wait for one that is not announced.
    static bool read_body(const httplib::Request& request, const httplib::ContentReader& read, Body& body) {
        if (!request.has_header("Content-Length") && !request.has_header("Transfer-Encoding")) return true;
        const auto take = [&](const char* data, std::size_t size) { return body.take(data, size); };
        if (!request.is_multipart_form_data()) return read(take);
        const auto begin = [&](const auto& part) {
            body.begin_file(part.filename);
            return true;
        };
        return read(begin, take);
    }

    void take_post(const Handler& handler, const httplib::Request& request, httplib::Response& response,
                   const httplib::ContentReader& read) const {
        Body body(limits_);
        const bool whole = read_body(request, read, body);
        if (body.too_large()) {
            const HttpReply reply = refused(413, too_large_text(limits_));
            return whole ? put(response, reply) : reply_and_close(response, reply);
        }
        if (body.late())
            return reply_and_close(response, refused(408, concat("no body within ", limits_.seconds, " s")));
        if (!whole) return reply_and_close(response, refused(400, "the body is not whole"));
        if (body.files() > 1) return put(response, refused(400, "one image a request; several parts were sent"));
        HttpRequest taken = body.request();
        taken.query = query_of(request);
        put(response, answered(handler, taken));
    }

    HttpLimits limits_;
    httplib::Server server_;
    std::thread thread_;
    std::string where_, path_;
    int socket_ = -1;
    std::atomic<bool> ended_{false};
};

HttpServer::HttpServer(const HttpLimits& limits) : implementation_(std::make_unique<Implementation>(limits)) {}
HttpServer::~HttpServer() { stop(); }
void HttpServer::on_get(const std::string& path, Handler handler) { implementation_->on_get(path, handler); }
void HttpServer::on_post(const std::string& path, Handler handler) { implementation_->on_post(path, handler); }
void HttpServer::on_reply(std::function<void(int status)> told) { implementation_->on_reply(std::move(told)); }
void HttpServer::start(const HttpAddress& address) { implementation_->start(address); }
const std::string& HttpServer::where() const { return implementation_->where(); }
void HttpServer::stop() { implementation_->stop(); }

}  // namespace promptkd::cli
