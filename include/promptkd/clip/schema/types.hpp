// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>

#include <cstddef>
#include <span>

namespace promptkd::schema {

/// Whose names the tensors of a model carry.
enum class Layout {
    openai,       ///< github.com/openai/CLIP, model.py
    open_clip,    ///< open_clip's CustomTextCLIP: the text branch under "text."; its other models use OpenAI's names
    huggingface,  ///< transformers, modeling_clip.py
    siglip,       ///< transformers, modeling_siglip.py: what a row does not say is as in `huggingface`
    timm,         ///< open_clip with an image tower of timm under "visual.trunk."; the rest is as in `open_clip`
    count
};
/// Number of layouts.
inline constexpr std::size_t layout_count = static_cast<std::size_t>(Layout::count);

/// "openai", "open_clip", "huggingface", "siglip", "timm".
inline const char* name_of(Layout layout) {
    constexpr const char* names[layout_count] = {"openai", "open_clip", "huggingface", "siglip", "timm"};
    return names[static_cast<std::size_t>(layout)];
}

/// For messages: "OpenAI's CLIP", "open_clip", "Hugging Face's CLIP" and so on.
inline const char* title_of(Layout layout) {
    constexpr const char* titles[layout_count] = {"OpenAI's CLIP", "open_clip", "Hugging Face's CLIP",
                                                  "Hugging Face's SigLIP", "open_clip with a timm tower"};
    return titles[static_cast<std::size_t>(layout)];
}

/// The layout whose names a layout takes where it has none of its own; itself where there is none.
constexpr Layout parent_of(Layout layout) {
    if (layout == Layout::siglip) return Layout::huggingface;
    if (layout == Layout::timm) return Layout::open_clip;
    return layout == Layout::open_clip ? Layout::openai : layout;
}

/// What a tensor, or a layer of tensors, is in its architecture.
enum class Role {
    logit_scale,  ///< logarithm of the factor of all cosines
    logit_bias,   ///< what is added to all logits (SigLIP)
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
    attention_norm,  ///< in front of the output projection (EVA02)
    attention_out,
    scale_1,  ///< LayerScale of the first branch
    norm_2,
    mlp_in,
    mlp_gate,  ///< of a SwiGLU
    mlp_norm,  ///< in front of mlp_out (EVA02)
    mlp_out,
    scale_2,  ///< LayerScale of the second branch
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
    // Attention pooling with learned queries.
    pool_probe,    ///< the query
    pool_queries,  ///< several, of which the first is read (CoCa)
    pool_in,       ///< queries, keys and values below each other
    pool_norm_query,
    pool_norm_key,
    pool_norm,  ///< in front of the pool's MLP
    pool_mlp_in,
    pool_mlp_out,
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
    positions,       ///< of the image branch: class token and cells, where both have some
    patch,           ///< pixels
    vocabulary,      ///< tokens
    context_length,  ///< positions of a text
    planes,          ///< inner channels of one bottleneck
    input,           ///< channels that go into it
    stem,            ///< channels of a convolutional stem
    kernel_1,        ///< pixels that its first convolution takes
    kernel_2,        ///< of its second
    kernel_3,        ///< of its third
    pooled,          ///< width of an attention pooling
    queries,         ///< learned queries of it
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
    transposed,      ///< (in, out)
    thirds,          ///< three tensors, a third of the rows each; `*` in the name stands for q, k and v
    thirds_no_key,   ///< likewise, but k is not stored: zero
    first_third,     ///< the first third of the rows alone
    last_two_thirds  ///< the other two
};

/// Name and form of a tensor in one layout.
struct Cell {
    const char* name = nullptr;  ///< "": the layout has no place for the tensor; null: as in the layout's parent_of()
    Form form = Form::plain;     ///< how the layout stores it
    /// As in the parent; without a parent there is no place for the tensor.
    constexpr Cell() = default;
    /// The name `n`, stored in the form `f`.
    constexpr Cell(const char* n, Form f = Form::plain) : name(n), form(f) {}
};

/// A cell with OpenAI's name and form.
inline constexpr Cell as_openai{nullptr};
/// A cell without a place for the tensor.
inline constexpr Cell nowhere{""};

/// Whether a file must hold the tensor.
enum class Presence {
    required,
    optional,
    dropped,     ///< may be in files, is left out when a model is read
    alternative  ///< another name or form of a row before it, whose role and part it has
};

/// One tensor of an architecture (of each block, in a group of blocks).
struct Row {
    Role role;                               ///< what it is in the model
    Part part;                               ///< which part of a layer
    Extent shape[4];                         ///< extents, the outermost first
    Cell cells[layout_count];                ///< name and form in each layout
    Presence presence = Presence::required;  ///< whether a file must hold it
};

/// What a layout puts in front of the names of a group, and in which column it finds them.
struct Prefix {
    const char* text = nullptr;     ///< null: as in the parent, without one as OpenAI's
    Layout column = Layout::count;  ///< count: the layout's own
    /// As in the parent.
    constexpr Prefix() = default;
    /// The text `t`; names from the column `c`.
    constexpr Prefix(const char* t, Layout c = Layout::count) : text(t), column(c) {}
};

/// Rows that share a prefix. `#` in the prefix is the number of a block, from 0; of two, the first is that of a stage,
/// from 1.
struct Group {
    Prefix prefix[layout_count];  ///< of each layout
    std::span<const Row> rows;    ///< the tensors of the group
    Index stages = 0;             ///< 0: the prefix has one `#` or none
};

/// The branch of CLIP that an architecture belongs to.
enum class Branch { model, image, text };

/// A branch of the model as a table: all tensors of one kind of encoder.
struct Architecture {
    const char* name;               ///< for people
    Branch branch;                  ///< where it belongs
    std::span<const Group> groups;  ///< its tensors
};

}  // namespace promptkd::schema
