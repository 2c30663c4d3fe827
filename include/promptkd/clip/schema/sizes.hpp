// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/schema/lookup.hpp>

#include <array>
#include <string>

namespace promptkd::schema {

/// The values of the sizes in which an architecture's shapes are written; 0: not known yet.
class Sizes {
public:
    Sizes() { values_[static_cast<std::size_t>(Size::one)] = 1; }

    /// The size; 0 where it is not set.
    Index operator[](Size size) const { return values_[static_cast<std::size_t>(size)]; }
    /// Sets one size.
    Sizes& set(Size size, Index value) {
        values_[static_cast<std::size_t>(size)] = value;
        return *this;
    }

    /// The value of an extent; 0 where its size is not known.
    Index operator[](const Extent& extent) const { return (*this)[extent.size] * extent.times / extent.over; }

    /// Learns the unknown sizes of a row from its tensor's shape, of the row's rank; with `exact` not from a fraction
    /// of a size, which may have been rounded.
    void learn(const Row& row, const Shape& shape, bool exact = false) {
        for (std::size_t axis = 0; axis < shape.size(); ++axis) {
            const Extent& extent = row.shape[axis];
            if (exact && extent.over > 1) continue;
            if ((*this)[extent.size] == 0) set(extent.size, shape[axis] * extent.over / extent.times);
        }
    }

    /// The row's shape with these sizes.
    Shape shape(const Row& row) const;

private:
    std::array<Index, static_cast<std::size_t>(Size::count)> values_{};
};

/// Number of extents.
inline std::size_t rank_of(const Row& row) {
    std::size_t rank = 0;
    while (rank < std::size(row.shape) && row.shape[rank].size != Size::none) ++rank;
    return rank;
}

inline Shape Sizes::shape(const Row& row) const {
    Shape shape;
    for (std::size_t axis = 0; axis < rank_of(row); ++axis) shape.push_back((*this)[row.shape[axis]]);
    return shape;
}

/// Whether every size of the row is known.
inline bool are_known(const Sizes& sizes, const Row& row) {
    for (std::size_t axis = 0; axis < rank_of(row); ++axis)
        if (sizes[row.shape[axis].size] == 0) return false;
    return true;
}

/// `shape` of the form in which a tensor is computed with, as `form` stores it, and the other way round for plain and
/// transposed ones. Of other ranks than the form's as it is.
inline Shape stored_shape(Shape shape, Form form) {
    if (form == Form::transposed && shape.size() == 2) std::swap(shape[0], shape[1]);
    if ((form == Form::thirds || form == Form::thirds_no_key || form == Form::first_third) && !shape.empty())
        shape[0] /= 3;
    if (form == Form::last_two_thirds && !shape.empty()) shape[0] -= shape[0] / 3;
    return shape;
}

namespace detail {

/// Throws Error about the shape of a tensor that stands under OpenAI's name, in the words of the file it came from.
[[noreturn]] inline void refuse_shape(const TensorMap& map, const Weight& w, const Shape& shape,
                                      const std::string& expected) {
    const Layout layout = file_layout(map);
    fail(map.source, ": tensor '", name_of(w, layout), "' has shape ",
         to_string(stored_shape(shape, cell_of(w, layout).form)), expected);
}

}  // namespace detail

/// The shape of a tensor of `map` (OpenAI's names), as it is computed with. Throws Error when it is missing, has
/// another rank or is empty. A single number may have any rank in a file.
inline Shape shape_of(const TensorMap& map, const Weight& w) {
    const auto it = map.tensors.find(name_of(w));
    require(it != map.tensors.end(), map.source, ": tensor '", name_of(w, file_layout(map)), "' is missing");
    const Shape shape = stored_shape(it->second.shape, cell_of(w, Layout::openai).form);
    const std::size_t rank = rank_of(*w.row);
    if (rank == 0 && count_of(shape) == 1) return {};
    if (shape.size() != rank) detail::refuse_shape(map, w, shape, concat(", expected ", rank, " dimensions"));
    if (count_of(shape) == 0) detail::refuse_shape(map, w, shape, ", it is empty");
    return shape;
}

/// A tensor of `map` (OpenAI's names) as files hold it there, checked: present, a floating-point type, and the shape
/// that `sizes` ask for; unknown ones among them are learned. Throws Error in the words of the file it came from.
inline const HostTensor& checked(const TensorMap& map, const Weight& w, Sizes& sizes) {
    const Shape shape = shape_of(map, w);
    sizes.learn(*w.row, shape);
    const Shape expected = sizes.shape(*w.row);
    if (shape != expected) {
        const Form form = cell_of(w, file_layout(map)).form;
        detail::refuse_shape(map, w, shape, ", expected " + to_string(stored_shape(expected, form)));
    }
    const HostTensor& tensor = map.at(name_of(w));
    require(is_floating(tensor.dtype), map.source, ": tensor '", name_of(w, file_layout(map)), "' has dtype ",
            promptkd::name_of(tensor.dtype), ", expected a floating-point type");
    return tensor;
}

/// The sizes that an architecture's tensors outside its blocks tell. Throws Error for a missing one or one of another
/// rank among those that tell something new; whether all fit together shows when they are read.
inline Sizes measure(const TensorMap& map, const Architecture& architecture) {
    Sizes sizes;
    for (const bool exact : {true, false})
        for (const Group& group : architecture.groups)
            for (const Row& row : group.rows) {
                const Weight w{&architecture, &group, &row, {}, -1};
                if (is_repeated(group) || !is_required(map, w) || are_known(sizes, row)) continue;
                sizes.learn(row, shape_of(map, w), exact);
            }
    return sizes;
}

/// The same of an incomplete model: what is missing or has another rank tells nothing, its sizes stay 0.
inline Sizes measure_known(const TensorMap& map, const Architecture& architecture) {
    Sizes sizes;
    for (const bool exact : {true, false})
        for (const Group& group : architecture.groups)
            for (const Row& row : group.rows) {
                const Weight w{&architecture, &group, &row, {}, -1};
                if (is_repeated(group) || !is_required(map, w)) continue;
                const auto it = map.tensors.find(name_of(w));
                if (it == map.tensors.end() || it->second.shape.size() != rank_of(row)) continue;
                sizes.learn(row, stored_shape(it->second.shape, cell_of(w, Layout::openai).form), exact);
            }
    return sizes;
}

/// Width of the MLP in an architecture's first block; 0 where there is none.
inline Index hidden_width(const TensorMap& map, const Architecture& architecture) {
    const auto w = find(architecture, Role::mlp_in, Part::weight, Numbers{});
    return w && map.contains(name_of(*w)) ? shape_of(map, *w)[0] : 0;
}

/// `tensor` transposed where OpenAI's files hold the weight called `name` transposed: from the form in which it is
/// computed with to that of files, and back.
inline HostTensor transposed_in_files(const std::string& name, const HostTensor& tensor) {
    const auto w = parse(name);
    const bool transposed = w && cell_of(*w, Layout::openai).form == Form::transposed && tensor.shape.size() == 2;
    return transposed ? promptkd::detail::transpose(tensor) : tensor;
}

}  // namespace promptkd::schema
