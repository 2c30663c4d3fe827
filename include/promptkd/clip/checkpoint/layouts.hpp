// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/schema/sizes.hpp>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace promptkd {

namespace detail {

inline HostTensor transposed_matrix(const HostTensor& tensor, const std::string& name, const std::string& source) {
    require(tensor.shape.size() == 2, source, ": tensor '", name, "' has shape ", to_string(tensor.shape),
            ", expected a matrix");
    return transpose(tensor);
}

/// q, k and v below each other.
inline HostTensor stack_thirds(const std::array<const HostTensor*, 3>& parts, const std::string& name,
                               const std::string& source) {
    for (const HostTensor* part : parts) {
        require(part != nullptr, source, ": of the three parts (q, k, v) of '", name, "' one is missing");
        require(part->shape == parts[0]->shape && part->dtype == parts[0]->dtype && !part->shape.empty(), source,
                ": the three parts (q, k, v) of '", name, "' differ in shape or type");
    }
    auto bytes = std::make_shared<std::vector<std::byte>>(3 * parts[0]->size_bytes());
    std::byte* to = bytes->data();
    for (const HostTensor* part : parts) {
        if (part->size_bytes() > 0) std::memcpy(to, part->bytes, part->size_bytes());
        to += part->size_bytes();
        release_pages(*part);
    }
    HostTensor out;
    out.dtype = parts[0]->dtype;
    out.shape = parts[0]->shape;
    out.shape[0] *= 3;
    out.bytes = bytes->data();
    out.owner = std::move(bytes);
    return out;
}

/// One third of the rows of `tensor`, a view.
inline HostTensor third_of(const HostTensor& tensor, int third) {
    HostTensor part = tensor;
    part.shape[0] /= 3;
    part.bytes += static_cast<std::size_t>(third) * part.size_bytes();
    return part;
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
    std::map<std::string, std::array<const HostTensor*, 3>> thirds;
    std::map<std::string, std::string> shown;  // how their names are shown
    for (const auto& [name, tensor] : in.tensors) {
        auto w = schema::parse(name, layout);
        if (!w) {
            detail::insert_once(out, name, tensor, layout);
            continue;
        }
        if (w->row->presence == schema::Presence::dropped) continue;
        const std::string openai = schema::name_of(*w);
        const schema::Form form = schema::cell_of(*w->row, layout).form;
        if (form == schema::Form::thirds) {
            thirds[openai][static_cast<std::size_t>(std::exchange(w->third, -1))] = &tensor;
            shown[openai] = schema::name_of(*w, layout);
        } else if (form != schema::cell_of(*w->row, schema::Layout::openai).form) {
            detail::insert_once(out, openai, detail::transposed_matrix(tensor, name, in.source), layout);
        } else {
            detail::insert_once(out, openai, tensor, layout);
        }
    }
    for (const auto& [name, parts] : thirds)
        detail::insert_once(out, name, detail::stack_thirds(parts, shown[name], in.source), layout);
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
        const schema::Form form = schema::cell_of(*w->row, layout).form;
        if (form == schema::Form::thirds) {
            require(!tensor.shape.empty() && tensor.shape[0] % 3 == 0, in.source, ": tensor '", name, "' has shape ",
                    to_string(tensor.shape), ", expected q, k and v below each other");
            for (w->third = 0; w->third < 3; ++w->third)
                out.tensors[schema::name_of(*w, layout)] = detail::third_of(tensor, w->third);
        } else if (form != schema::cell_of(*w->row, schema::Layout::openai).form) {
            out.tensors[there] = detail::transposed_matrix(tensor, name, in.source);
        } else {
            out.tensors[there] = tensor;
        }
    }
    return out;
}

}  // namespace promptkd
