// SPDX-License-Identifier: Apache-2.0
// Small models of every family, with what the libraries that own them compute from them (tests/fixtures/encoders).
#include "support/devices.hpp"

#include <promptkd/clip/checkpoint/inventory.hpp>
#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/clip/image_tower.hpp>

#include <doctest/doctest.h>

#include <filesystem>

namespace encoders_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

const char* const cases[] = {"oc_odd",  "oc_layerscale", "oc_avg",      "oc_clipa",        "oc_tanh_eps",
                             "oc_coca", "timm_clip",     "timm_avg",    "timm_avg_linear", "mobileclip_b",
                             "pe_oc",   "pe_nocls",      "siglip2_hf",  "siglip_oc",       "eva02_oc",
                             "eva02_e", "eva01_g",       "tinyclip_pt", "metaclip2_hf"};

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

TEST_CASE("encoders: a pooling that the description does not use is no model to compute with") {
    for (const char* name : {"oc_coca", "pe_oc"}) {
        TensorMap map = read_case(name);
        map.metadata.erase("vision_pool");
        CHECK_THROWS_WITH_AS(vision_config(map), doctest::Contains("a pooling by attention, but nothing says"), Error);
    }
}

}  // namespace encoders_test
