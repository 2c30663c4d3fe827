// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <promptkd/format/safetensors.hpp>

using namespace promptkd;

std::vector<std::string> promptkd::fuzz::seeds() {
    TensorMap map;
    map.tensors["a"] = make_tensor<float>({1, 2, 3, 4}, {2, 2});
    map.tensors["b.weight"] = make_tensor<half>({half(1.0f)}, {});
    map.tensors["none"] = make_tensor<std::int64_t>({}, {0, 3});
    map.metadata = {{"format", "pt"}, {"k", "\xC3\xA9\n"}};
    const std::string name = "/tmp/promptkd-fuzz-" + std::to_string(::getpid());
    write_safetensors(name, map);
    const std::string bytes = read_file(name);
    ::unlink(name.c_str());
    return {bytes, read_file(std::string(PROMPTKD_ASSETS) + "/fashion_teacher_prompts.safetensors").substr(0, 100000)};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::InputFile file;
    fuzz::tolerate_errors([&] {
        const TensorMap map = read_safetensors(file.write(data, size));
        double sum = 0;
        for (const auto& [name, tensor] : map.tensors)
            for (const double x : tensor.to<double>()) sum += x;  // every byte that a tensor claims can be read
        if (sum == 1e-300) std::puts("");
    });
    return 0;
}
