// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/schema/sizes.hpp>
#include <promptkd/format/json_text.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace promptkd {

/// Metadata that lists the tensors of a file that were left out when it was read: a JSON list of their names.
inline constexpr const char* dropped_tensors_key = "dropped_tensors";

namespace detail {

inline HostTensor transposed_matrix(const HostTensor& tensor, const std::string& name, const std::string& source) {
    require(tensor.shape.size() == 2, source, ": tensor '", name, "' has shape ", to_string(tensor.shape),
            ", expected a matrix");
    return transpose(tensor);
}

/// A tensor whose rows several tensors of a file hold: queries, keys, values.
struct Thirds {
    std::array<HostTensor, 3> parts;  ///< without an element type: not seen yet
    std::array<bool, 3> seen{};       ///< whether the part was there
    bool may_lack_key = false;        ///< a key that is not there is zero
    std::string shown;                ///< its name, for messages

    /// Takes part `third`.
    void set(int third, const HostTensor& tensor) {
        parts[static_cast<std::size_t>(third)] = tensor;
        seen[static_cast<std::size_t>(third)] = true;
    }
};

/// q, k and v below each other.
inline HostTensor stack_thirds(const Thirds& thirds, const std::string& source) {
    const HostTensor& first = thirds.parts[0];
    for (std::size_t i = 0; i < 3; ++i) {
        if (i == 1 && thirds.may_lack_key && !thirds.seen[i]) continue;
        const HostTensor& part = thirds.parts[i];
        require(thirds.seen[i], source, ": of the three parts (q, k, v) of '", thirds.shown, "' one is missing");
        require(part.shape == first.shape && part.dtype == first.dtype && !part.shape.empty(), source,
                ": the three parts (q, k, v) of '", thirds.shown, "' differ in shape or type");
    }
    auto bytes = std::make_shared<std::vector<std::byte>>(3 * first.size_bytes());
    for (std::size_t i = 0; i < 3; ++i) {
        const HostTensor& part = thirds.parts[i];
        if (!thirds.seen[i] || part.size_bytes() == 0) continue;
        std::memcpy(bytes->data() + i * first.size_bytes(), part.bytes, part.size_bytes());
        release_pages(part);
    }
    HostTensor out;
    out.dtype = first.dtype;
    out.shape = first.shape;
    out.shape[0] *= 3;
    out.bytes = bytes->data();
    out.owner = std::move(bytes);
    return out;
}

/// Part `i` of `n` equal parts of the rows of `tensor`, a view.
inline HostTensor part_of(const HostTensor& tensor, int i, Index n) {
    HostTensor part = tensor;
    part.shape[0] /= n;
    part.bytes += static_cast<std::size_t>(i) * part.size_bytes();
    return part;
}

/// Takes a tensor of a split form into the parts of its whole.
inline void collect_third(const HostTensor& tensor, schema::Form form, int third, const std::string& source,
                          Thirds& to) {
    if (form == schema::Form::first_third) return to.set(0, tensor);
    if (form != schema::Form::last_two_thirds) return to.set(third, tensor);
    require(!tensor.shape.empty() && tensor.shape[0] % 2 == 0, source, ": tensor '", to.shown, "' has shape ",
            to_string(tensor.shape), ", expected k and v below each other");
    to.set(1, part_of(tensor, 0, 2));
    to.set(2, part_of(tensor, 1, 2));
}

/// Without leading extents of 1 beyond the row's rank: libraries store vectors as (1, 1, d).
inline HostTensor squeezed(HostTensor tensor, const schema::Row& row) {
    while (tensor.shape.size() > std::max<std::size_t>(1, schema::rank_of(row)) && tensor.shape[0] == 1)
        tensor.shape.erase(tensor.shape.begin());
    return tensor;
}

inline void insert_once(TensorMap& out, const std::string& name, const HostTensor& tensor, schema::Layout layout) {
    require(out.tensors.emplace(name, tensor).second, out.source, ": tensor '", name,
            "' is there twice, with and without the naming of ", schema::title_of(layout));
}

}  // namespace detail

/// The same model under OpenAI's names from those of `layout`: thirds joined, transposed matrices turned, buffers that
/// no computation reads left out. Tensors with other names are kept as they are. Values and types do not change, and
/// what needs no new form stays where it is. Throws Error for parts that are missing or differ, and for a tensor that
/// is there under two names.
inline TensorMap to_openai(const TensorMap& in, schema::Layout layout) {
    TensorMap out;
    out.metadata = in.metadata;
    out.source = in.source;
    std::map<std::string, detail::Thirds> thirds;
    nlohmann::json dropped = nlohmann::json::array();
    for (const auto& [name, given] : in.tensors) {
        auto w = schema::parse(name, layout);
        if (!w) {
            detail::insert_once(out, name, given, layout);
            continue;
        }
        if (w->row->presence == schema::Presence::dropped) {
            dropped.push_back(name);
            continue;
        }
        const HostTensor tensor = detail::squeezed(given, *w->row);
        const schema::Form form = schema::cell_of(*w, layout).form;
        const int third = std::exchange(w->third, -1);
        const schema::Weight whole = schema::original_of(*w);
        const std::string openai = schema::name_of(whole);
        if (schema::is_split(form)) {
            detail::Thirds& to = thirds[openai];
            to.shown = schema::name_of(*w, layout);
            to.may_lack_key = form == schema::Form::thirds_no_key;
            detail::collect_third(tensor, form, third, in.source, to);
        } else if (form != schema::cell_of(whole, schema::Layout::openai).form) {
            detail::insert_once(out, openai, detail::transposed_matrix(tensor, name, in.source), layout);
        } else {
            detail::insert_once(out, openai, tensor, layout);
        }
    }
    for (const auto& [name, parts] : thirds)
        detail::insert_once(out, name, detail::stack_thirds(parts, in.source), layout);
    out.metadata.erase(dropped_tensors_key);
    if (!dropped.empty()) out.metadata[dropped_tensors_key] = json_text(dropped);
    return out;
}

/// The same model under the names of `layout`, from OpenAI's. Throws Error naming a tensor that has no place there (a
/// ResNet's in Hugging Face's CLIP, for example).
inline TensorMap from_openai(const TensorMap& in, schema::Layout layout) {
    TensorMap out;
    out.metadata = in.metadata;
    out.source = in.source;
    for (const auto& [name, tensor] : in.tensors) {
        auto w = schema::parse(name);
        const std::string there = w ? schema::name_of(*w, layout) : "";
        require(!there.empty(), in.source, ": tensor '", name, "' would be lost: ", schema::title_of(layout),
                " has no place for it");
        const schema::Form form = schema::cell_of(*w, layout).form;
        if (form == schema::Form::thirds) {
            require(!tensor.shape.empty() && tensor.shape[0] % 3 == 0, in.source, ": tensor '", name, "' has shape ",
                    to_string(tensor.shape), ", expected q, k and v below each other");
            for (w->third = 0; w->third < 3; ++w->third)
                out.tensors[schema::name_of(*w, layout)] = detail::part_of(tensor, w->third, 3);
        } else if (form != schema::cell_of(*w, schema::Layout::openai).form) {
            out.tensors[there] = detail::transposed_matrix(tensor, name, in.source);
        } else {
            out.tensors[there] = tensor;
        }
    }
    return out;
}

}  // namespace promptkd
