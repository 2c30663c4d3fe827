// SPDX-License-Identifier: Apache-2.0
// Small models of every family, with what the libraries that own them compute from them (tests/fixtures/encoders).
#include "support/devices.hpp"
#include "support/temporary_folder.hpp"

#include <promptkd/clip/checkpoint/inventory.hpp>
#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/clip/image_tower.hpp>

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include <filesystem>

namespace encoders_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

const char* const cases[] = {"oc_odd",        "oc_layerscale", "oc_avg",           "oc_clipa",        "oc_tanh_eps",
                             "oc_coca",       "timm_clip",     "timm_avg",         "timm_avg_linear", "mobileclip_b",
                             "pe_oc",         "pe_nocls",      "siglip2_hf",       "siglip_oc",       "eva02_oc",
                             "eva02_e",       "eva01_g",       "tinyclip_pt",      "metaclip2_hf",    "oc_resnet",
                             "oc_text_alone", "siglip_gap",    "siglip_vision_hf", "clip_vision_hf"};

std::string folder() { return std::string(PROMPTKD_TEST_DATA) + "/encoders/"; }

TensorMap read_case(const std::string& name, WeightsOptions options = {}) {
    const std::string file = folder() + name + ".pt";
    return read_weights(std::filesystem::exists(file) ? file : folder() + name, options);
}

/// max |ours − expected| / max |expected|.
template <class T>
double relative_error(const std::vector<T>& ours, const HostTensor& expected) {
    const std::vector<double> want = expected.to<double>();
    REQUIRE(ours.size() == want.size());
    double error = 0, largest = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
        error = std::max(error, std::abs(static_cast<double>(ours[i]) - want[i]));
        largest = std::max(largest, std::abs(want[i]));
    }
    return error / largest;
}

template <class D>
std::vector<typename D::Scalar> encode_images(D& device, const ClipModel<D>& model, const HostTensor& images) {
    using T = typename D::Scalar;
    FrozenImageTower<D> tower(device, model, nullptr, images.shape[0]);
    const std::vector<T> pixels = images.to<T>();
    Buffer<D, T> given(device, pixels);
    const T* features = tower.encode_raw(given.data(), images.shape[0]);
    std::vector<T> host(static_cast<std::size_t>(images.shape[0] * tower.embed()));
    device.download(host.data(), features, host.size() * sizeof(T));
    return host;
}

}  // namespace

TEST_CASE_TEMPLATE("encoders: features are those of the libraries that own the models", D, Cpu<float>, Cpu<double>) {
    for (const char* name : cases) {
        CAPTURE(name);
        const TensorMap expected = read_safetensors(folder() + name + ".expected.safetensors");
        D device = make_device<D>();
        const ClipModel<D> model(device, read_case(name), WeightStorage::packed);
        CHECK(relative_error(encode_images(device, model, expected.at("images")), expected.at("image_features")) <
              2e-5);
        CHECK(model.has_text() == expected.contains("tokens"));
        if (!model.has_text()) continue;
        const HostTensor& ids = expected.at("tokens");
        const TokenRows rows{ids.to<std::int32_t>(), ids.shape[0], ids.shape[1]};
        CHECK(relative_error(encode_texts(device, model, rows), expected.at("text_features")) < 2e-5);
    }
}

TEST_CASE("encoders: nothing of a file but CoCa's decoder is left over, and nothing is missing") {
    for (const char* name : cases) {
        CAPTURE(name);
        const Inventory inventory = clip_inventory(read_case(name));
        CHECK(inventory.missing.empty());
        for (const std::string& unknown : inventory.unknown) CHECK(unknown.rfind("text_decoder.", 0) == 0);
    }
}

TEST_CASE("encoders: every size that a configuration says is compared with the weights, and its field named") {
    struct Wrong {
        const char *name, *file, *field;
        nlohmann::json value;
        const char* complaint;
    };
    const Wrong all[] = {
        {"oc_odd", "open_clip_config.json", "/model_cfg/vision_cfg/width", 40, "vision_cfg: 'width' is 40"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/vision_cfg/layers", 3, "vision_cfg: 'layers' is 3"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/vision_cfg/patch_size", 4, "'patch_size' is 4"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/vision_cfg/mlp_ratio", 4, "'mlp_ratio' 4 makes an MLP of 168"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/vision_cfg/ls_init_value", 0.1, "'ls_init_value' says"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/text_cfg/width", 60, "text_cfg: 'width' is 60"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/text_cfg/mlp_ratio", 2, "text_cfg: 'mlp_ratio' 2"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/text_cfg/context_length", 77, "'context_length' is 77"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/text_cfg/vocab_size", 91, "'vocab_size' is 91"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/text_cfg/embed_cls", true, "'embed_cls' is true"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/text_cfg/proj_type", "none", "a text tower without"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/vision_cfg/no_ln_pre", true, "an image tower without"},
        {"oc_odd", "open_clip_config.json", "/model_cfg/embed_dim", 35, "'embed_dim' is 35"},
        {"siglip2_hf", "config.json", "/vision_config/intermediate_size", 112, "'intermediate_size' is 112"},
        {"siglip2_hf", "config.json", "/vision_config/patch_size", 10, "'patch_size' is 10"},
        {"siglip2_hf", "config.json", "/text_config/max_position_embeddings", 64, "'max_position_embeddings' is 64"},
        {"siglip2_hf", "config.json", "/text_config/num_hidden_layers", 1, "'num_hidden_layers' is 1"},
        {"siglip2_hf", "config.json", "/text_config/projection_size", 28, "'projection_size' is 28"},
        {"siglip2_hf", "config.json", "/vision_config/num_attention_heads", 5, "cannot be divided into 5"},
        {"pe_nocls", "pe_nocls.json", "/vision_cfg/output_dim", 32, "'output_dim' is 32"},
        {"pe_nocls", "pe_nocls.json", "/vision_cfg/mlp_ratio", 4.0, "'mlp_ratio' 4 makes an MLP of 128"},
        {"pe_nocls", "pe_nocls.json", "/text_cfg/context_length", 12, "'context_length' is 12"},
        {"pe_nocls", "pe_nocls.json", "/vision_cfg/attn_pooler_heads", 5, "cannot be divided into 5 heads"},
        {"timm_clip", "open_clip_config.json", "/model_cfg/vision_cfg/timm_model_kwargs/depth", 3, "'depth' is 3"},
        {"mobileclip_b", "open_clip_config.json", "/model_cfg/vision_cfg/timm_model_kwargs/mlp_ratio", 4, "MLP of 160"},
    };
    const TemporaryFolder made;
    for (const Wrong& wrong : all) {
        CAPTURE(wrong.field);
        const bool pt = std::string(wrong.name) == "pe_nocls";
        const std::string source = folder() + (pt ? "" : std::string(wrong.name) + "/") + wrong.file;
        nlohmann::json json = nlohmann::json::parse(read_file(source, 1 << 20));
        json[nlohmann::json::json_pointer(wrong.field)] = wrong.value;
        WeightsOptions options;
        options.config = made / "wrong.json";
        write_atomically(options.config, json.dump());
        const auto read_all = [&] {
            const TensorMap map = read_case(wrong.name, options);
            vision_config(map);
            text_config(map);
        };
        CHECK_THROWS_WITH_AS(read_all(), doctest::Contains(wrong.complaint), Error);
    }
}

TEST_CASE("encoders: a pooling that the description does not use is no model to compute with") {
    for (const char* name : {"oc_coca", "pe_oc"}) {
        TensorMap map = read_case(name);
        map.metadata.erase("vision_pool");
        CHECK_THROWS_WITH_AS(vision_config(map), doctest::Contains("a pooling by attention, but nothing says"), Error);
    }
}

}  // namespace encoders_test
