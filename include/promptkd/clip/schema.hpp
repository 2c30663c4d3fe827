// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/schema/types.hpp>

/// The schema of CLIP: every tensor of every architecture once, as a row of a table. A row says what the tensor is
/// (`Role`, `Part`), its shape in the model's sizes, and for each layout of files the name and the form in which that
/// layout stores it. Nothing else in the library names a weight of CLIP: reading, converting, inspecting, visiting and
/// configuration walk these tables (schema/lookup.hpp: names; schema/sizes.hpp: shapes; weights.hpp: filling an
/// encoder; checkpoint/layouts.hpp: from one layout into another).
///
/// In memory a model stands under OpenAI's names, those of the first column.
///
/// To add a **layout** (the names of another library): a value of `Layout` before `count`, its name in
/// `name_of` and `title_of`, and a cell in every row and prefix that it has; a cell that is not given is its parent's
/// (`parent_of`), without a parent there is no place for the tensor. A second name or form of a tensor in one layout is
/// a row of its own with `Presence::alternative`. A layout is recognised by how many names it knows; reading and
/// writing follow. Where it stores a tensor in a form of its own, add a `Form` (sizes.hpp says what becomes of the
/// shape, layouts.hpp of the values).
///
/// A ViT of another **family** needs rows for tensors that are new, optional ones, and what its tensors do not tell as
/// entries of the description in tower.hpp, which its configuration gives (checkpoint/model_config.hpp).
///
/// To add an **architecture** (another image or text branch): its rows, groups and an `Architecture`, listed in
/// `architectures`; new roles and sizes where it has some. Then a configuration of its sizes (config.hpp), and an
/// encoder whose constructor and visit_weights() name the roles (see VisionTransformer), chosen in ImageEncoder. A file
/// is taken for the image branch with the most tensors in it.
namespace promptkd::schema {

namespace rows {

using R = Role;
using P = Part;
using F = Form;

inline constexpr Extent one{Size::one}, three{Size::one, 3}, colours{Size::one, 3};
inline constexpr Extent width{Size::width}, half_width{Size::width, 1, 2}, pooled{Size::width, 32};
inline constexpr Extent qkv{Size::width, 3};  // queries, keys and values below each other
inline constexpr Extent hidden{Size::hidden}, embed{Size::embed};
inline constexpr Extent positions{Size::positions}, patch{Size::patch};
inline constexpr Extent vocabulary{Size::vocabulary}, context_length{Size::context_length};
inline constexpr Extent planes{Size::planes}, output{Size::planes, 4}, input{Size::input};
inline constexpr Extent stem{Size::stem}, kernel_1{Size::kernel_1}, kernel_2{Size::kernel_2}, kernel_3{Size::kernel_3};
inline constexpr Extent pool{Size::pooled}, pool_qkv{Size::pooled, 3}, queries{Size::queries};
inline constexpr Cell no = nowhere;
inline constexpr Presence optional = Presence::optional, alternative = Presence::alternative;

// clang-format off

inline constexpr Row model[] = {
    {R::logit_scale, P::weight, {}, {"logit_scale", as_openai, "logit_scale"}},
    {R::logit_bias,  P::weight, {}, {"logit_bias", as_openai, no, "logit_bias"}, optional},
    // Numbers beside the weights in OpenAI's TorchScript archives.
    {R::buffer,      P::weight, {}, {"input_resolution", as_openai}, Presence::dropped},
    {R::buffer,      P::weight, {}, {"context_length", as_openai}, Presence::dropped},
    {R::buffer,      P::weight, {}, {"vocab_size", as_openai}, Presence::dropped},
};

/// Which of the required rows a tower does without, its description says (config.hpp); the others are there or not.
inline constexpr Row vision_transformer[] = {
    {R::patch_embedding, P::weight, {width, colours, patch, patch},
     {"visual.conv1.weight", as_openai, "vision_model.embeddings.patch_embedding.weight", {},
      "visual.trunk.patch_embed.proj.weight"}},
    {R::patch_embedding, P::bias,   {width},
     {"visual.conv1.bias", as_openai, no, "vision_model.embeddings.patch_embedding.bias",
      "visual.trunk.patch_embed.proj.bias"}, optional},
    {R::class_token,     P::weight, {width},
     {"visual.class_embedding", as_openai, "vision_model.embeddings.class_embedding", no,
      "visual.trunk.cls_token"}},
    {R::positions,       P::weight, {positions, width},
     {"visual.positional_embedding", as_openai, "vision_model.embeddings.position_embedding.weight", {},
      "visual.trunk.pos_embed"}},
    {R::first_norm,      P::weight, {width},
     {"visual.ln_pre.weight", as_openai, "vision_model.pre_layrnorm.weight", no, "visual.trunk.norm_pre.weight"}},
    {R::first_norm,      P::bias,   {width},
     {"visual.ln_pre.bias", as_openai, "vision_model.pre_layrnorm.bias", no, "visual.trunk.norm_pre.bias"}},
    {R::last_norm,       P::weight, {width},
     {"visual.ln_post.weight", as_openai, "vision_model.post_layernorm.weight", {}, "visual.trunk.norm.weight"}},
    {R::last_norm,       P::bias,   {width},
     {"visual.ln_post.bias", as_openai, "vision_model.post_layernorm.bias", {}, "visual.trunk.norm.bias"}},
    {R::last_norm,       P::weight, {width}, {no, no, no, no, "visual.trunk.fc_norm.weight"}, alternative},
    {R::last_norm,       P::bias,   {width}, {no, no, no, no, "visual.trunk.fc_norm.bias"}, alternative},
    {R::projection,      P::weight, {embed, width},
     {{"visual.proj", F::transposed}, as_openai, "visual_projection.weight", no, "visual.trunk.head.weight"}},
    {R::projection,      P::weight, {embed, width}, {no, no, no, no, "visual.head.proj.weight"}, alternative},
    {R::projection,      P::bias,   {embed}, {"visual.proj_bias", no, no, no, "visual.trunk.head.bias"}, optional},
    {R::projection,      P::bias,   {embed}, {no, no, no, no, "visual.head.proj.bias"}, alternative},
    {R::buffer,          P::weight, {}, {no, no, "vision_model.embeddings.position_ids"}, Presence::dropped},
};

/// Meta's names (PE), and open_clip's (CoCa) where queries are several.
inline constexpr Row probe_pool[] = {
    {R::pool_probe,      P::weight, {width}, {"probe", {}, no, "probe", "latent"}, optional},
    {R::pool_queries,    P::weight, {queries, pool}, {"query", {}, no, no, no}, optional},
    {R::pool_norm_query, P::weight, {pool}, {"ln_q.weight", {}, no, no, no}, optional},
    {R::pool_norm_query, P::bias,   {pool}, {"ln_q.bias", {}, no, no, no}, optional},
    {R::pool_norm_key,   P::weight, {width}, {"ln_k.weight", {}, no, no, no}, optional},
    {R::pool_norm_key,   P::bias,   {width}, {"ln_k.bias", {}, no, no, no}, optional},
    {R::pool_in,         P::weight, {pool_qkv, width},
     {"attn.in_proj_weight", {}, no, "attention.in_proj_weight", no}, optional},
    {R::pool_in,         P::weight, {pool_qkv, width}, {no, no, no, no, {"q.weight", F::first_third}}, alternative},
    {R::pool_in,         P::weight, {pool_qkv, width},
     {no, no, no, no, {"kv.weight", F::last_two_thirds}}, alternative},
    {R::pool_in,         P::bias,   {pool_qkv},
     {"attn.in_proj_bias", {}, no, "attention.in_proj_bias", no}, optional},
    {R::pool_in,         P::bias,   {pool_qkv}, {no, no, no, no, {"q.bias", F::first_third}}, alternative},
    {R::pool_in,         P::bias,   {pool_qkv}, {no, no, no, no, {"kv.bias", F::last_two_thirds}}, alternative},
    {R::pool_query,      P::weight, {pool, pool}, {"attn.q_proj_weight", {}, no, no, no}, optional},
    {R::pool_key,        P::weight, {pool, width}, {"attn.k_proj_weight", {}, no, no, no}, optional},
    {R::pool_value,      P::weight, {pool, width}, {"attn.v_proj_weight", {}, no, no, no}, optional},
    {R::pool_out,        P::weight, {pool, pool},
     {"attn.out_proj.weight", {}, no, "attention.out_proj.weight", "proj.weight"}, optional},
    {R::pool_out,        P::bias,   {pool},
     {"attn.out_proj.bias", {}, no, "attention.out_proj.bias", "proj.bias"}, optional},
    {R::pool_norm,       P::weight, {pool}, {"layernorm.weight", {}, no, "layernorm.weight", "norm.weight"}, optional},
    {R::pool_norm,       P::bias,   {pool}, {"layernorm.bias", {}, no, "layernorm.bias", "norm.bias"}, optional},
    {R::pool_mlp_in,     P::weight, {hidden, pool},
     {"mlp.c_fc.weight", {}, no, "mlp.fc1.weight", "mlp.fc1.weight"}, optional},
    {R::pool_mlp_in,     P::bias,   {hidden}, {"mlp.c_fc.bias", {}, no, "mlp.fc1.bias", "mlp.fc1.bias"}, optional},
    {R::pool_mlp_out,    P::weight, {pool, hidden},
     {"mlp.c_proj.weight", {}, no, "mlp.fc2.weight", "mlp.fc2.weight"}, optional},
    {R::pool_mlp_out,    P::bias,   {pool}, {"mlp.c_proj.bias", {}, no, "mlp.fc2.bias", "mlp.fc2.bias"}, optional},
};

/// MobileCLIP-B's patch embedding: three convolutions without overlap, the first two with their batch norms.
inline constexpr Row patch_stem[] = {
    {R::convolution_1, P::weight,        {stem, colours, kernel_1, kernel_1}, {"0.conv.weight"}, optional},
    {R::convolution_1, P::norm_weight,   {stem},                              {"0.bn.weight"}, optional},
    {R::convolution_1, P::norm_bias,     {stem},                              {"0.bn.bias"}, optional},
    {R::convolution_1, P::norm_mean,     {stem},                              {"0.bn.running_mean"}, optional},
    {R::convolution_1, P::norm_variance, {stem},                              {"0.bn.running_var"}, optional},
    {R::convolution_1, P::norm_batches,  {},                                  {"0.bn.num_batches_tracked"}, optional},
    {R::convolution_2, P::weight,        {stem, stem, kernel_2, kernel_2},    {"1.conv.weight"}, optional},
    {R::convolution_2, P::norm_weight,   {stem},                              {"1.bn.weight"}, optional},
    {R::convolution_2, P::norm_bias,     {stem},                              {"1.bn.bias"}, optional},
    {R::convolution_2, P::norm_mean,     {stem},                              {"1.bn.running_mean"}, optional},
    {R::convolution_2, P::norm_variance, {stem},                              {"1.bn.running_var"}, optional},
    {R::convolution_2, P::norm_batches,  {},                                  {"1.bn.num_batches_tracked"}, optional},
    {R::convolution_3, P::weight,        {width, stem, kernel_3, kernel_3},   {"2.conv.weight"}, optional},
    {R::convolution_3, P::bias,          {width},                             {"2.conv.bias"}, optional},
};

inline constexpr Row text_transformer[] = {
    {R::token_table, P::weight, {vocabulary, width},
     {"token_embedding.weight", "text.token_embedding.weight", "text_model.embeddings.token_embedding.weight"}},
    {R::positions,   P::weight, {context_length, width},
     {"positional_embedding", "text.positional_embedding", "text_model.embeddings.position_embedding.weight"}},
    {R::class_token, P::weight, {width}, {"cls_emb", "text.cls_emb"}, optional},
    {R::last_norm,   P::weight, {width},
     {"ln_final.weight", "text.ln_final.weight", "text_model.final_layer_norm.weight"}},
    {R::last_norm,   P::bias,   {width},
     {"ln_final.bias", "text.ln_final.bias", "text_model.final_layer_norm.bias"}},
    {R::projection,  P::weight, {embed, width},
     {{"text_projection", F::transposed}, {"text.text_projection", F::transposed}, "text_projection.weight",
      "text_model.head.weight"}},
    {R::projection,  P::weight, {embed, width},
     {"text_projection.weight", "text.text_projection.weight", no, no}, alternative},
    {R::projection,  P::bias,   {embed},
     {"text_projection.bias", "text.text_projection.bias", no, "text_model.head.bias"}, optional},
    {R::buffer,      P::weight, {}, {"attn_mask", "text.attn_mask"}, Presence::dropped},
    {R::buffer,      P::weight, {}, {no, no, "text_model.embeddings.position_ids"}, Presence::dropped},
};

inline constexpr Row block[] = {
    {R::norm_1,         P::weight, {width},         {"ln_1.weight", {}, "layer_norm1.weight", {}, "norm1.weight"}},
    {R::norm_1,         P::bias,   {width},         {"ln_1.bias", {}, "layer_norm1.bias", {}, "norm1.bias"}},
    {R::attention_in,   P::weight, {qkv, width},
     {"attn.in_proj_weight", {}, {"self_attn.*_proj.weight", F::thirds}, {}, "attn.qkv.weight"}},
    {R::attention_in,   P::weight, {qkv, width},    {no, no, no, no, {"attn.*_proj.weight", F::thirds}}, alternative},
    {R::attention_in,   P::bias,   {qkv},
     {"attn.in_proj_bias", {}, {"self_attn.*_proj.bias", F::thirds}, {}, "attn.qkv.bias"}},
    {R::attention_in,   P::bias,   {qkv},
     {no, no, no, no, {"attn.*_proj.bias", F::thirds_no_key}}, alternative},
    {R::attention_in,   P::bias,   {qkv},           {no, no, no, no, {"attn.*_bias", F::thirds_no_key}}, alternative},
    {R::attention_norm, P::weight, {width},
     {"attn.inner_norm.weight", {}, no, {}, "attn.norm.weight"}, optional},
    {R::attention_norm, P::bias,   {width},         {"attn.inner_norm.bias", {}, no, {}, "attn.norm.bias"}, optional},
    {R::attention_out,  P::weight, {width, width},
     {"attn.out_proj.weight", {}, "self_attn.out_proj.weight", {}, "attn.proj.weight"}},
    {R::attention_out,  P::bias,   {width},
     {"attn.out_proj.bias", {}, "self_attn.out_proj.bias", {}, "attn.proj.bias"}},
    {R::scale_1,        P::weight, {width},         {"ls_1.gamma", {}, no, {}, "ls1.gamma"}, optional},
    {R::norm_2,         P::weight, {width},         {"ln_2.weight", {}, "layer_norm2.weight", {}, "norm2.weight"}},
    {R::norm_2,         P::bias,   {width},         {"ln_2.bias", {}, "layer_norm2.bias", {}, "norm2.bias"}},
    {R::mlp_in,         P::weight, {hidden, width}, {"mlp.c_fc.weight", {}, "mlp.fc1.weight", {}, "mlp.fc1.weight"}},
    {R::mlp_in,         P::weight, {hidden, width}, {no, no, no, no, "mlp.fc1_x.weight"}, alternative},
    {R::mlp_in,         P::bias,   {hidden},        {"mlp.c_fc.bias", {}, "mlp.fc1.bias", {}, "mlp.fc1.bias"}},
    {R::mlp_in,         P::bias,   {hidden},        {no, no, no, no, "mlp.fc1_x.bias"}, alternative},
    {R::mlp_gate,       P::weight, {hidden, width}, {"mlp.c_gate.weight", {}, no, {}, "mlp.fc1_g.weight"}, optional},
    {R::mlp_gate,       P::bias,   {hidden},        {"mlp.c_gate.bias", {}, no, {}, "mlp.fc1_g.bias"}, optional},
    {R::mlp_norm,       P::weight, {hidden},        {"mlp.inner_norm.weight", {}, no, {}, "mlp.norm.weight"}, optional},
    {R::mlp_norm,       P::bias,   {hidden},        {"mlp.inner_norm.bias", {}, no, {}, "mlp.norm.bias"}, optional},
    {R::mlp_out,        P::weight, {width, hidden},
     {"mlp.c_proj.weight", {}, "mlp.fc2.weight", {}, "mlp.fc2.weight"}},
    {R::mlp_out,        P::bias,   {width},         {"mlp.c_proj.bias", {}, "mlp.fc2.bias", {}, "mlp.fc2.bias"}},
    {R::scale_2,        P::weight, {width},         {"ls_2.gamma", {}, no, {}, "ls2.gamma"}, optional},
};

inline constexpr Row resnet_stem[] = {
    {R::convolution_1, P::weight,        {half_width, colours, three, three},    {"conv1.weight", as_openai}},
    {R::convolution_1, P::norm_weight,   {half_width},                           {"bn1.weight", as_openai}},
    {R::convolution_1, P::norm_bias,     {half_width},                           {"bn1.bias", as_openai}},
    {R::convolution_1, P::norm_mean,     {half_width},                           {"bn1.running_mean", as_openai}},
    {R::convolution_1, P::norm_variance, {half_width},                           {"bn1.running_var", as_openai}},
    {R::convolution_1, P::norm_batches,  {},
     {"bn1.num_batches_tracked", as_openai}, Presence::optional},
    {R::convolution_2, P::weight,        {half_width, half_width, three, three}, {"conv2.weight", as_openai}},
    {R::convolution_2, P::norm_weight,   {half_width},                           {"bn2.weight", as_openai}},
    {R::convolution_2, P::norm_bias,     {half_width},                           {"bn2.bias", as_openai}},
    {R::convolution_2, P::norm_mean,     {half_width},                           {"bn2.running_mean", as_openai}},
    {R::convolution_2, P::norm_variance, {half_width},                           {"bn2.running_var", as_openai}},
    {R::convolution_2, P::norm_batches,  {},
     {"bn2.num_batches_tracked", as_openai}, Presence::optional},
    {R::convolution_3, P::weight,        {width, half_width, three, three},      {"conv3.weight", as_openai}},
    {R::convolution_3, P::norm_weight,   {width},                                {"bn3.weight", as_openai}},
    {R::convolution_3, P::norm_bias,     {width},                                {"bn3.bias", as_openai}},
    {R::convolution_3, P::norm_mean,     {width},                                {"bn3.running_mean", as_openai}},
    {R::convolution_3, P::norm_variance, {width},                                {"bn3.running_var", as_openai}},
    {R::convolution_3, P::norm_batches,  {},
     {"bn3.num_batches_tracked", as_openai}, Presence::optional},
};

/// The shortcut is a convolution where a stage begins, the identity elsewhere.
inline constexpr Row bottleneck[] = {
    {R::convolution_1, P::weight,        {planes, input, one, one},      {"conv1.weight", as_openai}},
    {R::convolution_1, P::norm_weight,   {planes},                       {"bn1.weight", as_openai}},
    {R::convolution_1, P::norm_bias,     {planes},                       {"bn1.bias", as_openai}},
    {R::convolution_1, P::norm_mean,     {planes},                       {"bn1.running_mean", as_openai}},
    {R::convolution_1, P::norm_variance, {planes},                       {"bn1.running_var", as_openai}},
    {R::convolution_1, P::norm_batches,  {},
     {"bn1.num_batches_tracked", as_openai}, Presence::optional},
    {R::convolution_2, P::weight,        {planes, planes, three, three}, {"conv2.weight", as_openai}},
    {R::convolution_2, P::norm_weight,   {planes},                       {"bn2.weight", as_openai}},
    {R::convolution_2, P::norm_bias,     {planes},                       {"bn2.bias", as_openai}},
    {R::convolution_2, P::norm_mean,     {planes},                       {"bn2.running_mean", as_openai}},
    {R::convolution_2, P::norm_variance, {planes},                       {"bn2.running_var", as_openai}},
    {R::convolution_2, P::norm_batches,  {},
     {"bn2.num_batches_tracked", as_openai}, Presence::optional},
    {R::convolution_3, P::weight,        {output, planes, one, one},     {"conv3.weight", as_openai}},
    {R::convolution_3, P::norm_weight,   {output},                       {"bn3.weight", as_openai}},
    {R::convolution_3, P::norm_bias,     {output},                       {"bn3.bias", as_openai}},
    {R::convolution_3, P::norm_mean,     {output},                       {"bn3.running_mean", as_openai}},
    {R::convolution_3, P::norm_variance, {output},                       {"bn3.running_var", as_openai}},
    {R::convolution_3, P::norm_batches,  {},
     {"bn3.num_batches_tracked", as_openai}, Presence::optional},
    {R::shortcut,      P::weight,        {output, input, one, one},
     {"downsample.0.weight", as_openai}, Presence::optional},
    {R::shortcut,      P::norm_weight,   {output},
     {"downsample.1.weight", as_openai}, Presence::optional},
    {R::shortcut,      P::norm_bias,     {output},
     {"downsample.1.bias", as_openai}, Presence::optional},
    {R::shortcut,      P::norm_mean,     {output},
     {"downsample.1.running_mean", as_openai}, Presence::optional},
    {R::shortcut,      P::norm_variance, {output},
     {"downsample.1.running_var", as_openai}, Presence::optional},
    {R::shortcut,      P::norm_batches,  {},
     {"downsample.1.num_batches_tracked", as_openai}, Presence::optional},
};

inline constexpr Row attention_pool[] = {
    {R::positions,  P::weight, {positions, pooled}, {"positional_embedding", as_openai}},
    {R::pool_query, P::weight, {pooled, pooled},    {"q_proj.weight", as_openai}},
    {R::pool_query, P::bias,   {pooled},            {"q_proj.bias", as_openai}},
    {R::pool_key,   P::weight, {pooled, pooled},    {"k_proj.weight", as_openai}},
    {R::pool_key,   P::bias,   {pooled},            {"k_proj.bias", as_openai}},
    {R::pool_value, P::weight, {pooled, pooled},    {"v_proj.weight", as_openai}},
    {R::pool_value, P::bias,   {pooled},            {"v_proj.bias", as_openai}},
    {R::pool_out,   P::weight, {embed, pooled},     {"c_proj.weight", as_openai}},
    {R::pool_out,   P::bias,   {embed},             {"c_proj.bias", as_openai}},
};

// clang-format on

}  // namespace rows

namespace groups {

inline constexpr Group model[] = {{{""}, rows::model}};

inline constexpr Group vision_transformer[] = {
    {{""}, rows::vision_transformer},
    {{"visual.transformer.resblocks.#.", {}, "vision_model.encoder.layers.#.", {}, "visual.trunk.blocks.#."},
     rows::block},
    {{"visual.attn_pool.", {}, {}, "vision_model.head.", "visual.trunk.attn_pool."}, rows::probe_pool},
    {{"visual.stem.", {}, {}, {}, "visual.trunk.patch_embed.backbone."}, rows::patch_stem},
};

inline constexpr Group text_transformer[] = {
    {{""}, rows::text_transformer},
    {{"transformer.resblocks.#.",
      "text.transformer.resblocks.#.",
      "text_model.encoder.layers.#.",
      {},
      {"text.transformer.resblocks.#.", Layout::open_clip}},
     rows::block},
};

inline constexpr Group modified_resnet[] = {
    {{"visual."}, rows::resnet_stem},
    {{"visual.layer#.#."}, rows::bottleneck, 4},
    {{"visual.attnpool."}, rows::attention_pool},
};

}  // namespace groups

/// What stands beside the two branches.
inline constexpr Architecture model{"CLIP", Branch::model, groups::model};
/// CLIP's ViT (Radford et al. 2021, 2.4, after Dosovitskiy et al. 2021).
inline constexpr Architecture vision_transformer{"ViT", Branch::image, groups::vision_transformer};
/// CLIP's ModifiedResNet (Radford et al. 2021, 2.4): a stem of three convolutions, attention pooling.
inline constexpr Architecture modified_resnet{"ModifiedResNet", Branch::image, groups::modified_resnet};
/// CLIP's text branch.
inline constexpr Architecture text_transformer{"text transformer", Branch::text, groups::text_transformer};

/// All architectures.
inline constexpr const Architecture* architectures[] = {&model, &vision_transformer, &modified_resnet,
                                                        &text_transformer};

}  // namespace promptkd::schema
