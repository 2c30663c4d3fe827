// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/utf8.hpp>

#include <nlohmann/json.hpp>

#include <string>

namespace promptkd {

namespace detail {

/// `value` with every text and key valid UTF-8, see escape_bytes().
template <class Json>
Json with_escaped_bytes(const Json& value) {
    if (value.is_string()) return escape_bytes(value.template get<std::string>());
    if (value.is_array()) {
        Json list = Json::array();
        for (const Json& part : value) list.push_back(with_escaped_bytes(part));
        return list;
    }
    if (!value.is_object()) return value;
    Json object = Json::object();
    for (const auto& [key, part] : value.items()) object[escape_bytes(key)] = with_escaped_bytes(part);
    return object;
}

}  // namespace detail

/// `value` as JSON, indented by `indent` spaces (−1: on one line). Bytes that are not UTF-8, of a file name, say, are
/// escaped (see escape_bytes()): no name makes a result impossible to write.
template <class Json>
std::string json_text(const Json& value, int indent = -1) {
    try {
        return value.dump(indent);
    } catch (const nlohmann::json::type_error&) {  // the usual text needs no second look
        return detail::with_escaped_bytes(value).dump(indent);
    }
}

/// `value` as it is after it was written and read: what a file can be compared with.
inline nlohmann::json as_read(const nlohmann::json& value) { return nlohmann::json::parse(json_text(value)); }

}  // namespace promptkd
