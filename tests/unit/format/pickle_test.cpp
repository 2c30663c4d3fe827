// SPDX-License-Identifier: Apache-2.0
#include "support/hostile_files.hpp"

#include <promptkd/format/pickle.hpp>

#include <deque>

namespace pickle_test {

namespace {

using namespace promptkd;
using test::error_of;
using test::little_endian;
using Kind = Pickle::Kind;

const std::string proto("\x80\x02", 2);

std::string text(const std::string& s) { return "X" + little_endian(s.size(), 4) + s; }

/// Texts of a Pickle point into its bytes: these are kept.
Pickle parse(const std::string& bytes) {
    static std::deque<std::string> kept;
    kept.push_back(bytes);
    return Pickle::parse(kept.back(), "file");
}

/// Checks that the pickle is refused with the file, the byte of the opcode, and `expected`.
void check_refused(const std::string& bytes, std::size_t offset, const std::string& expected,
                   const PickleLimits& limits = {}) {
    const std::string message = error_of([&] { Pickle::parse(bytes, "some.pt", nullptr, limits); });
    CAPTURE(message);
    CHECK(message.find("some.pt: pickle: byte " + std::to_string(offset) + ": ") == 0);
    CHECK(message.find(expected) != std::string::npos);
}

TEST_CASE("pickle: numbers, texts and bytes of every protocol") {
    const std::string bytes = proto + "(" + "K\x07" + "M" + little_endian(1000, 2) + "J" +
                              little_endian(0xfffffffe, 4) + "\x8a\x02" + little_endian(0xff7f, 2) + "\x8a" +
                              std::string(1, '\0') + "\x8a\x08" + little_endian(1ull << 62, 8) +
                              std::string("G\x40\x09\x21\xfb\x54\x44\x2d\x18", 9) + "N\x88\x89" + text("ab") +
                              "\x8c\x01" + "c" + "U\x01z" + "C\x02xy" + "\x8d" + little_endian(1, 8) + "u" + "t.";
    const Pickle p = parse(bytes);
    const auto& items = p[p.root()].items;
    REQUIRE(p[p.root()].kind == Kind::tuple);
    REQUIRE(items.size() == 15);
    const std::int64_t integers[] = {7, 1000, -2, -129, 0, std::int64_t{1} << 62};
    for (std::size_t i = 0; i < 6; ++i) CHECK(p[items[i]].integer == integers[i]);
    CHECK(p[items[6]].real == doctest::Approx(3.141592653589793));
    CHECK(items[7] == 0);
    CHECK(p[items[8]].kind == Kind::boolean);
    CHECK(p[items[8]].integer == 1);
    CHECK(p[items[9]].integer == 0);
    CHECK(p.is_text(items[10], "ab"));
    CHECK(p.is_text(items[11], "c"));
    CHECK(p.is_text(items[12], "z"));
    CHECK(p[items[13]].kind == Kind::bytes);
    CHECK(p.is_text(items[14], "u"));
}

TEST_CASE("pickle: containers, memo and protocol 4") {
    const std::string inner =
        "\x8c\x01"
        "a"
        "\x94"
        "K\x01"
        "\x8c\x01"
        "b"
        "]"
        "(K\x02K\x03"
        "e"
        "h" +
        std::string(1, '\0') + "\x86";
    const std::string bytes = "\x80\x04\x95" + little_endian(inner.size(), 8) + "}(" + inner +
                              "\x8c\x01"
                              "c"
                              "\x8f(K\x05\x90"
                              "u.";
    const Pickle p = parse(bytes);
    const Pickle::Ref b = p.find(p.root(), "b");
    REQUIRE(b != 0);
    REQUIRE(p[b].items.size() == 2);
    CHECK(p[p[b].items[0]].items.size() == 2);
    CHECK(p.is_text(p[b].items[1], "a"));
    CHECK(p[p.find(p.root(), "c")].items.size() == 1);
    CHECK(p[p.find(p.root(), "a")].integer == 1);
    CHECK(p.find(p.root(), "x") == 0);
}

TEST_CASE("pickle: globals are names, and calls are objects that keep what they were given") {
    const Pickle p = parse(proto + "cos\nsystem\n" + text("rm -rf /") + "\x85R}" + text("k") + "K\x01sb.");
    const Pickle::Node& object = p[p.root()];
    REQUIRE(object.kind == Kind::object);
    CHECK(p.is_global(object.callee, "os", "system"));
    CHECK(p.is_text(p[object.arguments].items.at(0), "rm -rf /"));
    CHECK(p[p.find(object.state, "k")].integer == 1);
    const Pickle stacked = parse("\x80\x04\x8c\x02os\x8c\x06system\x93)\x81.");
    CHECK(stacked.is_global(stacked[stacked.root()].callee, "os", "system"));
}

TEST_CASE("pickle: dictionaries of the collections module are dictionaries") {
    for (const std::string name : {"collections\nOrderedDict", "__builtin__\ndict", "builtins\ndict"}) {
        const Pickle p = parse(proto + "c" + name + "\n)R" + text("a") + "K\x09s.");
        CHECK(p[p.root()].kind == Kind::dict);
        CHECK(p[p.find(p.root(), "a")].integer == 9);
    }
    const Pickle pairs = parse(proto + "ccollections\nOrderedDict\n]]" + "(" + text("a") + "K\x09" + "ea\x85R.");
    CHECK(pairs[pairs.find(pairs.root(), "a")].integer == 9);
    const Pickle factory =
        parse(proto + "ccollections\ndefaultdict\nc__builtin__\ndict\n\x85R" + text("a") + "K\x09s.");
    CHECK(factory[factory.find(factory.root(), "a")].integer == 9);
}

TEST_CASE("pickle: a value that holds itself neither hangs nor recurses") {
    const Pickle p = parse(proto + "]q" + std::string(1, '\0') + "h" + std::string(1, '\0') + "a.");
    CHECK(p[p.root()].items.at(0) == p.root());
    std::string nested = proto;
    for (int i = 0; i < 400000; ++i) nested += "]";  // built inside out: [[[…]]]
    for (int i = 1; i < 400000; ++i) nested += "a";
    CHECK(parse(nested + ".").size() > 400000);
}

TEST_CASE("pickle: where it ends is reported") {
    std::size_t used = 0;
    Pickle::parse(proto + "K\x01." + "rest", "file", &used);
    CHECK(used == 5);
}

TEST_CASE("pickle: every truncation is refused") {
    const std::string bytes = proto + "}(" + text("key") + "cos\nsystem\n" + text("x") + "\x85RX\x02" +
                              std::string(3, '\0') + "abG" + std::string(8, '\0') + "u.";
    for (std::size_t n = 0; n < bytes.size(); ++n) CHECK_THROWS_AS(parse(bytes.substr(0, n)), Error);
}

TEST_CASE("pickle: opcodes out of order are refused with their byte") {
    check_refused(proto + ".", 2, "STOP with 0 values");
    check_refused(proto + "K\x01K\x02.", 6, "STOP with 2 values");
    check_refused(proto + "(K\x01.", 5, "open mark");
    check_refused(proto + "0", 2, "stack is empty");
    check_refused(proto + "t", 2, "no open mark");
    check_refused(proto + "u", 2, "no open mark");
    check_refused(proto + "K\x01(a", 5, "too short");
    check_refused(proto + "](a", 4, "too short");  // a value below the mark may not be taken
    check_refused(proto + "K\x01s", 4, "too short");
    check_refused(proto +
                      "K\x01K\x02"
                      "a",
                  6, "cannot hold them");
    check_refused(proto + "}(K\x01u", 6, "a key but no value");
    check_refused(proto + "K\x01)R", 5, "no global");
    check_refused(proto + "cos\nsystem\nK\x01R", 15, "no tuple");
    check_refused(proto + "h\x05", 2, "memo entry 5");
    check_refused(proto + "q" + std::string(1, '\0'), 2, "stack is empty");
    check_refused(proto + "b", 2, "stack is empty");
    check_refused("\x80\x04K\x01K\x02\x93", 6, "without two texts");
}

TEST_CASE("pickle: unknown opcodes, other protocols and huge counts are refused") {
    check_refused(proto + "I1\n.", 2, "opcode 73 is unknown");
    check_refused(proto + "\x82\x01.", 2, "opcode 130 is unknown");  // extension registry
    check_refused(proto + std::string("\x97."), 2, "unknown");       // out-of-band buffer
    check_refused(std::string("\x80\x09N."), 0, "protocol 9");
    CHECK(error_of([&] { parse("N."); }).find("not a pickle") != std::string::npos);
    CHECK(error_of([&] { parse(""); }).find("not a pickle") != std::string::npos);
    check_refused(proto +
                      "X\xff\xff\xff\xff"
                      "ab",
                  2, "beyond the end");
    check_refused(proto + "\x8d" + std::string(8, '\xff'), 2, "beyond the end");
    check_refused(proto + "\x8b\xff\xff\xff\xff", 2, "beyond the end");
    check_refused("\x80\x04\x95" + std::string(8, '\xff'), 2, "longer than the pickle");
    check_refused(proto + "cmodule", 2, "without an end");
    PickleLimits few;
    few.nodes = 10;
    few.depth = 3;
    check_refused(proto + std::string(20, ']'), 11, "more than 10 values", few);
    check_refused(proto + std::string(20, '('), 5, "more than 3 open marks", few);
    check_refused(proto + "]" + std::string(40, '2'), 12, "more than 10 values on the stack", few);
}

}  // namespace

}  // namespace pickle_test
