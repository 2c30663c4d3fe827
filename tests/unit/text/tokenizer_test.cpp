// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <zlib.h>
#include <promptkd/text/tokenizer.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace tokenizer_test {

using namespace promptkd;
using Ids = std::vector<std::int32_t>;

namespace {

/// A merges file with a few rules and ids that can be worked out by hand: 512 …, then SOT and EOT.
constexpr const char* small_merges = "#version: 0.2\nc a\nca t</w>\nt h\nth e</w>\na b\nab c</w>\n";

Tokenizer small_tokenizer() { return Tokenizer::from_merges(small_merges, "small"); }

Tokenizer fashion_tokenizer() { return Tokenizer::from_file(std::string(PROMPTKD_ASSETS) + "/fashion_bpe.txt.gz"); }

std::int32_t id_of(char letter, bool end) { return letter - 33 + (end ? 256 : 0); }

/// Path of OpenAI's merges; empty only when the tests run offline on purpose.
std::string openai_vocabulary() {
    std::string path;
    if (const char* given = std::getenv("PROMPTKD_VOCAB")) path = given;
#ifdef PROMPTKD_OPENAI_VOCAB
    if (path.empty()) path = PROMPTKD_OPENAI_VOCAB;
#endif
    if (!path.empty() && std::ifstream(path).good()) return path;
    const char* offline = std::getenv("PROMPTKD_OFFLINE");
    const bool skipped = offline != nullptr && std::string(offline) == "1";
    if (!skipped)
        FAIL("OpenAI's merges were not found at '" << path
                                                   << "'; set PROMPTKD_VOCAB to bpe_simple_vocab_16e6.txt.gz, or "
                                                      "PROMPTKD_OFFLINE=1 to leave out the tests that need it");
    return {};
}

std::string message_of(const std::string& merges) {
    try {
        Tokenizer::from_merges(merges, "bad.txt");
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string clean(const std::string& text) { return detail::encode_utf8(detail::clean_text(text)); }

}  // namespace

TEST_CASE("ids: bytes, bytes that end a word, merges, the empty last line, SOT, EOT") {
    const Tokenizer tokenizer = small_tokenizer();
    CHECK(tokenizer.vocabulary_size() == 512 + 6 + 1 + 2);
    CHECK(tokenizer.sot() == 519);
    CHECK(tokenizer.eot() == 520);
    CHECK(tokenizer.encode("cat") == Ids{513});
    CHECK(tokenizer.encode("The CAT") == Ids{515, 513});
    CHECK(tokenizer.encode("ca") == Ids{id_of('c', false), id_of('a', true)});
    CHECK(tokenizer.encode("cats") == Ids{512, id_of('t', false), id_of('s', true)});
    CHECK(tokenizer.encode("") == Ids{});
    CHECK(tokenizer.encode(" \n\t ") == Ids{});
    CHECK(tokenizer.encode("\xc2\x80") == tokenizer.encode("€"));  // a C1 control is read as Windows-1252
    CHECK(tokenizer.encode("<|startoftext|>cat<|endoftext|>") == Ids{519, 513, 520});
    CHECK(Tokenizer::from_merges("header\nc a\nca t</w>", "no newline").vocabulary_size() == 516);
}

TEST_CASE("every merge of the lowest rank comes before any other") {
    // "abab": (b a) has rank 0 and wins over (a b), which would come first from the left.
    const Tokenizer tokenizer = Tokenizer::from_merges("h\nb a\na b\na ba\n", "order");
    CHECK(tokenizer.encode("abab") == Ids{514, id_of('b', true)});
    // "aaa" merges from the left.
    CHECK(Tokenizer::from_merges("h\na a\n", "left").encode("aaaa") == Ids{512, id_of('a', false), id_of('a', true)});
}

TEST_CASE("two pairs that spell the same symbol share its last id") {
    const Tokenizer tokenizer = Tokenizer::from_merges("h\na b\nb c\nab c\na bc\nx y", "same");
    CHECK(tokenizer.encode("abcd") == Ids{515, id_of('d', true)});
}

TEST_CASE("the short and the long way of merging agree") {
    const Tokenizer tokenizer = fashion_tokenizer();
    detail::MergeTable table;
    std::int32_t next = 4;
    std::uint32_t state = 7;
    const auto random = [&](std::uint32_t n) { return (state = state * 1664525u + 1013904223u) / 65536 % n; };
    for (int rule = 0; rule < 60; ++rule, ++next)
        table.add(static_cast<std::int32_t>(random(static_cast<std::uint32_t>(next))),
                  static_cast<std::int32_t>(random(static_cast<std::uint32_t>(next))), {rule, next});
    for (int trial = 0; trial < 300; ++trial) {
        Ids word(1 + random(60));
        for (std::int32_t& symbol : word) symbol = static_cast<std::int32_t>(random(4));
        Ids a = word, b = word;
        detail::merge_short_word(a, table);
        detail::merge_long_word(b, table);
        REQUIRE(a == b);
    }
}

TEST_CASE("padding, truncation and texts that are too long") {
    const Tokenizer tokenizer = small_tokenizer();
    CHECK(tokenizer.tokenize("cat", 5) == Ids{519, 513, 520, 0, 0});
    CHECK(tokenizer.tokenize("cat", 3) == Ids{519, 513, 520});
    CHECK(tokenizer.tokenize("cat cat cat", 4, true) == Ids{519, 513, 513, 520});
    CHECK(tokenizer.tokenize("", 2) == Ids{519, 520});
    try {
        tokenizer.tokenize("cat cat cat", 4);
        FAIL("a text of 5 tokens was accepted");
    } catch (const Error& error) {
        CHECK(contains(error.what(), "'cat cat cat' has 5 tokens"));
        CHECK(contains(error.what(), "context is 4"));
    }
    CHECK_THROWS_AS(tokenizer.tokenize("cat", 1), Error);
}

TEST_CASE("decode") {
    const Tokenizer tokenizer = small_tokenizer();
    CHECK(tokenizer.decode(tokenizer.encode("The cat, é!")) == "the cat , é ! ");
    CHECK(tokenizer.decode({id_of('a', false), 519}) == "a<|startoftext|>");
    CHECK(tokenizer.decode({static_cast<std::int32_t>(detail::byte_alphabet().id_of_byte[0xc3])}) == "\xef\xbf\xbd");
    CHECK_THROWS_AS(tokenizer.decode({521}), Error);
    CHECK_THROWS_AS(tokenizer.decode({-1}), Error);
}

TEST_CASE("the small vocabulary of the example models") {
    const Tokenizer tokenizer = fashion_tokenizer();
    CHECK(tokenizer.vocabulary_size() == 838);
    CHECK(tokenizer.sot() == 836);
    CHECK(tokenizer.eot() == 837);
    CHECK(tokenizer.encode("of to") == Ids{512, 514});
    CHECK_NOTHROW(tokenizer.require_fits(838, "model.safetensors"));
    try {
        tokenizer.require_fits(49408, "model.safetensors");
        FAIL("a vocabulary of another size was accepted");
    } catch (const Error& error) {
        CHECK(contains(error.what(), "838"));
        CHECK(contains(error.what(), "49408"));
        CHECK(contains(error.what(), "model.safetensors"));
    }
}

TEST_CASE("text that is not UTF-8 is refused with its offset") {
    const Tokenizer tokenizer = small_tokenizer();
    const auto offset = [&](const std::string& text) -> std::string {
        try {
            tokenizer.encode(text);
        } catch (const Error& error) {
            return error.what();
        }
        return "accepted";
    };
    CHECK(contains(offset("cat \xff"), "offset 4"));
    CHECK(contains(offset("\xc3"), "offset 0"));
    CHECK(contains(offset("a\xc0\x80"), "offset 1"));            // overlong
    CHECK(contains(offset("ab\xed\xa0\x80"), "offset 2"));       // surrogate
    CHECK(contains(offset("abc\xf4\x90\x80\x80"), "offset 3"));  // beyond U+10FFFF
    CHECK(offset("ok \xf4\x8f\xbf\xbd") == "accepted");
}

TEST_CASE("bad merges files are refused with the line") {
    CHECK(contains(message_of("only a header"), "no line after the header"));
    CHECK(contains(message_of(""), "no line after the header"));
    CHECK(contains(message_of("h\na b\nword\nc d\n"), "line 3"));
    CHECK(contains(message_of("h\na b\na b c\n"), "line 3"));
    CHECK(contains(message_of("h\na b\n\nc d\n"), "line 3"));
    CHECK(contains(message_of("h\n a\n"), "line 2"));
    CHECK(contains(message_of("h\na \x01\n"), "line 2"));
    CHECK(contains(message_of("h\na b\xff\n"), "line 2"));
    CHECK(contains(message_of("<!DOCTYPE html>\n<html>\n"), "line 2"));
    std::string other_model = "#version: 0.2\n";
    for (char a = 'a'; a <= 'z'; ++a)
        for (char b = 'a'; b <= 'f'; ++b) other_model += std::string{a, ' ', b, '\n'};
    CHECK(contains(message_of(other_model), "</w>"));
    CHECK_THROWS_AS(Tokenizer::from_file("/no/such/merges.txt"), Error);
}

TEST_CASE("merges files: gzip, several gzip members, CRLF; damaged gzip is refused") {
    const std::string path = "tokenizer_test_merges.tmp";
    const auto pack = [](const std::string& text) {
        z_stream stream{};
        REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        std::string out(text.size() + 200, '\0');
        stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
        stream.avail_in = static_cast<uInt>(text.size());
        stream.next_out = reinterpret_cast<Bytef*>(out.data());
        stream.avail_out = static_cast<uInt>(out.size());
        REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
        out.resize(stream.total_out);
        deflateEnd(&stream);
        return out;
    };
    const auto write = [&](const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; };
    const std::string text = small_merges, packed = pack(text);
    write(packed);
    CHECK(Tokenizer::from_file(path).encode("cat") == Ids{513});
    write(pack(text.substr(0, 20)) + pack(text.substr(20)));
    CHECK(Tokenizer::from_file(path).vocabulary_size() == 521);
    write("#version\r\nc a\r\nca t</w>\r\n");
    CHECK(Tokenizer::from_file(path).encode("cat") == Ids{513});
    write(packed.substr(0, packed.size() / 2));
    CHECK_THROWS_WITH_AS(Tokenizer::from_file(path), doctest::Contains("truncated"), Error);
    std::string damaged = packed;
    damaged[14] = static_cast<char>(damaged[14] ^ 0x55);
    write(damaged);
    CHECK_THROWS_AS(Tokenizer::from_file(path), Error);
    write(pack(std::string(100000, 'a')));
    CHECK_THROWS_WITH_AS(read_text_file(path, 50000), doctest::Contains("50000"), Error);
    std::remove(path.c_str());
}

TEST_CASE("lower case as Python's str.lower") {
    CHECK(clean("İSTANBUL") == "i̇stanbul");
    CHECK(clean("ΟΔΥΣΣΕΥΣ") == "οδυσσευς");
    CHECK(clean("ΑΣ. ΣΑ Σ Α'Σ") == "ας. σα σ α'ς");
    CHECK(clean("GROẞ Ǆ ÀÉ") == "groß dž àé");
}

TEST_CASE("repairs of text") {
    CHECK(clean("“curly” ‘quotes’ ʼ") == "\"curly\" 'quotes' '");
    CHECK(clean("ﬁne ﬂow ﬃ ﬅ") == "fine flow ffi ſt");
    CHECK(clean("ＦＵＬＬ　ｗｉｄｔｈ ｶﾞ") == "full width ガ");
    CHECK(clean("line\r\nbreak\u2028sep\rend\u0085x") == "line break sep end…x");
    CHECK(clean("bell\x07 control\x01"
                "char\x7f\ufeff") == "bell controlchar");
    CHECK(clean("\x1b[1;36mcolour\x1b[0m \x1b[x") == "colour");
    CHECK(clean("e\u0301 a\u0301\u0323") == "é ạ\u0301");
    CHECK(clean("cafÃ© itâ€™s Ð¼Ð¸Ñ€") == "café it's мир");
    CHECK(clean("„Spaß“ CAFÉ™ É”") == "\"spaß\" café™ é\"");  // ordinary text that happens to look like UTF-8 bytes
    CHECK(clean("non\u00a0breaking\u3000space \u2003 end") == "non breaking space end");
}

TEST_CASE("HTML references as Python's html.unescape") {
    CHECK(clean("fish &amp; chips &amp;amp; &amp;amp;lt;") == "fish & chips & <");
    CHECK(clean("&lt;b&gt; caf&eacute; &copy 2024 &notit; &notin;") == "<b> café © 2024 ¬it; ∉");
    CHECK(clean("&#65;&#x42;&#0;&#x80;&#xD800;&#x110000;&#99999999999999999999;") ==
          "ab\xef\xbf\xbd€\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    CHECK(clean("a&#1;b&#xfffe;c &#; &#x; &; & &nosuchentity; &CounterClockwiseContourIntegral;") ==
          "abc &#; &#x; &; & &nosuchentity; ∳");
    CHECK(clean("&NTILDE; &EACUTE;") == "ñ é");
    CHECK(clean("<b> &lt;br&gt; &amp;lt;") == "<b> <br> <");
}

TEST_CASE("hostile text takes time in proportion to its length") {
    const Tokenizer tokenizer = fashion_tokenizer();
    const auto repeat = [](const std::string& part, int n) {
        std::string text;
        for (int i = 0; i < n; ++i) text += part;
        return text;
    };
    CHECK(tokenizer.encode(repeat("the", 100000)).size() > 1000);
    CHECK(tokenizer.encode("&" + repeat("amp;", 100000)).size() > 1000);
    CHECK(tokenizer.encode("a" + repeat("\u0316\u0301", 100000)).size() > 1000);
    CHECK(tokenizer.encode(repeat("Σ'", 100000)).size() > 1000);
}

TEST_CASE("encode may be called from many threads") {
    const Tokenizer tokenizer = fashion_tokenizer();
    const std::string text = "a photo of a T-shirt/top &amp; “trousers”, naïve";
    const Ids expected = tokenizer.encode(text);
    std::vector<Ids> got(4);
    std::vector<std::thread> threads;
    for (Ids& ids : got)
        threads.emplace_back([&] {
            for (int i = 0; i < 200; ++i) ids = tokenizer.encode(text);
        });
    for (std::thread& thread : threads) thread.join();
    for (const Ids& ids : got) CHECK(ids == expected);
}

TEST_CASE("OpenAI's merges") {
    const std::string path = openai_vocabulary();
    if (path.empty()) return;
    const Tokenizer tokenizer = Tokenizer::from_file(path);
    CHECK(tokenizer.vocabulary_size() == 49408);
    CHECK(tokenizer.encode("a photo of a cat.") == Ids{320, 1125, 539, 320, 2368, 269});
    CHECK(tokenizer.tokenize("a photo of a cat.", 9) == Ids{49406, 320, 1125, 539, 320, 2368, 269, 49407, 0});
    CHECK(tokenizer.decode(tokenizer.encode("Supercalifragilistic")) == "supercalifragilistic ");
}

}  // namespace tokenizer_test
