// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/schema.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace promptkd::schema {

/// The number of a block (n), or stage and block (stage, n).
using Numbers = std::array<Index, 2>;

/// One tensor of a model: a row of a table, in which block it is, and which third of it (q, k, v) where a layout keeps
/// them apart (−1: the whole).
struct Weight {
    const Architecture* architecture = nullptr;  ///< whose tensor it is
    const Group* group = nullptr;                ///< its group
    const Row* row = nullptr;                    ///< its row
    Numbers numbers{};                           ///< of the repeated groups around it
    int third = -1;                              ///< which third of a packed tensor; −1: all of it
};

/// What a layout puts in front of a group's names.
inline const char* prefix_of(const Group& group, Layout layout) {
    while (!group.prefix[static_cast<std::size_t>(layout)].text) {
        const Layout parent = parent_of(layout);
        layout = parent == layout ? Layout::openai : parent;
    }
    return group.prefix[static_cast<std::size_t>(layout)].text;
}
/// Name and form of a group's row in a layout.
inline Cell cell_of(const Group& group, const Row& row, Layout layout) {
    const Layout column = group.prefix[static_cast<std::size_t>(layout)].column;
    if (column != Layout::count) layout = column;
    for (;; layout = parent_of(layout)) {
        const Cell& cell = row.cells[static_cast<std::size_t>(layout)];
        if (cell.name) return cell;
        if (parent_of(layout) == layout) return nowhere;
    }
}
/// The same of a tensor.
inline Cell cell_of(const Weight& w, Layout layout) { return cell_of(*w.group, *w.row, layout); }
/// Whether q, k and v are told apart by the `*` of a name.
inline bool is_thirds(Form form) { return form == Form::thirds || form == Form::thirds_no_key; }
/// Whether several tensors of a layout make one, each a part of the rows.
inline bool is_split(Form form) { return form != Form::plain && form != Form::transposed; }

/// Whether the group's rows stand once in each of several blocks.
inline bool is_repeated(const Group& group) {
    return std::string_view(group.prefix[0].text).find('#') != std::string_view::npos;
}

namespace detail {

/// `pattern` with the numbers in place of `#`, and q, k or v (all of them for third −1) in place of `*`.
inline void append_pattern(std::string& out, std::string_view pattern, const Weight& w, std::size_t& number) {
    for (const char c : pattern) {
        if (c == '#')
            out += std::to_string(w.numbers[number++]);
        else if (c != '*')
            out += c;
        else if (w.third < 0)
            out += "{q,k,v}";
        else
            out += "qkv"[w.third];
    }
}

/// A number of one to three digits without leading zeros, taken off the front of `text`.
inline bool take_number(std::string_view& text, Index& number) {
    std::size_t digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
    if (digits == 0 || digits > 3 || (digits > 1 && text[0] == '0')) return false;
    number = 0;
    for (const char digit : text.substr(0, digits)) number = 10 * number + (digit - '0');
    text.remove_prefix(digits);
    return true;
}

/// Takes what `pattern` describes off the front of `text`, its numbers and thirds into `w`; false where it begins
/// otherwise.
inline bool take_pattern(std::string_view& text, std::string_view pattern, Weight& w, std::size_t& number) {
    for (const char c : pattern) {
        if (c == '#') {
            if (!take_number(text, w.numbers[number++])) return false;
            continue;
        }
        if (text.empty()) return false;
        if (c == '*') {
            const std::size_t third = std::string_view("qkv").find(text[0]);
            if (third == std::string_view::npos) return false;
            w.third = static_cast<int>(third);
        } else if (text[0] != c) {
            return false;
        }
        text.remove_prefix(1);
    }
    return true;
}

}  // namespace detail

/// The tensor's name in a layout, empty where that has no place for it.
inline std::string name_of(const Weight& w, Layout layout = Layout::openai) {
    const Cell cell = cell_of(w, layout);
    std::string name;
    if (*cell.name == '\0') return name;
    std::size_t number = 0;
    detail::append_pattern(name, prefix_of(*w.group, layout), w, number);
    detail::append_pattern(name, cell.name, w, number);
    return name;
}

/// What the names of a group's blocks begin with, up to the first number.
inline std::string block_prefix(const Weight& w, Layout layout = Layout::openai) {
    const std::string_view prefix = prefix_of(*w.group, layout);
    return std::string(prefix.substr(0, prefix.find('#')));
}

/// The tensor that a layout calls `name`, in one architecture.
inline std::optional<Weight> parse(const Architecture& architecture, std::string_view name,
                                   Layout layout = Layout::openai) {
    for (const Group& group : architecture.groups) {
        Weight w{&architecture, &group, nullptr, {}, -1};
        std::size_t number = 0;
        std::string_view rest = name;
        if (!detail::take_pattern(rest, prefix_of(group, layout), w, number)) continue;
        if (group.stages > 0 && (w.numbers[0] < 1 || w.numbers[0] > group.stages)) continue;
        for (const Row& row : group.rows) {
            const Cell cell = cell_of(group, row, layout);
            if (*cell.name == '\0') continue;
            w.third = -1;
            std::string_view tail = rest;
            if (!detail::take_pattern(tail, cell.name, w, number) || !tail.empty()) continue;
            w.row = &row;
            return w;
        }
    }
    return std::nullopt;
}

/// The same in any architecture. Two architectures may share a name; then its form is the same in both.
inline std::optional<Weight> parse(std::string_view name, Layout layout = Layout::openai) {
    for (const Architecture* architecture : architectures)
        if (const auto w = parse(*architecture, name, layout)) return w;
    return std::nullopt;
}

/// The tensor of a role; nothing where the architecture has none (a layer without a bias, for example). Roles of a
/// repeated group need the numbers of their block, others none.
inline std::optional<Weight> find(const Architecture& architecture, Role role, Part part = Part::weight,
                                  std::optional<Numbers> numbers = std::nullopt) {
    for (const Group& group : architecture.groups) {
        if (is_repeated(group) != numbers.has_value()) continue;
        for (const Row& row : group.rows)
            if (row.role == role && row.part == part)
                return Weight{&architecture, &group, &row, numbers.value_or(Numbers{}), -1};
    }
    return std::nullopt;
}

/// Whether `map` (OpenAI's names) holds the tensor of a role; see find().
inline bool holds(const TensorMap& map, const Architecture& architecture, Role role, Part part = Part::weight,
                  std::optional<Numbers> numbers = std::nullopt) {
    const auto w = find(architecture, role, part, numbers);
    return w && map.contains(name_of(*w));
}

/// The name of a role's tensor outside the blocks, under OpenAI's names.
inline std::string name_of(const Architecture& architecture, Role role, Part part = Part::weight) {
    const auto w = find(architecture, role, part);
    require(w.has_value(), architecture.name, " has no such tensor");
    return name_of(*w);
}

/// Blocks of a repeated group (of one stage) in `map`, counted by the largest number found, so that a gap shows.
inline Index count_blocks(const TensorMap& map, const Architecture& architecture, Index stage = 0) {
    Index n = 0;
    for (const auto& named : map.tensors) {
        const auto w = parse(architecture, named.first);
        if (!w || !is_repeated(*w->group) || (stage > 0 && w->numbers[0] != stage)) continue;
        n = std::max(n, w->numbers[stage > 0 ? 1 : 0] + 1);
    }
    return n;
}

/// The image branch whose tensors `map` (OpenAI's names) holds; null where it holds none.
inline const Architecture* image_architecture(const TensorMap& map) {
    const Architecture* best = nullptr;
    Index most = 0;
    for (const Architecture* architecture : architectures) {
        if (architecture->branch != Branch::image) continue;
        Index found = 0;
        for (const auto& named : map.tensors) found += parse(*architecture, named.first) ? 1 : 0;
        if (found > most) {
            best = architecture;
            most = found;
        }
    }
    return best;
}

/// Whether the image branch is a vision transformer.
inline bool has_vision_transformer(const TensorMap& map) { return image_architecture(map) == &vision_transformer; }
/// Whether there is a text branch.
inline bool has_text_branch(const TensorMap& map) { return map.contains(name_of(text_transformer, Role::token_table)); }

/// Whether OpenAI calls a weight of the image branch so.
inline bool is_image_weight(std::string_view name) {
    return std::any_of(std::begin(architectures), std::end(architectures),
                       [&](const Architecture* a) { return a->branch == Branch::image && parse(*a, name); });
}

/// The tensor of which `w` is another name or form; `w` itself where it is none.
inline Weight original_of(const Weight& w) {
    if (w.row->presence != Presence::alternative) return w;
    Weight original = w;
    original.row =
        find(*w.architecture, w.row->role, w.row->part, is_repeated(*w.group) ? std::optional(w.numbers) : std::nullopt)
            ->row;
    return original;
}

/// Whether the description of a tower (metadata `vision_without`, `text_without`, names of roles) says that it does
/// without the tensor.
inline bool is_described_absent(const TensorMap& map, const Weight& w) {
    const bool image = w.architecture->branch == Branch::image;
    const auto without = map.metadata.find(image ? "vision_without" : "text_without");
    if (w.architecture->branch == Branch::model || without == map.metadata.end()) return false;
    const char* name = w.row->role == Role::patch_embedding ? "patch_embedding"
                       : w.row->role == Role::class_token   ? "class_token"
                       : w.row->role == Role::first_norm    ? "first_norm"
                       : w.row->role == Role::last_norm     ? "last_norm"
                       : w.row->role == Role::projection    ? "projection"
                                                            : nullptr;
    return name && (" " + without->second + " ").find(concat(" ", name, " ")) != std::string::npos;
}

/// Whether `map` must hold the tensor.
inline bool is_required(const TensorMap& map, const Weight& w) {
    return w.row->presence == Presence::required && !is_described_absent(map, w);
}

/// Whether `map` holds weights of the image branch under `prefix` and OpenAI's names.
inline bool has_image_weights(const TensorMap& map, const std::string& prefix = "") {
    auto it = map.tensors.lower_bound(prefix);
    for (; it != map.tensors.end() && it->first.starts_with(prefix); ++it)
        if (is_image_weight(std::string_view(it->first).substr(prefix.size()))) return true;
    return false;
}

/// What a student needs of a CLIP model: the image branch and the logit scale.
inline bool is_student_weight(std::string_view name) {
    return is_image_weight(name) || name == name_of(model, Role::logit_scale);
}

namespace detail {

/// Whether one of the names by which a model is known is there: of the patch embedding, of the first convolution of a
/// stem, of the token embedding.
inline bool has_beginning(const TensorMap& map, Layout layout) {
    for (const Architecture* architecture : architectures)
        for (const Role role : {Role::patch_embedding, Role::convolution_1, Role::token_table}) {
            const auto w = find(*architecture, role);
            if (w && map.contains(name_of(*w, layout))) return true;
        }
    return false;
}

}  // namespace detail

/// Whose names these are; nothing where no CLIP model is among them: the layout that knows most of them among those of
/// whose beginning there is a tensor, the first one of several.
inline std::optional<Layout> layout_of(const TensorMap& map) {
    std::optional<Layout> found;
    Index most = 0;
    for (std::size_t i = 0; i < layout_count; ++i) {
        const Layout layout = static_cast<Layout>(i);
        if (!detail::has_beginning(map, layout)) continue;
        const Index known = std::count_if(map.tensors.begin(), map.tensors.end(),
                                          [&](const auto& named) { return parse(named.first, layout).has_value(); });
        if (known <= most) continue;
        found = layout;
        most = known;
    }
    return found;
}

/// The layout of the file from which `map` was read, by its metadata `naming`: for messages.
inline Layout file_layout(const TensorMap& map) {
    const auto naming = map.metadata.find("naming");
    for (std::size_t i = 0; naming != map.metadata.end() && i < layout_count; ++i)
        if (naming->second == name_of(static_cast<Layout>(i))) return static_cast<Layout>(i);
    return Layout::openai;
}

}  // namespace promptkd::schema
