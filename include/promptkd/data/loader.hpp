// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/rng.hpp>
#include <promptkd/data/dataset.hpp>
#include <promptkd/image/augment.hpp>
#include <promptkd/image/preprocess.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <limits>
#include <mutex>
#include <new>
#include <numeric>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace promptkd {

/// The numbers 0 … n−1 in an order drawn by (seed, epoch): Fisher–Yates, the same on every machine.
inline std::vector<Index> shuffled(Index n, std::uint64_t seed, std::uint32_t epoch) {
    constexpr std::uint64_t stream = 0x73687566666c6564;  // "shuffled": apart from the streams of images
    require(n >= 0 && n <= Index{std::numeric_limits<std::uint32_t>::max()}, "cannot shuffle ", n, " images");
    std::vector<Index> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), Index{0});
    RandomStream random(seed, stream, epoch);
    for (std::size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[random.below(static_cast<std::uint32_t>(i))]);
    return order;
}

/// The numbers 0 … n−1.
inline std::vector<Index> in_order(Index n) {
    std::vector<Index> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), Index{0});
    return order;
}

/// Images ready for the encoder, with their place in the data set.
struct Batch {
    Index size = 0;             ///< B
    std::vector<float> images;  ///< (B, 3, height, width), normalised; always as long as a full batch
    /// the same images as LoaderOptions::further makes them, one after the other
    std::vector<std::vector<float>> further;
    std::vector<Index> labels;   ///< (B), −1 where unlabelled
    std::vector<Index> indices;  ///< (B), positions in the data set
};

/// How a BatchLoader makes batches.
struct LoaderOptions {
    Index batch = 8;              ///< images a batch
    Preprocessing preprocessing;  ///< what the encoder takes
    /// What further encoders take of the same images, cut and mirrored alike (a teacher beside its student).
    std::vector<Preprocessing> further;
    Augmentation augmentation = Augmentation::none;  ///< of each image, drawn anew each epoch
    std::uint64_t seed = 0;  ///< of the augmentation, together with the image's position in the data set and the epoch
    bool drop_last = false;  ///< leave out an incomplete last batch
    int threads = 2;         ///< decoding threads; 0: everything happens inside next()
    int prefetch = 0;        ///< batches in memory, the delivered one included; 0: one more than threads
    std::function<void(const std::string&)> warn;  ///< told about each unreadable image, in order, by next()
};

/// Delivers the images of a data set in batches, decoded and augmented ahead of time by threads of its own.
/// What is delivered depends on nothing but data, order and options: not on the number of threads.
/// An image that cannot be read is skipped, counted and reported; the next readable one takes its place, so batches
/// stay full and the epoch gets shorter. After construction and the first batches, no batch memory is allocated.
/// Use: start(order, epoch), then next() until it returns nullptr; and again. One thread at a time.
class BatchLoader {
public:
    /// Throws Error for senseless options. The data set's source is shared, its items are copied.
    BatchLoader(Dataset data, LoaderOptions options) : data_(std::move(data)), options_(std::move(options)) {
        require(options_.batch >= 1, "batch size must be at least 1, found ", options_.batch);
        require(options_.threads >= 0, "number of loader threads must not be negative, found ", options_.threads);
        for (std::size_t k = 0; k <= options_.further.size(); ++k) image_floats(k);
        const int held = options_.prefetch > 0 ? options_.prefetch : options_.threads + 1;
        const int slots = options_.threads == 0 ? 1 : held;
        slots_.resize(static_cast<std::size_t>(slots));
        try {
            for (int i = 0; i < options_.threads; ++i) workers_.emplace_back([this] { work(); });
        } catch (const std::system_error& error) {
            stop();
            fail("cannot start loader threads: ", error.what());
        }
    }

    BatchLoader(const BatchLoader&) = delete;
    BatchLoader& operator=(const BatchLoader&) = delete;
    ~BatchLoader() { stop(); }

    /// Begins an epoch over the images `order` (positions in the data set); what is left of the last one is dropped.
    /// `before`: images of this epoch that were read by another loader, and are not among `order`. Throws Error when a
    /// position is out of range.
    void start(std::vector<Index> order, std::uint32_t epoch = 0, Index before = 0) {
        for (const Index i : order)
            require(i >= 0 && i < data_.size(), data_.name, ": image ", i, " does not exist, there are ", data_.size());
        std::unique_lock lock(mutex_);
        cancel_ = true;
        idle_.wait(lock, [this] { return busy_ == 0; });
        cancel_ = false;
        order_ = std::move(order);
        epoch_ = epoch;
        chunks_ = (static_cast<Index>(order_.size()) + options_.batch - 1) / options_.batch;
        claimed_ = opened_ = released_ = 0;
        for (Slot& slot : slots_) slot.ready = false;
        current_ = nullptr;
        cursor_ = 0;
        unreadable_ = 0;
        before_ = before;
        work_.notify_all();
    }

    /// The next batch, valid until the next call; nullptr at the end of the epoch.
    /// Throws Error when not one image of the epoch could be read, and whatever else failed in a worker.
    const Batch* next() {
        if (current_ == nullptr && !open_chunk()) return finish();
        // The common case: a whole chunk of readable images, or the last one, is the batch. No copy.
        const Index size = current_->batch.size;
        const bool last = opened_ == chunks_ && size > 0 && !options_.drop_last;
        if (cursor_ > 0 || (size < options_.batch && !last)) return assemble();
        const Slot* const whole = std::exchange(current_, nullptr);  // released when the next chunk is opened
        return &whole->batch;
    }

    /// Images of this epoch that could not be read so far.
    Index unreadable() const { return unreadable_; }
    /// The images that it was made for.
    const Dataset& dataset() const { return data_; }

private:
    /// The images at positions k·batch … of the order, those that could be read moved to the front.
    struct Slot {
        Batch batch;
        std::vector<std::string> errors;
        std::exception_ptr failure;
        Image scratch;
        bool ready = false;
    };

    void stop() {
        {
            const std::lock_guard lock(mutex_);
            stop_ = cancel_ = true;
        }
        work_.notify_all();
        for (std::thread& worker : workers_) worker.join();
        workers_.clear();
    }

    Slot& slot_of(Index chunk) { return slots_[static_cast<std::size_t>(chunk) % slots_.size()]; }

    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            work_.wait(lock, [this] {
                return stop_ ||
                       (!cancel_ && claimed_ < chunks_ && claimed_ < released_ + static_cast<Index>(slots_.size()));
            });
            if (stop_) return;
            const Index chunk = claimed_++;
            Slot& slot = slot_of(chunk);
            ++busy_;
            lock.unlock();
            fill(slot, chunk);
            lock.lock();
            slot.ready = true;
            if (--busy_ == 0) idle_.notify_one();
            if (chunk == opened_) ready_.notify_one();
        }
    }

    void fill(Slot& slot, Index chunk) noexcept {
        try {
            clear(slot.batch);
            slot.errors.clear();
            slot.failure = nullptr;
            const Index first = chunk * options_.batch;
            const Index last = std::min(first + options_.batch, static_cast<Index>(order_.size()));
            for (Index p = first; p < last && !cancel_; ++p) load(slot, order_[static_cast<std::size_t>(p)]);
        } catch (...) {
            slot.failure = std::current_exception();
        }
    }

    /// What encoder `k` takes: the first, then the further ones.
    const Preprocessing& preprocessing(std::size_t k) const {
        return k == 0 ? options_.preprocessing : options_.further[k - 1];
    }
    /// Values of one image for encoder `k`.
    std::size_t image_floats(std::size_t k) const {
        const Preprocessing& p = preprocessing(k);
        require(p.height >= 1 && p.width >= 1, "the resolution of the images must be at least 1, found ", p.height, "x",
                p.width);
        return 3 * static_cast<std::size_t>(p.height * p.width);
    }
    static std::vector<float>& images(Batch& batch, std::size_t k) {
        return k == 0 ? batch.images : batch.further[k - 1];
    }

    /// Empties the batch; its memory is allocated the first time only.
    void clear(Batch& batch) const {
        const auto n = static_cast<std::size_t>(options_.batch);
        batch.further.resize(options_.further.size());
        for (std::size_t k = 0; k <= options_.further.size(); ++k) images(batch, k).resize(n * image_floats(k));
        batch.labels.reserve(n);
        batch.indices.reserve(n);
        batch.labels.clear();
        batch.indices.clear();
        batch.size = 0;
    }

    /// Appends image `i` to the slot's batch, or a message to its errors.
    void load(Slot& slot, Index i) const {
        bool decoded = false;
        try {
            try {
                read(slot, i, decoded);
            } catch (const std::bad_alloc&) {  // once more, when what the last image took is given back
                slot.scratch = Image();
                read(slot, i, decoded);
            }
        } catch (const ResourceError&) {  // not the image's fault: to leave it out would change the result
            throw;
        } catch (const Error& error) {
            slot.errors.push_back(decoded ? data_.item_name(i) + ": " + error.what() : error.what());
            return;
        } catch (const std::bad_alloc&) {  // a single huge image; the others go on
            slot.scratch = Image();
            slot.errors.push_back(data_.item_name(i) + ": this image is too large for the memory there is");
            return;
        }
        slot.batch.labels.push_back(data_.label(i));
        slot.batch.indices.push_back(i);
        ++slot.batch.size;
    }

    /// Image `i` behind the last one of the slot's batch.
    void read(Slot& slot, Index i, bool& decoded) const {
        data_.load(i, slot.scratch);
        decoded = true;
        for (std::size_t k = 0; k <= options_.further.size(); ++k) {
            const auto at = static_cast<std::size_t>(slot.batch.size) * image_floats(k);
            prepare(slot.scratch, i, preprocessing(k), images(slot.batch, k).data() + at);
        }
    }

    /// Image `i`, augmented or preprocessed, normalised into `out` (3, p.height, p.width).
    void prepare(const Image& image, Index i, const Preprocessing& p, float* out) const {
        if (options_.augmentation != Augmentation::none) {
            const Image view =
                augment_image(image, options_.augmentation, p, options_.seed, static_cast<std::uint64_t>(i), epoch_);
            normalize_image(view, out, p);
        } else if (is_preprocessed(image, p)) {
            normalize_image(image, out, p);  // nothing to resample: saves the copy
        } else {
            normalize_image(preprocess_image(image, p), out, p);
        }
    }

    /// Waits for the next chunk of the order and makes it current. False at the end.
    bool open_chunk() {
        release_chunk();
        if (opened_ == chunks_) return false;
        Slot& slot = slot_of(opened_);
        if (options_.threads == 0) {
            fill(slot, opened_);
        } else {
            std::unique_lock lock(mutex_);
            ready_.wait(lock, [&] { return slot.ready; });
        }
        {
            const std::lock_guard lock(mutex_);
            ++opened_;
        }
        if (slot.failure) std::rethrow_exception(slot.failure);
        current_ = &slot;
        cursor_ = 0;
        unreadable_ += static_cast<Index>(slot.errors.size());
        if (options_.warn)
            for (const std::string& error : slot.errors) options_.warn(error);
        return true;
    }

    /// Gives the slots before the next chunk back to the workers.
    void release_chunk() {
        if (released_ == opened_) return;
        {
            const std::lock_guard lock(mutex_);
            slot_of(released_).ready = false;
            released_ = opened_;
        }
        current_ = nullptr;
        work_.notify_one();
    }

    /// Builds a batch from the rest of the current chunk and those after it.
    const Batch* assemble() {
        clear(assembled_);
        while (assembled_.size < options_.batch) {
            if (current_ == nullptr && !open_chunk()) break;
            Batch& from = current_->batch;
            const Index n = std::min(options_.batch - assembled_.size, from.size - cursor_);
            copy(from, cursor_, n);
            cursor_ += n;
            if (cursor_ == from.size) current_ = nullptr;
        }
        if (assembled_.size == 0 || (assembled_.size < options_.batch && options_.drop_last)) return finish();
        return &assembled_;
    }

    void copy(Batch& from, Index first, Index n) {
        for (std::size_t k = 0; k <= options_.further.size(); ++k) {
            const auto values = static_cast<Index>(image_floats(k));
            std::copy_n(images(from, k).data() + first * values, n * values,
                        images(assembled_, k).data() + assembled_.size * values);
        }
        assembled_.labels.insert(assembled_.labels.end(), from.labels.begin() + first, from.labels.begin() + first + n);
        assembled_.indices.insert(assembled_.indices.end(), from.indices.begin() + first,
                                  from.indices.begin() + first + n);
        assembled_.size += n;
    }

    const Batch* finish() const {
        require(unreadable_ == 0 || before_ > 0 || unreadable_ < static_cast<Index>(order_.size()), data_.name,
                ": not one of ", order_.size(), " images could be read");
        return nullptr;
    }

    Dataset data_;
    LoaderOptions options_;

    // Written by start() while no worker is busy.
    std::vector<Index> order_;
    std::uint32_t epoch_ = 0;
    Index before_ = 0;

    // Guarded by mutex_. Chunk c lives in slot c mod slots; claimed, opened and released only grow.
    std::mutex mutex_;
    std::condition_variable work_, ready_, idle_;
    std::vector<Slot> slots_;
    Index chunks_ = 0, claimed_ = 0, opened_ = 0, released_ = 0;
    int busy_ = 0;
    bool stop_ = false;
    std::atomic<bool> cancel_{false};

    // Used by the consumer only.
    Slot* current_ = nullptr;
    Index cursor_ = 0, unreadable_ = 0;
    Batch assembled_;
    std::vector<std::thread> workers_;
};

}  // namespace promptkd
