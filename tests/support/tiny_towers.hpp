// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tiny_clip.hpp"

#include <string>
#include <vector>

namespace promptkd::test {

/// Image towers of other kinds than CLIP's, by name; each made of tiny_clip's.
inline const std::vector<std::string> tower_kinds = {
    "mean", "mean of norms", "no class token", "bare", "layer scale", "post-norm", "swiglu", "rotation",
    "pe",   "siglip",        "coca",           "stem", "wide coca"};

/// Tensors of random values in a model.
struct TowerMaker {
    TensorMap map = tiny_clip("exact");
    unsigned seed = 50;

    void add(const std::string& name, const Shape& shape, double scale, double mean = 0) {
        std::vector<double> values = numbers(count_of(shape), ++seed, scale);
        for (double& v : values) v += mean;
        map.tensors[name] = make_tensor(std::move(values), shape);
    }
    void layer(const std::string& weight, const std::string& bias, Index out, Index in) {
        add(weight, {out, in}, 0.4);
        add(bias, {out}, 0.3);
    }
    void norm(const std::string& name, Index d) {
        add(name + ".weight", {d}, 0.2, 1);
        add(name + ".bias", {d}, 0.2);
    }
    template <class F>
    void each_block(const F& f) {
        for (int i = 0; i < 3; ++i) f("visual.transformer.resblocks." + std::to_string(i) + ".");
    }

    void pool(bool mlp) {
        const std::string p = "visual.attn_pool.";
        layer(p + "attn.in_proj_weight", p + "attn.in_proj_bias", 36, 12);
        layer(p + "attn.out_proj.weight", p + "attn.out_proj.bias", 12, 12);
        map.metadata["vision_pool"] = "attention";
        map.metadata["vision_pool_heads"] = "2";
        if (!mlp) return;
        add(p + "probe", {12}, 0.5);
        norm(p + "layernorm", 12);
        layer(p + "mlp.c_fc.weight", p + "mlp.c_fc.bias", 20, 12);
        layer(p + "mlp.c_proj.weight", p + "mlp.c_proj.bias", 12, 20);
        map.metadata["vision_pool_norm"] = "before";
    }
    void coca() {
        pool(false);
        add("visual.attn_pool.query", {3, 12}, 0.5);
        norm("visual.attn_pool.ln_q", 12);
        norm("visual.attn_pool.ln_k", 12);
    }
    /// With a width of its own, keys and values apart, one common bias.
    void wide_coca() {
        const std::string p = "visual.attn_pool.";
        add(p + "attn.q_proj_weight", {8, 8}, 0.4);
        add(p + "attn.k_proj_weight", {8, 12}, 0.4);
        add(p + "attn.v_proj_weight", {8, 12}, 0.4);
        add(p + "attn.in_proj_bias", {24}, 0.3);
        layer(p + "attn.out_proj.weight", p + "attn.out_proj.bias", 8, 8);
        add(p + "query", {3, 8}, 0.5);
        norm(p + "ln_q", 8);
        norm(p + "ln_k", 12);
        norm("visual.ln_post", 8);
        add("visual.proj", {8, 6}, 0.4);
        map.metadata["vision_pool"] = "attention";
        map.metadata["vision_pool_heads"] = "2";
    }
    void swiglu() {
        each_block([&](const std::string& block) {
            norm(block + "attn.inner_norm", 12);
            layer(block + "mlp.c_fc.weight", block + "mlp.c_fc.bias", 30, 12);
            layer(block + "mlp.c_gate.weight", block + "mlp.c_gate.bias", 30, 12);
            norm(block + "mlp.inner_norm", 30);
            add(block + "mlp.c_proj.weight", {12, 30}, 0.3);
        });
    }
    void siglip() {
        pool(true);
        add("visual.conv1.bias", {12}, 0.3);
        for (const char* name : {"visual.class_embedding", "visual.ln_pre.weight", "visual.ln_pre.bias", "visual.proj"})
            map.tensors.erase(name);
        add("visual.positional_embedding", {4, 12}, 0.5);
        map.metadata["vision_without"] = "class_token first_norm projection";
        map.metadata["vision_gelu"] = "tanh";
        map.metadata["vision_epsilon"] = "1e-06";
        map.metadata["vision_image_size"] = "9";
    }
    /// A mean of the patches without a class token beside them, as SigLIP's.
    void without_class_token() {
        map.tensors.erase("visual.class_embedding");
        add("visual.positional_embedding", {4, 12}, 0.5);
        map.metadata["vision_without"] = "class_token";
        map.metadata["vision_pool"] = "mean";
        map.metadata["vision_pool_norm"] = "before";
    }
    /// The class token itself, without norms and projection around the blocks.
    void bare() {
        for (const char* name :
             {"visual.ln_pre.weight", "visual.ln_pre.bias", "visual.ln_post.weight", "visual.ln_post.bias"})
            map.tensors.erase(name);
        map.metadata["vision_without"] = "first_norm last_norm";
    }
    void stem() {
        map.tensors.erase("visual.conv1.weight");
        for (const char* p : {"visual.stem.0.", "visual.stem.1."}) {
            const std::string conv = std::string(p) + "conv.weight", bn = std::string(p) + "bn";
            add(conv, {5, conv[12] == '0' ? 3 : 5, 2, 2}, 0.4);
            norm(bn, 5);
            add(bn + ".running_mean", {5}, 0.2);
            add(bn + ".running_var", {5}, 0.2, 1);
        }
        add("visual.stem.2.conv.weight", {12, 5, 1, 1}, 0.4);
        add("visual.stem.2.conv.bias", {12}, 0.3);
        add("visual.positional_embedding", {4, 12}, 0.5);
        map.metadata["vision_positions"] = "cells";
        map.metadata["vision_without"] = "patch_embedding";
    }
};

/// A tower of this kind without a text branch: images of 8×8 (siglip: 9×9), width 12, three heads, three blocks.
inline TensorMap tiny_tower(const std::string& kind) {
    TowerMaker maker;
    auto& about = maker.map.metadata;
    std::erase_if(maker.map.tensors, [](const auto& named) { return !schema::is_student_weight(named.first); });
    if (kind == "mean" || kind == "mean of norms") about["vision_pool"] = "mean";
    if (kind == "mean of norms") about["vision_pool_norm"] = "before";
    if (kind == "layer scale")
        maker.each_block([&](const std::string& block) {
            maker.add(block + "ls_1.gamma", {12}, 0.5, 0.5);
            maker.add(block + "ls_2.gamma", {12}, 0.5, 0.5);
        });
    if (kind == "no class token") maker.without_class_token();
    if (kind == "bare") maker.bare();
    if (kind == "post-norm") about["vision_norms"] = "after";
    if (kind == "swiglu") maker.swiglu();
    if (kind == "rotation" || kind == "swiglu") {
        about["vision_rotation"] = "rows";
        about["vision_rotation_grid"] = "3";
    }
    if (kind == "pe") {
        maker.pool(true);
        about["vision_rotation"] = "columns";
        about["vision_rotation_offset"] = "1";
    }
    if (kind == "siglip") maker.siglip();
    if (kind == "coca") maker.coca();
    if (kind == "wide coca") maker.wide_coca();
    if (kind == "stem") maker.stem();
    return maker.map;
}

}  // namespace promptkd::test
