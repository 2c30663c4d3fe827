// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <promptkd/clip/checkpoint/model_config.hpp>
#include <promptkd/clip/checkpoint/weights_folder.hpp>

using namespace promptkd;

std::vector<std::string> promptkd::fuzz::seeds() {
    const std::string formats = std::string(PROMPTKD_TEST_DATA) + "/formats/";
    return {
        read_file(formats + "hf_gelu/config.json"), read_file(formats + "open_clip_gelu.json"),
        R"({"model_cfg":{"embed_dim":8,"vision_cfg":{"width":80,"head_width":20,"layers":[3,4]},"text_cfg":{"pool_type":"eos","eos_id":7}},"preprocess_cfg":{}})",
        R"({"metadata":{"total_size":1},"weight_map":{"a":"x-1.safetensors","b":"x-2.safetensors"}})"};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::InputFile file;
    const std::string& path = file.write(data, size);
    fuzz::tolerate_errors([&] { detail::read_shard_index(path); });
    fuzz::tolerate_errors([&] {
        if (const auto config = read_model_config(path)) {
            TensorMap map;
            map.tensors["visual.class_embedding"] = map.tensors["token_embedding.weight"] =
                make_tensor<float>({1}, {1, 1});
            apply_model_config(*config, map);
        }
    });
    return 0;
}
