// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

namespace promptkd::cli {

/// What a server counts, as text for Prometheus. Any thread may count.
class ServingMetrics {
public:
    /// A reply with this status.
    void count_reply(int status) {
        const std::lock_guard lock(mutex_);
        ++replies_[status];
    }
    /// An image was answered, this long after its bytes were there.
    void count_image(double seconds) {
        const std::lock_guard lock(mutex_);
        seconds_.count(seconds);
    }
    /// So many images were computed together.
    void count_batch(std::size_t images) {
        const std::lock_guard lock(mutex_);
        batches_.count(static_cast<double>(images));
    }

    /// All of it, and how many images wait now. https://prometheus.io/docs/instrumenting/exposition_formats/
    std::string text(std::size_t waiting) const {
        const std::lock_guard lock(mutex_);
        std::ostringstream out;
        head(out, "promptkd_requests_total", "counter", "replies, by status");
        for (const auto& [status, n] : replies_)
            out << "promptkd_requests_total{status=\"" << status << "\"} " << n << "\n";
        head(out, "promptkd_queue_images", "gauge", "images that wait for the model");
        out << "promptkd_queue_images " << waiting << "\n";
        head(out, "promptkd_image_seconds", "histogram", "from an image's last byte to its answer");
        seconds_.write(out, "promptkd_image_seconds");
        head(out, "promptkd_batch_images", "histogram", "images that were computed together");
        batches_.write(out, "promptkd_batch_images");
        return out.str();
    }

private:
    /// How many values were at most so large.
    class Histogram {
    public:
        explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size()) {}
        void count(double value) {
            for (std::size_t i = 0; i < bounds_.size(); ++i) counts_[i] += value <= bounds_[i] ? 1 : 0;
            ++n_;
            sum_ += value;
        }
        void write(std::ostream& out, const std::string& name) const {
            for (std::size_t i = 0; i < bounds_.size(); ++i)
                out << name << "_bucket{le=\"" << bounds_[i] << "\"} " << counts_[i] << "\n";
            out << name << "_bucket{le=\"+Inf\"} " << n_ << "\n";
            out << name << "_sum " << sum_ << "\n" << name << "_count " << n_ << "\n";
        }

    private:
        std::vector<double> bounds_;
        std::vector<std::uint64_t> counts_;
        std::uint64_t n_ = 0;
        double sum_ = 0;
    };

    static void head(std::ostream& out, const char* name, const char* type, const char* help) {
        out << "# HELP " << name << " " << help << "\n# TYPE " << name << " " << type << "\n";
    }

    mutable std::mutex mutex_;
    std::map<int, std::uint64_t> replies_;
    Histogram seconds_{{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}};
    Histogram batches_{{1, 2, 4, 8, 16, 32, 64}};
};

}  // namespace promptkd::cli
