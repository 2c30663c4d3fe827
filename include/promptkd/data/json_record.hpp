// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace promptkd {

/// An object of a JSON file. What is wrong with it is said with its place: "boxes.json: annotations[3]: ".
class JsonRecord {
public:
    /// Throws Error, whose text begins with `where`, for any other value. `value` must outlive it.
    JsonRecord(const nlohmann::json& value, std::string where) : value_(&value), where_(std::move(where)) {
        require(value.is_object(), where_, "expected an object, {…}");
    }

    /// Whether there is a member of this name; null counts as none.
    bool has(const char* key) const { return value_->contains(key) && !value_->at(key).is_null(); }

    /// A member. Throws Error when there is none.
    const nlohmann::json& at(const char* key) const {
        require(has(key), where_, "has no '", key, "'");
        return value_->at(key);
    }

    /// A text that is not empty.
    std::string text(const char* key) const {
        const nlohmann::json& value = at(key);
        require(value.is_string() && !value.get_ref<const std::string&>().empty(), where_, "'", key, "' is no text");
        return value.get<std::string>();
    }

    /// A whole number of 64 bits.
    std::int64_t whole(const char* key) const {
        const nlohmann::json& value = at(key);
        const bool large = value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX;
        require(value.is_number_integer() && !large, where_, "'", key, "' is no whole number");
        return value.get<std::int64_t>();
    }

    /// A finite number.
    double number(const char* key) const { return finite(at(key), key); }

    /// Four finite numbers.
    std::array<double, 4> four_numbers(const char* key) const { return four_numbers(at(key), key); }

    /// The same of a value in it, called `name` in messages.
    std::array<double, 4> four_numbers(const nlohmann::json& value, const std::string& name) const {
        require(value.is_array() && value.size() == 4, where_, "'", name, "' is no list of four numbers");
        std::array<double, 4> out{};
        for (std::size_t i = 0; i < 4; ++i) out[i] = finite(value[i], name);
        return out;
    }

    /// A list.
    const nlohmann::json& list(const char* key) const {
        require(at(key).is_array(), where_, "'", key, "' is no list");
        return at(key);
    }

    /// Calls f(record) for each object of the list `key`.
    template <class F>
    void for_each(const char* key, const F& f) const {
        const nlohmann::json& all = list(key);
        for (std::size_t i = 0; i < all.size(); ++i) f(JsonRecord(all[i], concat(where_, key, "[", i, "]: ")));
    }

    /// "FILE: annotations[3]: ".
    const std::string& where() const { return where_; }

private:
    double finite(const nlohmann::json& value, const std::string& name) const {
        require(value.is_number() && std::isfinite(value.get<double>()), where_, "'", name, "' holds no number");
        return value.get<double>();
    }

    const nlohmann::json* value_;
    std::string where_;
};

}  // namespace promptkd
