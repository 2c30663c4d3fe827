// SPDX-License-Identifier: Apache-2.0
// Converting towers of other kinds than CLIP's: what another library's configuration can say survives, the rest is
// named. Models of tests/fixtures/encoders.
#include "support/temporary_folder.hpp"

#include <promptkd/clip/checkpoint/convert.hpp>

#include <doctest/doctest.h>

namespace target_policies_test {

using namespace promptkd;
using promptkd::test::TemporaryFolder;

namespace {

TensorMap read_case(const std::string& name) {
    return read_weights(std::string(PROMPTKD_TEST_DATA) + "/encoders/" + name);
}

/// Entries that say what the towers of a model are.
std::map<std::string, std::string> description(const TensorMap& map) {
    std::map<std::string, std::string> all;
    for (const std::string key : tower_entries)
        if (map.metadata.count(key) != 0) all[key] = map.metadata.at(key);
    for (const char* key : {"gelu", "eot", "vision_heads", "text_heads"}) all[key] = map.metadata.at(key);
    if (all["vision_gelu"] == all["gelu"]) all.erase("vision_gelu");
    if (all.count("vision_pool_heads") != 0 && all["vision_pool_heads"] == all["vision_heads"])
        all.erase("vision_pool_heads");
    return all;
}

void check_kept(const std::string& name, WeightsTarget target, const std::string& path) {
    CAPTURE(name);
    const TensorMap before = read_case(name);
    convert_weights(before, target, path);
    const TensorMap after = read_weights(path);
    CHECK(description(after) == description(before));
    CHECK(after.tensors.size() == before.tensors.size());
    for (const auto& named : before.tensors) {
        CAPTURE(named.first);
        REQUIRE(after.contains(named.first));
        CHECK(after.at(named.first).to<float>() == named.second.to<float>());
    }
    CHECK(preprocessing_of(after, vision_config(after).resolution()).normalization.mean ==
          preprocessing_of(before, vision_config(before).resolution()).normalization.mean);
}

}  // namespace

TEST_CASE("conversion keeps what open_clip's configuration can say") {
    const TemporaryFolder made;
    for (const std::string name :
         {"oc_odd", "oc_layerscale", "oc_avg", "oc_clipa", "oc_tanh_eps", "oc_text_alone", "metaclip2_hf"})
        check_kept(name, WeightsTarget::open_clip, made / (name + ".safetensors"));
}

TEST_CASE("conversion keeps what transformers' SigLIP can say") {
    const TemporaryFolder made;
    for (const std::string name : {"siglip_oc", "siglip2_hf"})
        check_kept(name, WeightsTarget::huggingface, made / name);
}

TEST_CASE("conversion names what a layout has no place for") {
    const TemporaryFolder made;
    struct Lost {
        const char* name;
        WeightsTarget target;
        const char* what;
    };
    for (const Lost& lost : {Lost{"eva02_oc", WeightsTarget::open_clip, "vision_rotation"},
                             Lost{"pe_oc", WeightsTarget::huggingface, "vision_pool attention"},
                             Lost{"oc_clipa", WeightsTarget::huggingface, "vision_without first_norm"},
                             Lost{"oc_layerscale", WeightsTarget::huggingface, "ls_1.gamma"},
                             Lost{"oc_coca", WeightsTarget::open_clip, "cls_emb"},
                             Lost{"siglip2_hf", WeightsTarget::open_clip, "this would be lost"},
                             Lost{"oc_avg", WeightsTarget::checkpoint, "another kind than CLIP"}}) {
        CAPTURE(lost.name);
        CHECK_THROWS_WITH_AS(convert_weights(read_case(lost.name), lost.target, made / "x"),
                             doctest::Contains(lost.what), Error);
    }
}

TEST_CASE("open_clip's mlp_ratio gives back the width of the MLP") {
    for (Index width = 3; width < 200; width += 7)
        for (Index hidden = width; hidden < 5 * width; hidden += 11)
            CHECK(static_cast<Index>(static_cast<double>(width) * detail::mlp_ratio(hidden, width)) == hidden);
}

}  // namespace target_policies_test
