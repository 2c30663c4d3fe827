// SPDX-License-Identifier: Apache-2.0
// Preprocessing as data: Pillow's filters byte for byte, and the pixels of open_clip's and transformers' own pipelines.
#include <doctest/doctest.h>
#include <promptkd/clip/checkpoint/image_input.hpp>
#include <promptkd/clip/checkpoint/preprocessing.hpp>
#include <promptkd/format/file.hpp>
#include <promptkd/format/image.hpp>
#include <promptkd/format/safetensors.hpp>
#include <promptkd/image/augment.hpp>

namespace preprocess_modes_test {

using namespace promptkd;

namespace {

const std::string folder = std::string(PROMPTKD_TEST_DATA) + "/preprocess/";

nlohmann::json json_of(const std::string& name) { return nlohmann::json::parse(read_file(folder + name + ".json")); }

Image photo(int i) { return read_image(folder + "photos/" + std::to_string(i) + ".png"); }

/// Whether this build reads files called so.
bool is_read([[maybe_unused]] const std::string& name) {
#if !defined(PROMPTKD_WITH_WEBP)
    if (name.find(".webp") != std::string::npos) return false;
#endif
#if !defined(PROMPTKD_WITH_TIFF)
    if (name.find(".tif") != std::string::npos) return false;
#endif
    return true;
}

}  // namespace

TEST_CASE("resize: every filter of Pillow, byte for byte") {
    const TensorMap expected = read_safetensors(folder + "resize.safetensors");
    REQUIRE(expected.tensors.size() == 4 * 6 * 3);
    for (const auto& [name, tensor] : expected.tensors) {
        const auto& shown_name = name;  // clang 14 captures no structured binding
        CAPTURE(shown_name);
        const std::size_t dot = name.find('.');
        const Interpolation filter = parse_interpolation(name.substr(dot + 1, name.rfind('.') - dot - 1));
        const Image out = resize(photo(std::stoi(name)), tensor.shape[0], tensor.shape[1], filter);
        CHECK(out.pixels == tensor.to<std::uint8_t>());
    }
    CHECK_THROWS_WITH_AS(parse_interpolation("cubic"), doctest::Contains("known: nearest"), Error);
}

TEST_CASE("preprocessing: the pixels of the owning libraries") {
    for (const char* name :
         {"oc_half", "oc_half_squash_bilinear", "oc_dfn", "oc_imagenet_squash", "oc_zero_one", "oc_longest", "hf_half",
          "hf_square_bilinear", "hf_larger", "hf_old_ints", "hf_crop_pads", "hf_processor_json"}) {
        CAPTURE(name);
        const bool open_clip = std::string(name).rfind("oc_", 0) == 0;
        const Preprocessing p = open_clip ? open_clip_preprocessing(json_of(name), name).at_resolution(28)
                                          : processor_preprocessing(json_of(name), name);
        const HostTensor expected = read_safetensors(folder + name + ".safetensors").at("pixels");
        const std::vector<float> want = expected.to<float>();
        REQUIRE(expected.shape == Shape{4, 3, p.height, p.width});
        const std::size_t values = want.size() / 4;
        for (int i = 0; i < 4; ++i) {
            CAPTURE(i);
            std::vector<float> got(values);
            normalize_image(preprocess_image(photo(i), p), got.data(), p.normalization, p.rescale);
            float worst = 0;
            for (std::size_t k = 0; k < values; ++k)
                worst = std::max(worst, std::abs(got[k] - want[static_cast<std::size_t>(i) * values + k]));
            CHECK(worst < 5e-7f);  // the same bytes; fp32 rounds mean and deviation in another order
        }
    }
}

// Pillow 13's pixels at 25 x 25: open_clip's three modes; `floor` and `squash_crop` are Hugging Face's, resized to 33
// and 32 and cut.
TEST_CASE("preprocessing: every mode with every interpolation, byte for byte") {
    const TensorMap expected = read_safetensors(folder + "modes.safetensors");
    REQUIRE(expected.tensors.size() == 4 * 5 * 4);
    for (const auto& [name, tensor] : expected.tensors) {
        const auto& shown_name = name;  // clang 14 captures no structured binding
        CAPTURE(shown_name);
        const std::size_t dot = name.rfind('.');
        const std::string mode = name.substr(2, dot - 2);
        Preprocessing p = Preprocessing::clip(25);
        p.interpolation = parse_interpolation(name.substr(dot + 1));
        p.fill = 77;
        if (mode == "floor" || mode == "squash_crop") p.rounding = CropRounding::floor;
        if (mode == "floor") p.size = 33;
        if (mode == "squash_crop") p.size = 32;
        p.resize = mode == "floor" ? ResizeMode::shortest : parse_resize_mode(mode.substr(0, mode.find('_')));
        const Image out = preprocess_image(photo(name[0] - '0'), p);
        CHECK(out.pixels == tensor.to<std::uint8_t>());
        for (const float mean : {0.0f, 0.5f, 0.48145466f}) {
            p.normalization = {{mean, 0.4f, 0.3f}, {0.5f, 1.0f, 0.26862954f}};
            std::vector<float> values(3 * 25 * 25);
            normalize_image(out, values.data(), p);
            CHECK(values[7] == doctest::Approx((out.pixels[21] / 255.0 - mean) / 0.5));
            CHECK(values[2 * 625 + 3] == doctest::Approx((out.pixels[11] / 255.0 - 0.3) / 0.26862954));
        }
        p.rescale = 1;
        std::vector<float> raw(3 * 25 * 25);
        p.normalization = {{0, 0, 0}, {1, 1, 1}};
        normalize_image(out, raw.data(), p);
        CHECK(raw[4] == static_cast<float>(out.pixels[12]));
    }
}

// Pillow 13's pixels at 9 x 9 of every kind of image: resized and then converted, as open_clip does; and converted by
// transformers 5 and then resized.
TEST_CASE("preprocessing: colours converted after the resize, or over white, byte for byte") {
    const TensorMap expected = read_safetensors(folder + "colours.safetensors");
    for (const auto& [name, tensor] : expected.tensors) {
        const auto& shown_name = name;  // clang 14 captures no structured binding
        CAPTURE(shown_name);
        if (!is_read(name)) continue;
        const std::string order = name.substr(0, name.find('.'));
        const std::string rest = name.substr(order.size() + 1);
        const std::string filter = order == "crop" ? "bicubic" : rest.substr(0, rest.find('.'));
        const std::string path = order == "crop" ? rest : rest.substr(filter.size() + 1);
        Preprocessing p = Preprocessing::clip(9);
        p.interpolation = parse_interpolation(filter);
        p.colours = parse_colour_conversion(order == "crop" ? "last" : order);
        const Image image = read_image((path[0] == 'c' ? folder : std::string(PROMPTKD_TEST_DATA) + "/") + path);
        const Image out = order == "crop" ? resized_crop(image, CropBox{2, 3, 15, 21}, p) : preprocess_image(image, p);
        CHECK(out.pixels == tensor.to<std::uint8_t>());
        CHECK(out.alpha.empty());
    }
    CHECK_THROWS_WITH_AS(parse_colour_conversion("white"), doctest::Contains("known: first, over_white, last"), Error);
}

TEST_CASE("preprocessing: written as metadata and read back") {
    Preprocessing p = processor_preprocessing(json_of("hf_larger"), "F");
    p.fill = 9;
    TensorMap map;
    map.source = "model";
    set_preprocessing(map, p);
    REQUIRE(map.metadata.count(preprocessing_key) == 1);
    CHECK(preprocessing_of(map, p.height) == p);
    CHECK_THROWS_WITH_AS(preprocessing_of(map, p.height + 4), doctest::Contains("but the image encoder takes"), Error);
    set_preprocessing(map, Preprocessing::clip(24));
    CHECK(map.metadata.empty());
    CHECK(preprocessing_of(map, 24) == Preprocessing::clip(24));
    map.metadata[preprocessing_key] = R"({"resize": "wide"})";
    CHECK_THROWS_WITH_AS(preprocessing_of(map, 24), doctest::Contains("unknown resize mode 'wide'"), Error);
    map.metadata[preprocessing_key] = "{";
    CHECK_THROWS_WITH_AS(preprocessing_of(map, 24), doctest::Contains("is not JSON"), Error);
}

TEST_CASE("preprocessing: an image that no crop may make fit is refused") {
    Preprocessing p = Preprocessing::clip(20);
    p.crop = false;
    CHECK_THROWS_WITH_AS(preprocess_image(photo(0), p), doctest::Contains("without a crop"), Error);
    p.resize = ResizeMode::none;
    p.crop = true;
    const Image image = photo(0);
    const Image middle = preprocess_image(image, p);
    const Index top = detail::half_to_even(image.height - 20), left = detail::half_to_even(image.width - 20);
    CHECK(middle.pixels == crop(image, top, left, 20, 20).pixels);
}

TEST_CASE("preprocessing: options decide otherwise") {
    const Preprocessing file = processor_preprocessing(json_of("hf_larger"), "F");
    ImageInputOptions o;
    CHECK(detail::overridden(file, o) == file);
    o.mean = {0.5};
    o.std = {0.1, 0.2, 0.3};
    o.interpolation = "nearest";
    o.resolution = 48;
    const Preprocessing p = detail::overridden(file, o);
    CHECK(p.normalization.mean == std::array<float, 3>{0.5f, 0.5f, 0.5f});
    CHECK(p.normalization.deviation[1] == 0.2f);
    CHECK(p.interpolation == Interpolation::nearest);
    CHECK(p.height == 48);
    CHECK(p.size == 70);  // 35 for 24
    o.resize_mode = "squash";
    CHECK(detail::overridden(file, o).size == 0);
    o.mean = {0.5, 0.5};
    CHECK_THROWS_WITH_AS(detail::overridden(file, o), doctest::Contains("expected three"), Error);
    o.mean.clear();
    o.std = {0};
    CHECK_THROWS_WITH_AS(detail::overridden(file, o), doctest::Contains("standard deviation"), Error);
}

TEST_CASE("preprocessing: what is not followed is refused by name") {
    const auto open_clip = [](const char* json) { open_clip_preprocessing(nlohmann::json::parse(json), "F"); };
    const auto processor = [](const char* json) { processor_preprocessing(nlohmann::json::parse(json), "F"); };
    CHECK_THROWS_WITH_AS(open_clip(R"({"resize_mode": "stretch"})"), doctest::Contains("'resize_mode'"), Error);
    CHECK_THROWS_WITH_AS(open_clip(R"({"interpolation": "area"})"), doctest::Contains("'interpolation'"), Error);
    CHECK_THROWS_WITH_AS(open_clip(R"({"mean": [0.5, 0.5]})"), doctest::Contains("three numbers"), Error);
    CHECK_THROWS_WITH_AS(open_clip(R"({"std": [0.5, 0, 0.5]})"), doctest::Contains("positive"), Error);
    CHECK_THROWS_WITH_AS(open_clip(R"({"fill_color": 300})"), doctest::Contains("'fill_color'"), Error);
    CHECK_THROWS_WITH_AS(open_clip(R"({"sharpen": 2})"), doctest::Contains("'sharpen'"), Error);
    CHECK_THROWS_WITH_AS(open_clip("[]"), doctest::Contains("not a JSON object"), Error);
    CHECK_THROWS_WITH_AS(processor(R"({"size": {"longest_edge": 9}})"), doctest::Contains("'size'"), Error);
    CHECK_THROWS_WITH_AS(processor(R"({"resample": 9})"), doctest::Contains("'resample'"), Error);
    CHECK_THROWS_WITH_AS(processor(R"({"do_pad": true})"), doctest::Contains("'do_pad'"), Error);
    CHECK_THROWS_WITH_AS(processor(R"({"image_processor_type": "ConvNextImageProcessor"})"),
                         doctest::Contains("'image_processor_type'"), Error);
    CHECK_NOTHROW(processor(R"({"do_pad": false, "do_flip": null, "image_processor_type": "CLIPImageProcessorFast"})"));
    CHECK(processor_preprocessing(nlohmann::json::parse(R"({"image_processor_type": "SiglipImageProcessor"})"), "F")
              .normalization.mean[0] == 0.5f);
}

TEST_CASE("preprocessing: CLIP's is the default of both") {
    const Preprocessing a = open_clip_preprocessing(nlohmann::json::object(), "F").at_resolution(224);
    const Preprocessing b = processor_preprocessing(nlohmann::json::object(), "F");
    const Image image = photo(3);
    CHECK(preprocess_image(image, a).pixels == preprocess_image(image, 224).pixels);
    CHECK(b.height == 224);
    CHECK(b.rounding == CropRounding::floor);
}

}  // namespace preprocess_modes_test
