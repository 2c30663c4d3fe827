// SPDX-License-Identifier: Apache-2.0
#include "support/image_tree.hpp"

#include <promptkd/text/template_sets.hpp>
#include <promptkd/text/tokenizer_files.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tokenizer_files_test {

using namespace promptkd;
using Ids = std::vector<std::int32_t>;
using promptkd::test::ImageTree;

namespace {

const std::vector<std::pair<std::string, std::string>> merges{{"c", "a"},      {"ca", "t</w>"}, {"t", "h"},
                                                              {"th", "e</w>"}, {"a", "b"},      {"ab", "c</w>"}};

/// Hugging Face's form of these merges; `pairs`: as lists, as newer files have them.
nlohmann::json tokenizer_json(bool pairs) {
    nlohmann::json json = {{"model", {{"type", "BPE"}, {"end_of_word_suffix", "</w>"}}}};
    std::int64_t id = 512;
    for (const auto& [left, right] : merges) {
        json["model"]["merges"].push_back(pairs ? nlohmann::json{left, right} : nlohmann::json(left + " " + right));
        json["model"]["vocab"][left + right] = id++;
    }
    json["model"]["vocab"]["<|startoftext|>"] = id++;
    json["model"]["vocab"]["<|endoftext|>"] = id++;
    return json;
}

std::string merges_file() {
    std::string text = "#version: 0.2";
    for (const auto& [left, right] : merges) text += "\n" + left + " " + right;
    return text;
}

TEST_CASE("a tokenizer.json gives the ids of its merges file") {
    const ImageTree folder;
    folder.write("merges.txt", merges_file());
    const Tokenizer expected = read_tokenizer(folder / "merges.txt");
    for (const bool pairs : {false, true}) {
        folder.write("tokenizer.json", tokenizer_json(pairs).dump());
        const Tokenizer read = read_tokenizer(folder / "tokenizer.json");
        CHECK(read.vocabulary_size() == expected.vocabulary_size());
        for (const char* text : {"the cat", "abc cab the!", "THE  Cat"})
            CHECK(read.encode(text) == expected.encode(text));
    }
    nlohmann::json empty = tokenizer_json(true);  // the published merges end in an empty line, which is an entry
    empty["model"]["vocab"][""] = 518;
    folder.write("tokenizer.json", empty.dump());
    CHECK(read_tokenizer(folder / "tokenizer.json").vocabulary_size() == expected.vocabulary_size() + 1);
}

TEST_CASE("a folder's tokenizer is found, another model's refused") {
    const ImageTree folder;
    CHECK_THROWS_WITH_AS(read_tokenizer(folder.path()), doctest::Contains("has no tokenizer"), Error);
    folder.write("tokenizer.json", "{\"tokens\": [1, 2]}");  // something else of that name
    CHECK(find_tokenizer(folder.path()).empty());
    folder.write("tokenizer.json", tokenizer_json(false).dump());
    folder.write("model.safetensors", "");
    CHECK(read_tokenizer(folder.path()).encode("cat") == Ids{513});
    CHECK(tokenizer_file("", folder.path()) == folder / "tokenizer.json");
    CHECK(tokenizer_file("", folder / "model.safetensors") == folder / "tokenizer.json");
    CHECK(tokenizer_file("given.txt", folder.path()) == "given.txt");
    CHECK(tokenizer_file("", "/absent/model.pt").empty());
    folder.write("tokenizer_config.json", "{\"tokenizer_class\": \"CLIPTokenizerFast\"}");
    CHECK_FALSE(tokenizer_file("", folder.path()).empty());
    folder.write("tokenizer_config.json", "{\"tokenizer_class\": \"BertTokenizer\"}");
    for (const std::string given : {"", "given.txt"})
        CHECK_THROWS_WITH_AS(tokenizer_file(given, folder.path()), doctest::Contains("is a 'BertTokenizer'"), Error);
    folder.write("tokenizer_config.json", "{}");
    folder.write("open_clip_config.json",
                 "{\"model_cfg\": {\"text_cfg\": {\"hf_tokenizer_name\": \"bert-base-uncased\"}}}");
    CHECK_THROWS_WITH_AS(tokenizer_file("", folder.path()), doctest::Contains("'bert-base-uncased'"), Error);
    folder.write("open_clip_config.json", "{\"model_cfg\": {\"text_cfg\": {\"context_length\": 77}}}");
    CHECK_FALSE(tokenizer_file("", folder.path()).empty());
    folder.write("model.json",
                 "{\"text_cfg\": {\"hf_tokenizer_name\": \"x\", \"tokenizer_kwargs\": {\"clean\": \"y\"}}}");
    CHECK_THROWS_WITH_AS(tokenizer_file("", folder / "model.safetensors"), doctest::Contains("tokenizer is 'x'"),
                         Error);
    folder.write("model.json", "{\"text_cfg\": {\"tokenizer_kwargs\": {\"clean\": \"canonicalize\"}}}");
    CHECK_THROWS_WITH_AS(tokenizer_file("", folder / "model.safetensors"), doctest::Contains("canonicalize"), Error);
}

TEST_CASE("tokenizer.json of other kinds, and damaged ones") {
    const ImageTree folder;
    const auto refused = [&](const nlohmann::json& json, const char* why) {
        folder.write("t.json", json.dump());
        CHECK_THROWS_WITH_AS(read_tokenizer(folder / "t.json"), doctest::Contains(why), Error);
    };
    nlohmann::json json = tokenizer_json(false);
    json["model"]["type"] = "Unigram";
    refused(json, "a tokenizer of the kind 'Unigram'");
    json = tokenizer_json(false);
    json["model"]["end_of_word_suffix"] = "";
    refused(json, "do not end in '</w>'");
    json = tokenizer_json(false);
    json["model"]["vocab"]["cat</w>"] = 3;
    refused(json, "'cat</w>' has not the id 513");
    json = tokenizer_json(false);
    json["model"]["merges"][0] = 7;
    refused(json, "a merge is neither");
    json["model"]["merges"][0] = "ca";
    refused(json, "is not two words");
    refused(nlohmann::json::array(), "not a JSON object");
    refused(nlohmann::json::object(), "has no \"model\"");
}

TEST_CASE("long texts are cut where that is asked for, the end token staying last") {
    Tokenizer tokenizer = Tokenizer::from_merges(merges_file(), "small");
    CHECK_THROWS_WITH_AS(tokenizer.tokenize("cat cat cat cat", 4), doctest::Contains("has 6 tokens"), Error);
    const Ids cut = tokenizer.tokenize("cat cat cat cat", 4, true);
    tokenizer.cut_long_texts();
    CHECK(tokenizer.tokenize("cat cat cat cat", 4) == cut);
    CHECK(cut == Ids{tokenizer.sot(), 513, 513, tokenizer.eot()});
}

TEST_CASE("published sets of templates, by name") {
    REQUIRE(find_template_set("imagenet") != nullptr);
    CHECK(find_template_set("imagenet")->templates.size() == 80);
    CHECK(find_template_set("ImageNet-A")->templates.size() == 80);
    CHECK(find_template_set("imagenet-select")->templates.size() == 7);
    CHECK(find_template_set("ucf101")->templates.size() == 48);
    CHECK(find_template_set("oxford-pets")->templates == std::vector<std::string>{"a photo of a {}, a type of pet."});
    CHECK(find_template_set("mine") == nullptr);
    for (const TemplateSet& set : template_sets())
        for (const std::string& text : set.templates) CHECK(text.find("{}") != std::string::npos);
}

}  // namespace

}  // namespace tokenizer_files_test
