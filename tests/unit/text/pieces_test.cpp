// SPDX-License-Identifier: Apache-2.0
// The tokenizers of SigLIP and SigLIP 2: ids of small models as the libraries that own them compute them
// (tests/fixtures/tokenizers: transformers' SiglipTokenizer and Siglip2Tokenizer, open_clip's canonicalize).
#include "support/image_tree.hpp"

#include <promptkd/text/tokenizer_files.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace pieces_test {

using namespace promptkd;
using promptkd::test::ImageTree;

namespace {

std::string fixture(const std::string& name) { return std::string(PROMPTKD_TEST_DATA) + "/tokenizers/" + name; }

#if defined(PROMPTKD_WITH_SENTENCEPIECE)

TEST_CASE("pieces: ids, end and padding are those of the libraries") {
    const nlohmann::json expected = nlohmann::json::parse(read_text_file(fixture("expected.json")));
    struct Case {
        const char *rows, *model;
        PieceCleaning cleaning;
    };
    for (const Case& c : {Case{"siglip", "siglip.model", PieceCleaning::huggingface},
                          Case{"siglip_open_clip", "siglip.model", PieceCleaning::open_clip},
                          Case{"gemma", "gemma.model", PieceCleaning::huggingface}}) {
        const Tokenizer tokenizer = read_tokenizer(fixture(c.model), c.cleaning);
        CHECK_FALSE(tokenizer.has_start());
        for (std::size_t i = 0; i < expected["texts"].size(); ++i) {
            const std::string text = expected["texts"][i];
            CAPTURE(text);
            CHECK(tokenizer.tokenize(text, 20, true) == expected[c.rows][i].get<std::vector<std::int32_t>>());
        }
    }
}

TEST_CASE("pieces: a vocabulary fits embeddings of its size, or a little more") {
    const Tokenizer tokenizer = read_tokenizer(fixture("gemma.model"));
    const Index size = tokenizer.vocabulary_size();
    tokenizer.require_fits(size, "m");
    tokenizer.require_fits(size + 12, "m");
    for (const Index rows : {size - 1, size + 1000})
        CHECK_THROWS_WITH_AS(tokenizer.require_fits(rows, "m"), doctest::Contains("token embedding of m has"), Error);
    CHECK(tokenizer.decode(tokenizer.encode("a photo of a cat")) == "a photo of a cat");
    CHECK_THROWS_WITH_AS(tokenizer.tokenize("a photo of a cat", 4), doctest::Contains("tokens with EOT, but"), Error);
}

TEST_CASE("pieces: a damaged model is refused") {
    const ImageTree folder;
    const std::string whole = read_file(fixture("siglip.model"), 1 << 20);
    for (const std::size_t size : {std::size_t{40}, whole.size() / 2}) {
        folder.write("spiece.model", whole.substr(0, size));
        CHECK_THROWS_WITH_AS(read_tokenizer(folder / "spiece.model"),
                             doctest::Contains("damaged, or not a SentencePiece model"), Error);
    }
}

TEST_CASE("pieces: found beside the weights, with the cleaning of the library whose files lie there") {
    const ImageTree folder;
    folder.write("spiece.model", read_file(fixture("siglip.model"), 1 << 20));
    folder.write("tokenizer.json", "{\"model\": {\"type\": \"Unigram\"}}");
    folder.write("config.json", "{\"model_type\": \"siglip\"}");
    const std::string text = "under_score";
    const auto ids = [&] { return read_model_tokenizer("", folder.path()).encode(text); };
    CHECK(tokenizer_file("", folder.path()) == folder / "spiece.model");
    CHECK(ids() == read_tokenizer(fixture("siglip.model")).encode("underscore"));
    folder.write("open_clip_config.json",
                 "{\"model_cfg\": {\"text_cfg\": {\"hf_tokenizer_name\": "
                 "\"timm/ViT-B-16-SigLIP\", \"tokenizer_kwargs\": {\"clean\": "
                 "\"canonicalize\"}}}}");
    CHECK(ids() == read_tokenizer(fixture("siglip.model")).encode("under score"));
}

#else

TEST_CASE("pieces: a build without SentencePiece says so") {
    CHECK_THROWS_WITH_AS(read_tokenizer(fixture("siglip.model")), doctest::Contains("without SentencePiece"), Error);
}

#endif

TEST_CASE("pieces: a model of SigLIP's without its tokenizer says what is needed") {
    const ImageTree folder;
    folder.write("config.json", "{\"model_type\": \"siglip\"}");
    folder.write("merges.txt", "#version: 0.2\na b");
    CHECK_THROWS_WITH_AS(tokenizer_file("", folder.path()), doctest::Contains("need its SentencePiece model"), Error);
    folder.write("tokenizer_config.json", "{\"tokenizer_class\": \"Siglip2Tokenizer\"}");
    CHECK_THROWS_WITH_AS(tokenizer_file("", folder.path(), folder / "merges.txt"),
                         doctest::Contains("class vectors in a file need none"), Error);
    CHECK(tokenizer_file(fixture("gemma.model"), folder.path()) == fixture("gemma.model"));
    folder.write("config.json", "{\"model_type\": \"metaclip_2\"}");  // whose ids are not those of its pieces
    CHECK_THROWS_WITH_AS(tokenizer_file(fixture("gemma.model"), folder.path()),
                         doctest::Contains("'XLM-V', which is not read"), Error);
}

}  // namespace

}  // namespace pieces_test
