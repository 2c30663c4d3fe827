// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <utility>

namespace promptkd::detail {

/// Reads the fields of one JSON object and remembers which: what a reader does not follow must not be passed over.
class FieldReader {
public:
    FieldReader(const nlohmann::json& object, std::string source) : object_(object), source_(std::move(source)) {
        require(object.is_object(), source_, ": the preprocessing is not a JSON object");
    }

    bool has(const char* key) {
        read_.insert(key);
        return object_.contains(key) && !object_.at(key).is_null();
    }
    const nlohmann::json& at(const char* key) {
        read_.insert(key);
        return object_.at(key);
    }

    bool flag(const char* key, bool fallback) {
        if (!has(key)) return fallback;
        if (!at(key).is_boolean()) wrong(key, "true or false");
        return at(key).get<bool>();
    }
    double number(const char* key, double fallback) {
        if (!has(key)) return fallback;
        if (!at(key).is_number() || !std::isfinite(at(key).get<double>())) wrong(key, "a number");
        return at(key).get<double>();
    }
    /// A whole number from 0 to 255.
    std::uint8_t byte(const char* key, std::uint8_t fallback) {
        const double value = number(key, fallback);
        if (value < 0 || value > 255 || value != std::floor(value)) wrong(key, "a whole number from 0 to 255");
        return static_cast<std::uint8_t>(value);
    }
    std::string text(const char* key, const std::string& fallback) {
        if (!has(key)) return fallback;
        if (!at(key).is_string()) wrong(key, "a text");
        return at(key).get<std::string>();
    }
    /// Three numbers, one a channel.
    std::array<float, 3> channels(const char* key, const std::array<float, 3>& fallback) {
        if (!has(key)) return fallback;
        const nlohmann::json& list = at(key);
        if (!list.is_array() || list.size() != 3) wrong(key, "three numbers, one a channel");
        std::array<float, 3> values{};
        for (std::size_t c = 0; c < 3; ++c) {
            if (!list[c].is_number() || !std::isfinite(list[c].get<double>()))
                wrong(key, "three numbers, one a channel");
            values[c] = static_cast<float>(list[c].get<double>());
        }
        return values;
    }
    /// A size in pixels, `fallback` where the field is absent.
    Index size(const char* key, Index fallback) { return has(key) ? size(at(key), key) : fallback; }
    /// `value`, which the field `key` holds, as a size in pixels.
    Index size(const nlohmann::json& value, const std::string& key) const {
        if (!value.is_number_integer() || value.get<std::int64_t>() < 1 || value.get<std::int64_t>() > 65536)
            wrong(key, "a size in pixels between 1 and 65536");
        return value.get<Index>();
    }

    /// Fields without influence on the pixels.
    void ignore(std::initializer_list<const char*> keys) { read_.insert(keys.begin(), keys.end()); }
    /// Throws Error for the first field that was not read and asks for something.
    void require_all_read() const {
        for (const auto& [key, value] : object_.items())
            require(read_.count(key) != 0 || value.is_null() || value == false, source_, ": the field '", key,
                    "' of the preprocessing (", value.dump(), ") is not supported");
    }
    [[noreturn]] void wrong(const std::string& key, const char* expected) const {
        fail(source_, ": the field '", key, "' of the preprocessing is ",
             object_.contains(key) ? object_.at(key).dump() : "missing", ", expected ", expected);
    }
    const std::string& source() const { return source_; }

private:
    const nlohmann::json& object_;
    std::string source_;
    std::set<std::string> read_;
};

}  // namespace promptkd::detail
