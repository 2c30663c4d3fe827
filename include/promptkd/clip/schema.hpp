// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>

#include <cstddef>
#include <span>

/// The schema of CLIP: every tensor of every architecture once, as a row of a table. A row says what the tensor is
/// (`Role`, `Part`), its shape in the model's sizes, and for each layout of files the name and the form in which that
/// layout stores it. Nothing else in the library names a weight of CLIP: reading, converting, inspecting, visiting and
/// configuration walk these tables (schema/lookup.hpp: names; schema/sizes.hpp: shapes; weights.hpp: filling an
/// encoder; checkpoint/layouts.hpp: from one layout into another).
///
/// In memory a model stands under OpenAI's names, those of the first column.
///
/// To add a **layout** (the names of another library): a value of `Layout` before `count`, its name in
/// `name_of` and `title_of`, and a cell in every row and prefix that it has. Rows without that cell are absent there. A
/// layout is recognised by its own names of the patch embedding and the token embedding; reading and writing follow.
/// Where it stores a tensor in a form of its own, add a `Form` (sizes.hpp says what becomes of the shape, layouts.hpp
/// of the values).
///
/// To add an **architecture** (another image or text branch): its rows, groups and an `Architecture`, listed in
/// `architectures`; new roles and sizes where it has some. Then a configuration of its sizes (config.hpp), and an
/// encoder whose constructor and visit_weights() name the roles (see VisionTransformer), chosen in ImageEncoder. A file
/// is taken for the image branch with the most tensors in it.
namespace promptkd::schema {

/// Whose names the tensors of a model carry.
enum class Layout {
    openai,       ///< github.com/openai/CLIP, model.py
    open_clip,    ///< open_clip's CustomTextCLIP: the text branch under "text."; its other models use OpenAI's names
    huggingface,  ///< transformers, modeling_clip.py
    count
};
/// Number of layouts.
inline constexpr std::size_t layout_count = static_cast<std::size_t>(Layout::count);

/// "openai", "open_clip", "huggingface".
inline const char* name_of(Layout layout) {
    constexpr const char* names[layout_count] = {"openai", "open_clip", "huggingface"};
    return names[static_cast<std::size_t>(layout)];
}

/// For messages: "OpenAI's CLIP", "open_clip", "Hugging Face's CLIP".
inline const char* title_of(Layout layout) {
    constexpr const char* titles[layout_count] = {"OpenAI's CLIP", "open_clip", "Hugging Face's CLIP"};
    return titles[static_cast<std::size_t>(layout)];
}

/// What a tensor, or a layer of tensors, is in its architecture.
enum class Role {
    logit_scale,  ///< logarithm of the factor of all cosines
    buffer,       ///< stored by a library, read by no computation
    // A transformer outside its blocks. The image branch has a norm before the first block and one after the last.
    patch_embedding,
    class_token,
    token_table,
    positions,
    first_norm,
    last_norm,
    projection,
    // One residual attention block.
    norm_1,
    attention_in,
    attention_out,
    norm_2,
    mlp_in,
    mlp_out,
    // The stem of a ResNet, or one bottleneck: convolutions, each with its batch norm.
    convolution_1,
    convolution_2,
    convolution_3,
    shortcut,
    // Attention pooling.
    pool_query,
    pool_key,
    pool_value,
    pool_out,
};

/// Which tensor of a layer.
enum class Part { weight, bias, norm_weight, norm_bias, norm_mean, norm_variance, norm_batches };

/// The sizes in which shapes are written.
enum class Size {
    none,
    one,
    width,           ///< of a transformer; of a ResNet's stem
    hidden,          ///< of one block's MLP
    embed,           ///< of the features
    positions,       ///< of the image branch: class token and cells
    patch,           ///< pixels
    vocabulary,      ///< tokens
    context_length,  ///< positions of a text
    planes,          ///< inner channels of one bottleneck
    input,           ///< channels that go into it
    count
};

/// One extent of a shape: size · times / over.
struct Extent {
    Size size = Size::none;     ///< which size of the model; none: 1
    Index times = 1, over = 1;  ///< extent = size·times/over
};

/// How a layout stores a tensor, against the form in which it is computed with (matrices as (out, in)).
enum class Form {
    plain,
    transposed,  ///< (in, out)
    thirds       ///< three tensors, a third of the rows each; `*` in the name stands for q, k and v
};

/// Name and form of a tensor in one layout.
struct Cell {
    const char* name = "";    ///< "": the layout has no place for the tensor; null: name and form as in OpenAI's
    Form form = Form::plain;  ///< how the layout stores it
    /// The name `n`, stored in the form `f`.
    constexpr Cell() = default;
    /// The name `n`, stored in the form `f`.
    constexpr Cell(const char* n, Form f = Form::plain) : name(n), form(f) {}
};

/// A cell with OpenAI's name and form.
inline constexpr Cell as_openai{nullptr};

/// Whether a file must hold the tensor.
enum class Presence {
    required,
    optional,
    dropped  ///< may be in files, is left out when a model is read
};

/// One tensor of an architecture (of each block, in a group of blocks).
struct Row {
    Role role;                               ///< what it is in the model
    Part part;                               ///< which part of a layer
    Extent shape[4];                         ///< extents, the outermost first
    Cell cells[layout_count];                ///< name and form in each layout
    Presence presence = Presence::required;  ///< whether a file must hold it
};

/// Rows that share a prefix. `#` in the prefix is the number of a block, from 0; of two, the first is that of a stage,
/// from 1.
struct Group {
    const char* prefix[layout_count];  ///< null: as OpenAI's
    std::span<const Row> rows;         ///< the tensors of the group
    Index stages = 0;                  ///< 0: the prefix has one `#` or none
};

/// The branch of CLIP that an architecture belongs to.
enum class Branch { model, image, text };

/// A branch of the model as a table: all tensors of one kind of encoder.
struct Architecture {
    const char* name;               ///< for people
    Branch branch;                  ///< where it belongs
    std::span<const Group> groups;  ///< its tensors
};

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

// clang-format off

inline constexpr Row model[] = {
    {R::logit_scale, P::weight, {}, {"logit_scale", as_openai, "logit_scale"}},
    // Numbers beside the weights in OpenAI's TorchScript archives.
    {R::buffer,      P::weight, {}, {"input_resolution", as_openai}, Presence::dropped},
    {R::buffer,      P::weight, {}, {"context_length", as_openai}, Presence::dropped},
    {R::buffer,      P::weight, {}, {"vocab_size", as_openai}, Presence::dropped},
};

inline constexpr Row vision_transformer[] = {
    {R::patch_embedding, P::weight, {width, colours, patch, patch},
     {"visual.conv1.weight", as_openai, "vision_model.embeddings.patch_embedding.weight"}},
    {R::class_token,     P::weight, {width},
     {"visual.class_embedding", as_openai, "vision_model.embeddings.class_embedding"}},
    {R::positions,       P::weight, {positions, width},
     {"visual.positional_embedding", as_openai, "vision_model.embeddings.position_embedding.weight"}},
    {R::first_norm,      P::weight, {width},
     {"visual.ln_pre.weight", as_openai, "vision_model.pre_layrnorm.weight"}},
    {R::first_norm,      P::bias,   {width},
     {"visual.ln_pre.bias", as_openai, "vision_model.pre_layrnorm.bias"}},
    {R::last_norm,       P::weight, {width},
     {"visual.ln_post.weight", as_openai, "vision_model.post_layernorm.weight"}},
    {R::last_norm,       P::bias,   {width},
     {"visual.ln_post.bias", as_openai, "vision_model.post_layernorm.bias"}},
    {R::projection,      P::weight, {embed, width},
     {{"visual.proj", F::transposed}, as_openai, "visual_projection.weight"}},
    {R::buffer,          P::weight, {}, {"", "", "vision_model.embeddings.position_ids"}, Presence::dropped},
};

inline constexpr Row text_transformer[] = {
    {R::token_table, P::weight, {vocabulary, width},
     {"token_embedding.weight", "text.token_embedding.weight", "text_model.embeddings.token_embedding.weight"}},
    {R::positions,   P::weight, {context_length, width},
     {"positional_embedding", "text.positional_embedding", "text_model.embeddings.position_embedding.weight"}},
    {R::last_norm,   P::weight, {width},
     {"ln_final.weight", "text.ln_final.weight", "text_model.final_layer_norm.weight"}},
    {R::last_norm,   P::bias,   {width},
     {"ln_final.bias", "text.ln_final.bias", "text_model.final_layer_norm.bias"}},
    {R::projection,  P::weight, {embed, width},
     {{"text_projection", F::transposed}, {"text.text_projection", F::transposed}, "text_projection.weight"}},
    {R::buffer,      P::weight, {}, {"attn_mask", "text.attn_mask"}, Presence::dropped},
    {R::buffer,      P::weight, {}, {"", "", "text_model.embeddings.position_ids"}, Presence::dropped},
};

inline constexpr Row block[] = {
    {R::norm_1,        P::weight, {width},         {"ln_1.weight", as_openai, "layer_norm1.weight"}},
    {R::norm_1,        P::bias,   {width},         {"ln_1.bias", as_openai, "layer_norm1.bias"}},
    {R::attention_in,  P::weight, {qkv, width},
     {"attn.in_proj_weight", as_openai, {"self_attn.*_proj.weight", F::thirds}}},
    {R::attention_in,  P::bias,   {qkv},
     {"attn.in_proj_bias", as_openai, {"self_attn.*_proj.bias", F::thirds}}},
    {R::attention_out, P::weight, {width, width},  {"attn.out_proj.weight", as_openai, "self_attn.out_proj.weight"}},
    {R::attention_out, P::bias,   {width},         {"attn.out_proj.bias", as_openai, "self_attn.out_proj.bias"}},
    {R::norm_2,        P::weight, {width},         {"ln_2.weight", as_openai, "layer_norm2.weight"}},
    {R::norm_2,        P::bias,   {width},         {"ln_2.bias", as_openai, "layer_norm2.bias"}},
    {R::mlp_in,        P::weight, {hidden, width}, {"mlp.c_fc.weight", as_openai, "mlp.fc1.weight"}},
    {R::mlp_in,        P::bias,   {hidden},        {"mlp.c_fc.bias", as_openai, "mlp.fc1.bias"}},
    {R::mlp_out,       P::weight, {width, hidden}, {"mlp.c_proj.weight", as_openai, "mlp.fc2.weight"}},
    {R::mlp_out,       P::bias,   {width},         {"mlp.c_proj.bias", as_openai, "mlp.fc2.bias"}},
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

inline constexpr Group model[] = {{{"", nullptr, nullptr}, rows::model}};

inline constexpr Group vision_transformer[] = {
    {{"", nullptr, nullptr}, rows::vision_transformer},
    {{"visual.transformer.resblocks.#.", nullptr, "vision_model.encoder.layers.#."}, rows::block},
};

inline constexpr Group text_transformer[] = {
    {{"", nullptr, nullptr}, rows::text_transformer},
    {{"transformer.resblocks.#.", "text.transformer.resblocks.#.", "text_model.encoder.layers.#."}, rows::block},
};

inline constexpr Group modified_resnet[] = {
    {{"visual.", nullptr, nullptr}, rows::resnet_stem},
    {{"visual.layer#.#.", nullptr, nullptr}, rows::bottleneck, 4},
    {{"visual.attnpool.", nullptr, nullptr}, rows::attention_pool},
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
