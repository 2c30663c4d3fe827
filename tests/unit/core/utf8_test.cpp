// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/utf8.hpp>
#include <promptkd/format/json_text.hpp>

#include <doctest/doctest.h>

namespace utf8_test {

namespace {

using namespace promptkd;

TEST_CASE("file names: bytes that are not UTF-8 are escaped, and come back") {
    CHECK(escape_bytes("caf\xc3\xa9.png") == "caf\xc3\xa9.png");
    for (const std::string name : {"x\xff.png", "\xc3(", "cut\xe2\x82", "\xed\xa0\x80", "a\\b\xfe"}) {
        const std::string text = escape_bytes(name);
        CHECK(detail::is_utf8(text));
        CHECK(text != name);
        CHECK(unescape_bytes(text) == name);
    }
    CHECK(escape_bytes("x\xff.png") == "x\\xff.png");
    CHECK(unescape_bytes("C:\\x41") == "C:\\x41");        // ASCII is never escaped
    CHECK(unescape_bytes("\\xc3\\xa9") == "\\xc3\\xa9");  // nor is what was UTF-8 before
}

TEST_CASE("messages: one line that a terminal shows as it is") {
    CHECK(printable("a\nb\x1b[31m\x7f") == "a\\nb\\x1b[31m\\x7f");
    CHECK(printable("\xc2\x9b"
                    "31m\xc2\xa0") == "\\xc2\\x9b31m\xc2\xa0");  // a control character of two bytes
    CHECK(printable("gr\xc3\xbc\xc3\x9f") == "gr\xc3\xbc\xc3\x9f");
}

TEST_CASE("JSON: no text makes a result impossible to write") {
    CHECK(json_text(nlohmann::json{{"a", 1.5}}) == "{\"a\":1.5}");
    const nlohmann::json bad = {{"k\xff", {"v\xfe", {{"x", "\xc0"}}}}};
    CHECK(json_text(bad) == "{\"k\\\\xff\":[\"v\\\\xfe\",{\"x\":\"\\\\xc0\"}]}");
    CHECK(json_text(nlohmann::ordered_json{{"b", "\xff"}, {"a", 1}}) == "{\"b\":\"\\\\xff\",\"a\":1}");
}

}  // namespace

}  // namespace utf8_test
