// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/draw.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/experiment/observer.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Lets an observer hear what the opening of a data set tells.
inline DataTeller teller(Observer& observer) {
    const auto note = [&observer](const std::string& text) { observer.on_note(text); };
    return {note, [&observer](const std::string& text) { observer.on_warning(text); }, note};
}

/// The same for a set that has been opened before: it hears only which images are tested on.
inline DataTeller test_teller(Observer& observer) { return {{}, {}, teller(observer).test}; }

/// Throws Error unless there are classes to decide between.
inline void require_classes(const Dataset& data) {
    require(data.classes() > 1, data.name, ": there is one class alone (",
            data.class_names.empty() ? "" : data.class_names.front(),
            "), so there is nothing to decide; two classes at least are needed");
}

/// At most `n` images of the data set `source` (0: all): of a user's own images drawn evenly by `seed`, of the
/// published sets the first, as published runs take them.
inline Dataset limited(const std::string& source, Dataset data, Index n, std::uint64_t seed) {
    if (n <= 0) return data;
    return is_own_images(source) ? draw_evenly(data, n, seed) : take(std::move(data), n);
}

/// The images of the training part `data` of `source` without those held out. Throws Error where there is a test part.
inline HeldOut hold_out_of(const std::string& source, const Dataset& data, double share, std::uint64_t seed) {
    require(is_own_images(source), source, ": has a published test part; images are held out of a user's own alone");
    HeldOut parts = hold_out(data, share, seed);
    parts.test.name = data.name + " (held out)";
    return parts;
}

/// What of the labelled test images `own` of `source` a model is tested on that has learned from `seen`: those it has
/// not seen. Tells `observer`; nothing where none is left.
inline std::optional<Dataset> unseen_images(const std::string& source, const Dataset& own,
                                            const std::vector<const Dataset*>& seen, Observer& observer) {
    if (!is_own_images(source)) return own;
    Dataset left = without_files(own, seen);
    if (left.size() == own.size()) return own;
    if (left.size() == 0) {
        observer.on_warning(concat("'", own.name, "' has no test part: all of its ", own.size(),
                                   " images are learned from, so nothing is evaluated; hold some of them out, or name "
                                   "other labelled images"));
        return std::nullopt;
    }
    observer.on_note(concat("'", own.name, "' has no test part: the test images are the ", left.size(),
                            " that are not learned from"));
    return left;
}

/// Tells `observer` how many of the images of `test` were learned from.
inline void warn_of_seen(const Dataset& test, const std::vector<const Dataset*>& seen, Observer& observer) {
    const Index both = test.size() - without_files(test, seen).size();
    if (both > 0)
        observer.on_warning(
            concat(both, " of the ", test.size(), " test images of '", test.name, "' are learned from"));
}

}  // namespace promptkd
