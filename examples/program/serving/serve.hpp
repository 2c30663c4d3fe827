// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../numbers.hpp"
#include "../signals.hpp"
#include "http_server.hpp"
#include "metrics.hpp"

#include <promptkd/core/micro_batches.hpp>
#include <promptkd/evaluate/classification.hpp>
#include <promptkd/format/image.hpp>
#include <promptkd/format/json_text.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

namespace promptkd::cli {

/// How a classifier is served.
struct ServeOptions {
    HttpAddress address;          ///< where
    HttpLimits http;              ///< of requests
    MicroBatchOptions batches;    ///< of the model's work
    Index max_pixels = 50000000;  ///< of a picture, before it is decoded
    Index top = 5;                ///< classes of an answer, where a request does not say
};

/// The JSON of one answer, of the classes `found` lists, for the picture `file`.
using Describe = std::function<nlohmann::json(const std::string& file, const Classification& found)>;

/// What answers requests: pictures are decoded and resized in the threads of their connections, as many at a time as
/// there are cores; the model computes batches of them in one thread.
class ServedClassifier {
public:
    using Batches = MicroBatches<Image, Classification>;

    ServedClassifier(const ServeOptions& options, const Preprocessing& input, Describe describe)
        : options_(options), input_(input), describe_(std::move(describe)), batches_(options.batches) {}

    /// Serves until a signal comes; `compute` answers a batch. Throws Error where it cannot listen.
    void run(const Batches::Compute& compute) {
        HttpServer http(options_.http);
        http.on_reply([this](int status) { metrics_.count_reply(status); });
        http.on_get("/healthz", [this](const HttpRequest&) { return health(); });
        http.on_get("/metrics", [this](const HttpRequest&) { return measured(); });
        http.on_post("/classify", [this](const HttpRequest& request) { return classify(request); });
        hold_signals();
        http.start(options_.address);
        std::cout << "listening on " << http.where() << ": POST /classify, GET /healthz, GET /metrics" << std::endl;
        batches_.serve(
            [&](std::span<const Image> images) {
                metrics_.count_batch(images.size());
                return compute(images);
            },
            is_interrupted);
        http.stop();
    }

private:
    using Clock = std::chrono::steady_clock;

    HttpReply health() const {
        if (!batches_.is_open()) throw HttpRefusal{503, "the server is being stopped"};
        return {200, "{\"status\":\"ok\"}\n"};
    }

    HttpReply measured() const { return {200, metrics_.text(batches_.waiting()), "text/plain; version=0.0.4"}; }

    HttpReply classify(const HttpRequest& request) {
        const Clock::time_point begin = Clock::now();
        if (request.body.empty()) throw HttpRefusal{400, "an empty body; send the bytes of an image file"};
        const Asked asked = what_is_asked(request);
        Classification found = ask(prepared(request.body, asked.file));
        found.top.resize(std::min(found.top.size(), static_cast<std::size_t>(asked.top)));
        metrics_.count_image(std::chrono::duration<double>(Clock::now() - begin).count());
        return {200, json_text(describe_(asked.file, found)) + "\n"};
    }

    /// What a request says besides the picture.
    struct Asked {
        std::string file;
        Index top;
    };

    Asked what_is_asked(const HttpRequest& request) const {
        Asked asked{request.file.empty() ? "image" : request.file, options_.top};
        for (const auto& [name, value] : request.query) {
            if (name == "file")
                asked.file = value;
            else if (name != "top")
                throw HttpRefusal{400, "unknown query '" + name + "'; known: top, file"};
            else if (!numbers::read_whole(value, asked.top) || asked.top < 1)
                throw HttpRefusal{400, "top must be a whole number from 1 on, found '" + value + "'"};
        }
        return asked;
    }

    Image prepared(const std::string& file, const std::string& name) {
        decoding_.acquire();
        const auto release = [this](void*) { decoding_.release(); };
        const std::unique_ptr<void, decltype(release)> held(this, release);
        try {
            ImageLimits limits;
            limits.max_pixels = options_.max_pixels;
            const auto* const bytes = reinterpret_cast<const std::byte*>(file.data());
            return preprocess_image(decode_image(bytes, file.size(), name, limits), input_);
        } catch (const std::bad_alloc&) {
            throw HttpRefusal{413, name + ": this image is too large for the memory there is"};
        } catch (const Error& error) {
            throw HttpRefusal{415, error.what()};
        }
    }

    Classification ask(Image image) {
        try {
            return batches_.ask(std::move(image));
        } catch (const OverloadError& error) {
            throw HttpRefusal{503, batches_.is_open() ? error.what() : "the server is being stopped"};
        }
    }

    ServeOptions options_;
    Preprocessing input_;
    Describe describe_;
    Batches batches_;
    ServingMetrics metrics_;
    std::counting_semaphore<> decoding_{std::max(1u, std::thread::hardware_concurrency())};
};

}  // namespace promptkd::cli
