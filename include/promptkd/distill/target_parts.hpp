// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/loader.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace promptkd {

/// Targets on their way to a file, kept on the disk in parts, so that an interrupted computation goes on where it
/// stood. A part is a safetensors file with the targets of some batches in a row (`indices` (n), `targets` (n, size))
/// and what they belong to. What was added since the last part is kept when the object goes, however that happens.
class TargetParts {
public:
    /// Where the computation stands.
    struct Position {
        Index view = 0;        ///< views done
        Index batches = 0;     ///< batches done of the next one
        Index images = 0;      ///< images of these batches
        bool skipped = false;  ///< an image of these batches could not be read
    };

    /// Parts in `folder`, of targets that are described by `identity`. `seconds`: a part at least so often.
    TargetParts(std::string folder, nlohmann::json identity, double seconds = 60)
        : folder_(std::move(folder)), identity_(json_text(identity)), seconds_(seconds) {}
    TargetParts(const TargetParts&) = delete;
    TargetParts& operator=(const TargetParts&) = delete;
    ~TargetParts() {
        try {
            save();
        } catch (const Error&) {  // the computation has an error of its own to tell
        }
    }

    /// Calls f(view, image, target) for all targets that are there and returns where to go on. Parts of anything else
    /// and what follows a damaged part are removed.
    template <class F>
    Position restore(Index size, const F& f) {
        Position at;
        while (std::filesystem::exists(path(parts_))) {
            try {
                read_part(size, at, f);
            } catch (const Error&) {
                break;
            }
            ++parts_;
        }
        remove_from(parts_);
        position_ = at;
        return at;
    }

    /// `rows` (batch.size, size) are the targets of a batch of the view at hand; `skipped`: an image of this view could
    /// not be read so far.
    template <class T>
    void add(const Batch& batch, const T* rows, Index size, bool skipped) {
        indices_.insert(indices_.end(), batch.indices.begin(), batch.indices.end());
        for (Index i = 0; i < batch.size * size; ++i) values_.push_back(static_cast<float>(rows[i]));
        size_ = size;
        ++position_.batches;
        position_.images += batch.size;
        position_.skipped = skipped;
        const std::chrono::duration<double> since = Clock::now() - saved_;
        if (since.count() >= seconds_) save();
    }

    /// The view at hand is complete.
    void end_view() {
        save();
        position_ = {position_.view + 1, 0, 0, false};
    }

    /// Removes all parts: the whole is written.
    void remove() {
        indices_.clear();
        values_.clear();
        std::error_code code;
        std::filesystem::remove_all(folder_, code);
    }

private:
    using Clock = std::chrono::steady_clock;

    std::string path(Index part) const { return concat(folder_, "/part-", part, ".safetensors"); }

    void remove_from(Index part) const {
        std::error_code code;
        while (std::filesystem::remove(path(part), code)) ++part;
    }

    void save() {
        if (indices_.empty()) return;
        const auto n = static_cast<Index>(indices_.size());
        TensorMap part;
        part.tensors["indices"] = make_tensor(std::vector<std::int64_t>(indices_.begin(), indices_.end()), {n});
        part.tensors["targets"] = make_tensor(values_, {n, size_});
        part.metadata["identity"] = identity_;
        part.metadata["view"] = std::to_string(position_.view);
        part.metadata["batches"] = std::to_string(position_.batches);
        part.metadata["skipped"] = position_.skipped ? "yes" : "no";
        make_directories(folder_);
        write_safetensors(path(parts_), part);
        ++parts_;
        indices_.clear();
        values_.clear();
        saved_ = Clock::now();
    }

    template <class F>
    void read_part(Index size, Position& at, const F& f) const {
        const TensorMap part = read_safetensors(path(parts_));
        const auto text = [&part](const char* key) {
            const auto it = part.metadata.find(key);
            return it == part.metadata.end() ? std::string() : it->second;
        };
        require(text("identity") == identity_, part.source, ": belongs to other targets");
        const std::vector<std::int64_t> indices = part.at("indices").to<std::int64_t>();
        const auto n = static_cast<Index>(indices.size());
        const std::vector<float> values = part.at("targets", {n, size}).to<float>();
        const Index view = std::stoll(text("view"));
        if (view != at.view) at = {view, 0, 0, false};
        for (Index i = 0; i < n; ++i)
            f(view, static_cast<Index>(indices[static_cast<std::size_t>(i)]),
              &values[static_cast<std::size_t>(i * size)]);
        at.batches = std::stoll(text("batches"));
        at.images += n;
        at.skipped = text("skipped") == "yes";
    }

    std::string folder_, identity_;
    double seconds_;
    Index parts_ = 0, size_ = 0;
    Position position_;  ///< behind the last batch that was added
    std::vector<Index> indices_;
    std::vector<float> values_;
    Clock::time_point saved_ = Clock::now();
};

}  // namespace promptkd
