// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/features.hpp>
#include <promptkd/distill/closed_form/stored_part.hpp>

#include <chrono>
#include <filesystem>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// How and where a FeatureStore keeps its rows.
struct FeatureStoreOptions {
    std::string folder;       ///< empty: in memory
    nlohmann::json identity;  ///< what the features are made of: rows of anything else are refused
    DType type = DType::f32;  ///< of the stored values: f16 halves the files
    Index images = 0;         ///< of the data set, readable or not
    Index views = 1;          ///< rows of an image
    Index student_width = 0;  ///< e_s
    Index teacher_width = 0;  ///< e_t
    double seconds = 10;      ///< rows are kept on the disk at least so often
    bool keep_others = true;  ///< features of something else in the folder are an error; else they are removed
    std::function<void(const std::string&)> warn = {};  ///< told of a damaged part, which is made again
};

/// Features of a data set in parts that are files of their own: what is there need not be encoded again, by whichever
/// process, shard or earlier run it was written, and memory does not grow with the number of images. Rows are in the
/// order of the images. One that adds at a time; several may read.
template <class T>
class FeatureStore final : public DistillationFeatures<T> {
public:
    /// With the parts that the folder holds. Throws Error for features of something else.
    explicit FeatureStore(FeatureStoreOptions options) : options_(std::move(options)) { reload(); }
    FeatureStore(const FeatureStore&) = delete;
    FeatureStore& operator=(const FeatureStore&) = delete;
    /// Keeps what was added.
    ~FeatureStore() override {
        try {
            save();
        } catch (const Error&) {  // whatever ends this early has an error of its own to tell
        }
    }

    /// Sees what other processes have written meanwhile.
    void reload() {
        if (options_.folder.empty()) return;
        parts_.clear();
        append(options_.folder);
    }

    /// The parts of another folder, read where they are. Throws Error when they overlap with those that are here.
    void append(const std::string& folder) {
        for (const std::string& path : part_paths(folder)) {
            std::optional<StoredPart> part = open(path);
            if (part) parts_.push_back(std::move(*part));
        }
        arrange();
    }

    /// The images of `range` that no part covers, as ranges.
    std::vector<Slice> missing(const Slice& range) const {
        std::vector<Slice> gaps;
        Index at = range.first;
        const Index end = range.first + range.count;
        for (const StoredPart& part : parts_) {
            if (part.end <= at || part.first >= end) continue;
            if (part.first > at) gaps.push_back({at, part.first - at});
            at = part.end;
        }
        if (at < end) gaps.push_back({at, end - at});
        return gaps;
    }

    /// What follows are images from `first` on.
    void begin(Index first) { first_ = first; }
    /// Rows of further images, in ascending order.
    void add(const FeatureRows<T>& rows) {
        rows_.append(rows);
        const std::chrono::duration<double> since = Clock::now() - saved_;
        const bool full = static_cast<Index>(rows_.images.size()) >= part_images;
        if (full || (!options_.folder.empty() && since.count() >= options_.seconds)) save();
    }
    /// All images before `end` are done, whether they could be read or not.
    void end(Index end) { write(end); }
    /// Keeps what was added.
    void save() {
        if (!rows_.images.empty()) write(rows_.images.back() + 1);
    }

    /// N: rows, several of an image with several views.
    Index images() const override { return rows_before_.empty() ? 0 : rows_before_.back(); }
    Index student_width() const override { return options_.student_width; }
    Index teacher_width() const override { return options_.teacher_width; }
    Index numbered() const override { return options_.images * options_.views; }
    /// Images of its parts that could not be read.
    Index unreadable() const {
        Index covered = 0;
        for (const StoredPart& part : parts_) covered += part.end - part.first;
        return covered - images() / options_.views;
    }
    /// mean‖W⁺q‖ of features of logits, see LogitFeatures; nothing for a teacher's own features.
    std::optional<double> teacher_norm() const {
        double sum = 0;
        Index rows = 0;
        for (const StoredPart& part : parts_)
            for (const double norm : part.norms()) {
                sum += norm;
                ++rows;
            }
        if (rows == 0) return std::nullopt;
        return sum / static_cast<double>(rows);
    }

    std::vector<Index> rows_of(const std::vector<Index>& numbers) const override {
        std::vector<Index> rows;
        auto wanted = numbers.begin();
        for (std::size_t k = 0; k < parts_.size(); ++k) {
            const std::vector<std::int64_t> images = parts_[k].images();
            for (std::size_t i = 0; i < images.size() && wanted != numbers.end(); ++i) {
                while (wanted != numbers.end() && *wanted / options_.views < images[i]) ++wanted;
                for (; wanted != numbers.end() && *wanted / options_.views == images[i]; ++wanted)
                    rows.push_back(rows_before_[k] + static_cast<Index>(i) * options_.views + *wanted % options_.views);
            }
        }
        return rows;
    }

    void read(Index first, Index n, T* x, T* t) const override {
        auto k = static_cast<std::size_t>(std::upper_bound(rows_before_.begin(), rows_before_.end(), first) -
                                          rows_before_.begin() - 1);
        while (n > 0) {
            const Index from = first - rows_before_.at(k), count = std::min(n, rows_before_.at(k + 1) - first);
            parts_[k].copy("student", from, count, x);
            parts_[k].copy("teacher", from, count, t);
            if (x) x += count * options_.student_width;
            if (t) t += count * options_.teacher_width;
            first += count;
            n -= count;
            ++k;
        }
    }

private:
    using Clock = std::chrono::steady_clock;
    static constexpr Index part_images = 4096;

    static std::vector<std::string> part_paths(const std::string& folder) {
        std::vector<std::string> paths;
        std::error_code code;
        for (const auto& entry : std::filesystem::directory_iterator(folder, code)) {
            const std::string name = entry.path().filename().string();
            if (name.rfind("part-", 0) == 0 && entry.path().extension() == ".safetensors")
                paths.push_back(entry.path().string());
        }
        std::sort(paths.begin(), paths.end());
        return paths;
    }

    /// Nothing for a part of this store's own folder that is damaged, or of something else and not to be kept.
    std::optional<StoredPart> open(const std::string& path) const {
        const bool own = path.rfind(options_.folder + "/", 0) == 0;
        TensorMap map;
        try {
            map = read_safetensors(path);
        } catch (const ResourceError&) {
            throw;
        } catch (const Error& error) {
            if (!own) throw;
            return remove(path, error.what());
        }
        const std::string other = StoredPart::difference(map, options_.identity);
        if (other.empty()) return StoredPart(std::move(map), layout());
        const std::string text = concat(path, ": these are features of something else: ", other);
        require(own && !options_.keep_others, text, "; use another folder, or remove this one");
        return remove(path, text);
    }

    std::optional<StoredPart> remove(const std::string& path, const std::string& why) const {
        if (options_.warn) options_.warn(why + "; these images are encoded again");
        std::error_code code;
        std::filesystem::remove(path, code);
        return std::nullopt;
    }

    StoredPart::Layout layout() const {
        return {options_.images, options_.views, options_.student_width, options_.teacher_width, options_.type};
    }

    /// In the order of the images.
    void arrange() {
        std::sort(parts_.begin(), parts_.end(),
                  [](const StoredPart& a, const StoredPart& b) { return a.first < b.first; });
        rows_before_.assign(1, 0);
        for (std::size_t k = 0; k < parts_.size(); ++k) {
            require(k == 0 || parts_[k - 1].end <= parts_[k].first, parts_[k].source(), ": images ", parts_[k].first,
                    " to ", parts_[k].end - 1, " overlap with those of ", k == 0 ? "" : parts_[k - 1].source(),
                    "; remove one of the two");
            rows_before_.push_back(rows_before_.back() + parts_[k].rows());
        }
    }

    void write(Index end) {
        if (end <= first_) return;
        TensorMap map = stored_part(rows_, {first_, end - first_}, layout());
        map.metadata["identity"] = json_text(options_.identity);
        if (options_.folder.empty()) {
            parts_.emplace_back(std::move(map), layout());
        } else {
            char name[40];
            std::snprintf(name, sizeof name, "/part-%012lld.safetensors", static_cast<long long>(first_));
            make_directories(options_.folder);
            write_safetensors(options_.folder + name, map);
            parts_.emplace_back(read_safetensors(options_.folder + name), layout());
        }
        rows_ = {};
        first_ = end;
        saved_ = Clock::now();
        arrange();
    }

    FeatureStoreOptions options_;
    std::vector<StoredPart> parts_;
    std::vector<Index> rows_before_;  ///< of each part, and of all
    FeatureRows<T> rows_;             ///< not yet written
    Index first_ = 0;                 ///< image that they begin with
    Clock::time_point saved_ = Clock::now();
};

}  // namespace promptkd
