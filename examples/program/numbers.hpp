// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/utf8.hpp>

#include <CLI/CLI.hpp>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

// Numbers as options take them: a range in words for each, and no other spelling than decimal digits.
namespace promptkd::cli {

namespace numbers {

/// Whether all of `text` is one number of type N; it is then in `value`.
template <class N>
bool read(const std::string& text, N& value) {
    const char* const end = text.data() + text.size();
    const auto found = std::from_chars(text.data(), end, value);
    return found.ec == std::errc() && found.ptr == end;
}

/// The same for whole numbers, which do not begin with a 0 (other programs read those as octal).
template <class N>
bool read_whole(const std::string& text, N& value) {
    const bool padded = text.size() > 1 && text[text[0] == '-'] == '0';
    return !padded && read(text, value);
}

/// A check that says what it wants: "must be a positive number, found -1".
template <class Accepts>
CLI::Validator check(const std::string& words, const std::string& name, const Accepts& accepts) {
    return CLI::Validator(
        [words, accepts](std::string& text) {
            return accepts(text) ? std::string() : "must be " + words + ", found " + printable(text);
        },
        name);
}

template <class N>
CLI::Validator whole(N low, N high) {
    const std::string words = "a whole number from " + std::to_string(low) + " to " + std::to_string(high);
    return check(words, "", [low, high](const std::string& text) {
        N value = 0;
        return read_whole(text, value) && value >= low && value <= high;
    });
}

}  // namespace numbers

/// A whole number of at least `low`.
inline CLI::Validator whole_from(Index low, Index high = std::numeric_limits<Index>::max()) {
    if (high != std::numeric_limits<Index>::max()) return numbers::whole(low, high);
    return numbers::check("a whole number from " + std::to_string(low) + " on", "", [low](const std::string& text) {
        Index value = 0;
        return numbers::read_whole(text, value) && value >= low;
    });
}

/// A number of threads.
inline CLI::Validator thread_count() { return whole_from(0, std::numeric_limits<int>::max()); }

/// A seed: all that 64 bits hold.
inline CLI::Validator seed_number() {
    return numbers::whole(std::uint64_t{0}, std::numeric_limits<std::uint64_t>::max());
}

namespace numbers {

/// Seconds of a time such as 90, 90s, 10m or 2h; not positive where `text` is none.
inline double read_duration(const std::string& text) {
    double value = 0, unit = 1;
    std::string number = text;
    const std::string units = "smh";
    const std::size_t at = text.empty() ? std::string::npos : units.find(text.back());
    if (at != std::string::npos) {
        constexpr double seconds[] = {1, 60, 3600};
        unit = seconds[at];
        number.pop_back();
    }
    return read(number, value) && std::isfinite(value) ? value * unit : -1;
}

}  // namespace numbers

/// A time greater than 0, in seconds or with a unit.
inline CLI::Validator duration() {
    return numbers::check("a time such as 90s, 10m or 2h", "TIME",
                          [](const std::string& text) { return numbers::read_duration(text) > 0; });
}

/// The seconds of a time that duration() has accepted.
inline double seconds_of(const std::string& text) { return numbers::read_duration(text); }

/// A finite number greater than 0.
inline CLI::Validator positive() {
    return numbers::check("a positive number", "", [](const std::string& text) {
        double value = 0;
        return numbers::read(text, value) && std::isfinite(value) && value > 0;
    });
}

/// A finite number of at least 0.
inline CLI::Validator not_negative() {
    return numbers::check("a number of at least 0", "", [](const std::string& text) {
        double value = 0;
        return numbers::read(text, value) && std::isfinite(value) && value >= 0;
    });
}

/// A share below 1 or a whole number; 0: neither.
inline CLI::Validator share_or_count() {
    return numbers::check("a share below 1 or a whole number", "", [](const std::string& text) {
        double value = 0;
        return numbers::read(text, value) && std::isfinite(value) && value >= 0 &&
               (value < 1 || value == std::floor(value));
    });
}

/// A number from 0 to 1.
inline CLI::Validator fraction() {
    return numbers::check("a number from 0 to 1", "", [](const std::string& text) {
        double value = 0;
        return numbers::read(text, value) && value >= 0 && value <= 1;
    });
}

/// Any finite number.
inline CLI::Validator finite() {
    return numbers::check("a number", "", [](const std::string& text) {
        double value = 0;
        return numbers::read(text, value) && std::isfinite(value);
    });
}

/// The different whole numbers of "a,b,…", each from `low` to `high`. Anything else is bad usage.
template <class N>
std::vector<N> number_list(const std::string& list, const std::string& option, N low, N high) {
    std::vector<N> out;
    std::istringstream in(list + ",");
    for (std::string part; std::getline(in, part, ',');) {
        N value = 0;
        const bool good = numbers::read_whole(part, value) && value >= low && value <= high;
        if (!good)
            throw CLI::ValidationError(option, "must be whole numbers from " + std::to_string(low) + " to " +
                                                   std::to_string(high) + " with commas between them, found '" +
                                                   printable(part) + "' in '" + printable(list) + "'");
        for (const N known : out)
            if (known == value) throw CLI::ValidationError(option, part + " stands twice in '" + printable(list) + "'");
        out.push_back(value);
    }
    return out;
}

}  // namespace promptkd::cli
