// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "measure.hpp"

#include <promptkd/core/tensor.hpp>
#include <promptkd/format/safetensors.hpp>

#include <malloc.h>
#include <unistd.h>

#include <cstdlib>

namespace promptkd::bench {

/// CLIP weights of a published size with random values, in OpenAI's key names, matrices of the 16-bit type H (OpenAI's
/// are half). Every tensor has memory of its own, as in a mapped file: a model that reads it in place occupies what a
/// real one does.
template <class H = half>
class RandomModel {
public:
    RandomModel(const ModelSize& size, bool with_text) : size_(size) {
        map_.source = std::string("random ") + size.name;
        const Index vocabulary = 49408, context = 77;
        const Index d = size.vision_width, grid = size.resolution / size.patch;
        add("visual.conv1.weight", {d, 3, size.patch, size.patch});
        add("visual.class_embedding", {d});
        add("visual.positional_embedding", {grid * grid + 1, d});
        add("visual.proj", {d, size.embedding});
        for (const char* norm : {"visual.ln_pre", "visual.ln_post"}) add_norm(norm, d);
        add_blocks("visual.transformer.", size.vision_layers, d, size.vision_mlp > 0 ? size.vision_mlp : 4 * d);
        map_.metadata["vision_heads"] = std::to_string(size.vision_heads);
        map_.tensors["logit_scale"] = make_tensor(std::vector<float>{4.6052f}, {});
        if (!with_text) return;
        add("token_embedding.weight", {vocabulary, size.text_width});
        add("positional_embedding", {context, size.text_width});
        add("text_projection", {size.text_width, size.embedding});
        add_norm("ln_final", size.text_width);
        add_blocks("transformer.", size.text_layers, size.text_width, 4 * size.text_width);
        map_.metadata["text_heads"] = std::to_string(size.text_heads);
    }

    const TensorMap& map() const { return map_; }

private:
    /// Uniform values of deviation 0.02.
    void add(const std::string& name, Shape shape) {
        std::vector<H> values(static_cast<std::size_t>(count_of(shape)));
        for (H& x : values) {
            state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
            x = H(0.07f * (static_cast<float>(state_ >> 40) / 16777216.0f - 0.5f));
        }
        map_.tensors[name] = make_tensor(std::move(values), std::move(shape));
    }
    void add_norm(const std::string& name, Index d) {
        map_.tensors[name + ".weight"] = make_tensor(std::vector<float>(static_cast<std::size_t>(d), 1.0f), {d});
        add(name + ".bias", {d});
    }
    void add_linear(const std::string& prefix, Index out, Index in) {
        add(prefix + "weight", {out, in});
        add(prefix + "bias", {out});
    }
    void add_blocks(const std::string& prefix, Index layers, Index d, Index mlp) {
        for (Index i = 0; i < layers; ++i) {
            const std::string p = prefix + "resblocks." + std::to_string(i) + ".";
            add_norm(p + "ln_1", d);
            add_norm(p + "ln_2", d);
            add_linear(p + "attn.in_proj_", 3 * d, d);
            add_linear(p + "attn.out_proj.", d, d);
            add_linear(p + "mlp.c_fc.", mlp, d);
            add_linear(p + "mlp.c_proj.", d, mlp);
        }
    }

    ModelSize size_;
    TensorMap map_;
    std::uint64_t state_ = 1;
};

/// The same in a mapped file that disappears with it, as programs read their models: memory is counted as it is there.
template <class H = half>
TensorMap mapped_model(const ModelSize& size, bool with_text) {
    const char* folder = std::getenv("TMPDIR");
    std::string path = std::string(folder && *folder ? folder : "/tmp") + "/promptkd-bench-XXXXXX";
    const int file = ::mkstemp(path.data());
    require(file >= 0, "cannot write '", path, "'");
    ::close(file);
    write_safetensors(path, RandomModel<H>(size, with_text).map());
    TensorMap map = read_safetensors(path);
    ::unlink(path.c_str());
    ::malloc_trim(0);  // glibc keeps the random model's memory
    return map;
}

}  // namespace promptkd::bench
