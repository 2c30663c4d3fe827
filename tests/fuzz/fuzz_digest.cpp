// SPDX-License-Identifier: Apache-2.0
// Files that this library wrote: whatever is done to their bytes, they are refused, or they hold what was written.
#include "fuzz.hpp"

#include <promptkd/format/safetensors.hpp>

using namespace promptkd;

namespace {

/// A small map of the shape of a checkpoint, `n` of several.
TensorMap written(std::size_t n) {
    TensorMap map;
    std::vector<float> values;
    for (std::size_t i = 0; i < 40 * (n + 1); ++i) values.push_back(0.01f * static_cast<float>(i) - 0.2f);
    const auto rows = static_cast<Index>(values.size() / 8);
    map.tensors["image_encoder.VPT"] = make_tensor(values, {rows, 8});
    map.tensors["steps"] = make_tensor<std::int64_t>({static_cast<std::int64_t>(n)}, {});
    map.tensors["half"] = make_tensor<half>({half(1.0f), half(-2.0f)}, {2});
    map.metadata = {{"format", "promptkd.checkpoint"}, {"progress", "{\"epoch\":3,\"step\":120}"}};
    return map;
}

constexpr std::size_t kinds = 3;

}  // namespace

std::vector<std::string> promptkd::fuzz::seeds() {
    std::vector<std::string> all;
    const std::string name = "/tmp/promptkd-fuzz-digest-" + std::to_string(::getpid());
    for (std::size_t n = 0; n < kinds; ++n) {
        write_safetensors(name, written(n));
        all.push_back(read_file(name));
    }
    ::unlink(name.c_str());
    return all;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::InputFile file;
    static const std::string digests[kinds] = {digest_of(written(0)), digest_of(written(1)), digest_of(written(2))};
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    fuzz::tolerate_errors([&] {
        const std::string digest = digest_of(read_safetensors(file.write(data, size)));
        const bool ours = text.find("promptkd.digest") != std::string_view::npos ||
                          text.find("promptkd.has_digest") != std::string_view::npos;
        bool known = false;
        for (const std::string& one : digests) known = known || digest == one;
        if (ours && !known) std::abort();
    });
    return 0;
}
