// SPDX-License-Identifier: Apache-2.0
#include "support/image_tree.hpp"

#include <promptkd/data/class_names_file.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/experiment/models.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

namespace class_texts_test {

using namespace promptkd;
using promptkd::test::ImageTree;

namespace {

const std::string assets = PROMPTKD_ASSETS;

/// The demonstration's student with its tokenizer.
struct Model {
    Cpu<float> device{1};
    TensorMap weights =
        load_weights({assets + "/fashion_clip_student.safetensors", "", "quick_gelu"}, silent_observer());
    ClipModel<Cpu<float>> clip{device, weights};
    Tokenizer tokenizer = load_tokenizer(assets + "/fashion_bpe.txt.gz");

    std::vector<float> vectors(const ClassTexts& texts) {
        return text_features(device, clip, tokenizer, texts, nullptr);
    }
    Index embed() const { return clip.text().embed(); }
};

TEST_CASE("class vectors of an ensemble: normalised, averaged, normalised") {
    Model model;
    const std::vector<std::string> names{"Bag", "ankle_boot", "Dress"};
    const std::string a = "a photo of a {}.", b = "a drawing of a {}.";
    const std::vector<float> of_a = model.vectors({names, a, ""}), of_b = model.vectors({names, b, ""});
    ClassTexts both{names, a, ""};
    both.options.templates = {a, b};
    const std::vector<float> found = model.vectors(both);
    REQUIRE(found.size() == of_a.size());
    for (std::size_t c = 0; c < names.size(); ++c) {
        const std::size_t first = c * static_cast<std::size_t>(model.embed());
        double square = 0;
        std::vector<double> sum;
        for (std::size_t j = first; j < first + static_cast<std::size_t>(model.embed()); ++j) {
            sum.push_back(static_cast<double>(of_a[j]) + of_b[j]);
            square += sum.back() * sum.back();
        }
        for (std::size_t j = 0; j < sum.size(); ++j)
            CHECK(found[first + j] == doctest::Approx(sum[j] / std::sqrt(square)).epsilon(1e-5));
    }
    both.options.templates = {a};  // of one text the same as without an ensemble
    const std::vector<float> one = model.vectors(both);
    for (std::size_t j = 0; j < one.size(); ++j) CHECK(one[j] == doctest::Approx(of_a[j]).epsilon(1e-5));
}

TEST_CASE("sentences about classes in place of prompts, or beside them") {
    const ImageTree folder;
    folder.write("d.json",
                 "{\"bag\": [\"a bag has handles.\", \"a bag holds things.\"], \"Ankle-Boot\": \"a boot.\", "
                 "\"more\": [\"x\"]}");
    ClassTexts texts{{"Bag", "ankle_boot"}, "a photo of a {}.", ""};
    texts.options.descriptions = folder / "d.json";
    CHECK(texts_of_classes(texts) ==
          std::vector<std::vector<std::string>>{{"a bag has handles.", "a bag holds things."}, {"a boot."}});
    texts.options.templates = {"a {}."};
    CHECK(texts_of_classes(texts)[1] == std::vector<std::string>{"a ankle boot.", "a boot."});
    Model model;
    CHECK(model.vectors(texts).size() == static_cast<std::size_t>(2 * model.embed()));
    CHECK_THROWS_WITH_AS(read_descriptions(folder / "d.json", {"bag", "cat", "dog"}),
                         doctest::Contains("has no sentence for 2 of 3 classes: 'cat', 'dog'"), Error);
    folder.write("d.json", "{\"bag\": [7]}");
    CHECK_THROWS_WITH_AS(read_descriptions(folder / "d.json", {"bag"}), doctest::Contains("no sentence"), Error);
    folder.write("d.json", "[1]");
    CHECK_THROWS_WITH_AS(read_descriptions(folder / "d.json", {"bag"}), doctest::Contains("expected an object"), Error);
    CHECK_THROWS_WITH_AS(model.vectors({{"bag"}, "a photo", ""}), doctest::Contains("has no '{}'"), Error);
}

TEST_CASE("OpenAI's names of ImageNet's classes") {
    const ClassNames names = read_class_names_file("imagenet");
    REQUIRE(names.size() == 1000);
    CHECK(names.names[0] == "tench");
    CHECK(names.ids[0] == "n01440764");
    CHECK(names.names[999] == "toilet paper");
    CHECK(names.ids[999] == "n15075141");
    CHECK(names_of_one_text(names.names) == std::vector<std::string>{"missile", "sunglasses"});
}

}  // namespace

}  // namespace class_texts_test
