// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/loader.hpp>

#include <cstdint>
#include <utility>

namespace promptkd {

/// Batches of a data set without an end: epoch after epoch, each shuffled anew, incomplete last batches dropped.
class EndlessBatches {
public:
    /// Where it stands.
    struct Place {
        std::int64_t epoch = 0;    ///< from 0
        std::int64_t batches = 0;  ///< that were delivered of it
    };

    /// Shuffled with options.seed.
    EndlessBatches(const Dataset& data, const LoaderOptions& options)
        : seed_(options.seed), loader_(data, options), images_(data.size()) {}

    /// The next batch, valid until the next call. Throws Error when no whole batch can be read.
    const Batch& next() {
        if (!open_) begin(at_);
        const Batch* batch = loader_.next();
        if (!batch) {
            begin({at_.epoch + 1, 0});
            batch = loader_.next();
        }
        require(batch != nullptr, loader_.dataset().name, ": no full batch of readable images");
        ++at_.batches;
        return *batch;
    }

    /// The epoch of the batch that next() gave.
    std::int64_t epoch() const { return at_.epoch; }
    /// Where it stands.
    Place place() const { return at_; }
    /// Goes on from there.
    void go_to(const Place& place) {
        begin(place);
        for (std::int64_t i = 0; i < place.batches; ++i) loader_.next();
    }

private:
    void begin(const Place& place) {
        at_ = place;
        const auto epoch = static_cast<std::uint32_t>(place.epoch);
        loader_.start(shuffled(images_, seed_, epoch), epoch);
        open_ = true;
    }

    std::uint64_t seed_;
    BatchLoader loader_;
    Index images_;
    Place at_;
    bool open_ = false;
};

}  // namespace promptkd
