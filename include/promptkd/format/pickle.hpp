// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/format/pickle_opcodes.hpp>

#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace promptkd {

/// What a pickle may cost. The defaults are far above any checkpoint.
struct PickleLimits {
    std::size_t bytes = std::size_t{64} << 20;  ///< length of the pickle
    std::size_t nodes = 1'000'000;              ///< values
    std::size_t depth = 1000;                   ///< open marks
};

/// The values of one pickle, protocols 2 to 5 (PEP 307, 3154, 574), as data. Nothing is ever imported or called: a
/// global is its name, and what would be built by calling one is an Object that keeps callee, arguments, items and
/// state. Ordinary containers (dict, OrderedDict, defaultdict, list, tuple, set) come out as such. Values refer to each
/// other by number, so neither parsing nor destruction recurses, and cycles are harmless. Texts point into the parsed
/// bytes, which must outlive it.
class Pickle {
public:
    /// Number of a value.
    using Ref = std::uint32_t;
    /// What a value is.
    enum class Kind : std::uint8_t {
        none,
        boolean,
        integer,
        big_integer,
        real,
        text,
        bytes,
        list,
        tuple,
        dict,
        set,
        global,
        object,
        persistent
    };

    /// One value.
    struct Node {
        Kind kind = Kind::none;    ///< what it is
        std::int64_t integer = 0;  ///< boolean, integer
        double real = 0;           ///< real
        std::string_view text;     ///< text, bytes, big_integer (little-endian); global: its module
        std::string_view name;     ///< global: its name in the module
        std::vector<Ref> items;    ///< list, tuple, set; dict and object: key, value, key, value, …
        Ref callee = 0;            ///< object: the global that would have been called; persistent: its identification
        Ref arguments = 0;         ///< object: the tuple it would have been called with
        Ref state = 0;             ///< what BUILD gave (0: nothing)
    };

    /// Parses the pickle at the start of `bytes`; `used`, if given, receives its length. Throws Error naming `where`,
    /// the byte and the reason for anything truncated, out of order, unknown or beyond `limits`.
    static Pickle parse(std::string_view bytes, const std::string& where, std::size_t* used = nullptr,
                        const PickleLimits& limits = {});

    /// The value that the pickle is.
    Ref root() const { return root_; }
    /// Value number `ref`.
    const Node& operator[](Ref ref) const { return nodes_[ref]; }
    /// Number of values.
    std::size_t size() const { return nodes_.size(); }

    /// Whether a value is this text.
    bool is_text(Ref ref, std::string_view value) const {
        return nodes_[ref].kind == Kind::text && nodes_[ref].text == value;
    }
    /// Whether a value is this global.
    bool is_global(Ref ref, std::string_view module, std::string_view name) const {
        const Node& node = nodes_[ref];
        return node.kind == Kind::global && node.text == module && node.name == name;
    }

    /// The value under the text key `key` of a dictionary (the last one given), or 0.
    Ref find(Ref dict, std::string_view key) const {
        const Node& node = nodes_[dict];
        for (std::size_t i = node.items.size() / 2 * 2; node.kind == Kind::dict && i >= 2; i -= 2)
            if (is_text(node.items[i - 2], key)) return node.items[i - 1];
        return 0;
    }

private:
    class Machine;
    std::vector<Node> nodes_{Node{}};  ///< node 0 is None
    Ref root_ = 0;
};

/// The stack machine that runs the opcodes.
class Pickle::Machine {
public:
    /// Fills `out` from `bytes`.
    Machine(Pickle& out, std::string_view bytes, const std::string& where, const PickleLimits& limits)
        : out_(out), in_(bytes, where), limits_(limits) {}

    /// Runs to STOP. Returns the length of the pickle; throws Error as parse() says.
    std::size_t run() {
        require(in_.size() > 0 && in_.peek() == static_cast<std::uint8_t>(detail::Opcode::proto), in_.where(),
                ": not a pickle of protocol 2 or newer");
        for (;;) {
            in_.begin_opcode();
            const auto opcode = static_cast<detail::Opcode>(in_.u8());
            if (opcode == detail::Opcode::stop) break;
            if (!value(opcode) && !container(opcode) && !memory(opcode) && !call(opcode)) in_.fail_unknown();
        }
        in_.check(marks_.empty(), "STOP inside an open mark");
        in_.check(stack_.size() == 1, "STOP with ", stack_.size(), " values on the stack, expected 1");
        out_.root_ = stack_.back();
        return in_.position();
    }

private:
    using Op = detail::Opcode;

    Ref add(Node node) {
        in_.check(out_.nodes_.size() < limits_.nodes, "more than ", limits_.nodes, " values");
        out_.nodes_.push_back(std::move(node));
        return static_cast<Ref>(out_.nodes_.size() - 1);
    }
    Node make(Kind kind) const {
        Node node;
        node.kind = kind;
        return node;
    }
    bool push(Ref ref) {
        in_.check(stack_.size() < limits_.nodes, "more than ", limits_.nodes, " values on the stack");
        stack_.push_back(ref);
        return true;
    }
    bool push_new(Node node) { return push(add(std::move(node))); }
    bool push_integer(std::int64_t value, Kind kind = Kind::integer) {
        Node node = make(kind);
        node.integer = value;
        return push_new(std::move(node));
    }
    bool push_text(Kind kind, std::string_view text) {
        Node node = make(kind);
        node.text = text;
        return push_new(std::move(node));
    }

    /// Values above the innermost mark may be popped, those below may not.
    std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
    Ref top() const {
        in_.check(stack_.size() > floor(), "the stack is empty (opcodes out of order)");
        return stack_.back();
    }
    Ref pop() {
        const Ref ref = top();
        stack_.pop_back();
        return ref;
    }
    std::vector<Ref> pop_to_mark() {
        in_.check(!marks_.empty(), "no open mark (opcodes out of order)");
        std::vector<Ref> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
        stack_.resize(marks_.back());
        marks_.pop_back();
        return items;
    }
    std::vector<Ref> pop_count(std::size_t n) {
        in_.check(stack_.size() >= floor() + n, "the stack is too short (opcodes out of order)");
        std::vector<Ref> items(stack_.end() - static_cast<std::ptrdiff_t>(n), stack_.end());
        stack_.resize(stack_.size() - n);
        return items;
    }

    bool value(Op opcode) {
        switch (opcode) {
            case Op::proto: {
                const int version = in_.u8();
                in_.check(version >= 2 && version <= 5, "protocol ", version, ", expected 2 to 5");
                return true;
            }
            case Op::frame:
                in_.check(in_.u64() <= in_.remaining(), "the frame is longer than the pickle");
                return true;
            case Op::none:
                return push(0);
            case Op::newtrue:
                return push_integer(1, Kind::boolean);
            case Op::newfalse:
                return push_integer(0, Kind::boolean);
            case Op::binint:
                return push_integer(static_cast<std::int32_t>(in_.u32()));
            case Op::binint1:
                return push_integer(in_.u8());
            case Op::binint2:
                return push_integer(in_.u16());
            case Op::long1:
                return long_integer(in_.bytes(in_.u8()));
            case Op::long4:
                return long_integer(in_.bytes(in_.u32()));
            case Op::binfloat: {
                Node node = make(Kind::real);
                node.real = in_.big_endian_double();
                return push_new(std::move(node));
            }
            case Op::short_binunicode:
            case Op::short_binstring:
                return push_text(Kind::text, in_.bytes(in_.u8()));
            case Op::binunicode:
            case Op::binstring:
                return push_text(Kind::text, in_.bytes(in_.u32()));
            case Op::binunicode8:
                return push_text(Kind::text, in_.bytes(in_.u64()));
            case Op::short_binbytes:
                return push_text(Kind::bytes, in_.bytes(in_.u8()));
            case Op::binbytes:
                return push_text(Kind::bytes, in_.bytes(in_.u32()));
            case Op::binbytes8:
            case Op::bytearray8:
                return push_text(Kind::bytes, in_.bytes(in_.u64()));
            default:
                return false;
        }
    }

    bool long_integer(std::string_view bytes) {
        if (bytes.size() > 8) return push_text(Kind::big_integer, bytes);
        std::uint64_t bits = 0;
        for (std::size_t i = 0; i < bytes.size(); ++i)
            bits |= std::uint64_t{static_cast<std::uint8_t>(bytes[i])} << (8 * i);
        const std::size_t width = 8 * bytes.size();
        if (width > 0 && width < 64 && (bits >> (width - 1)) != 0) bits |= ~std::uint64_t{0} << width;  // sign
        return push_integer(static_cast<std::int64_t>(bits));
    }

    bool container(Op opcode) {
        switch (opcode) {
            case Op::mark:
                in_.check(marks_.size() < limits_.depth, "more than ", limits_.depth, " open marks");
                marks_.push_back(stack_.size());
                return true;
            case Op::pop:
                if (stack_.size() == floor() && !marks_.empty())
                    marks_.pop_back();
                else
                    pop();
                return true;
            case Op::pop_mark:
                pop_to_mark();
                return true;
            case Op::dup:
                return push(top());
            case Op::empty_tuple:
                return push_new(make(Kind::tuple));
            case Op::tuple:
                return push_items(Kind::tuple, pop_to_mark());
            case Op::tuple1:
                return push_items(Kind::tuple, pop_count(1));
            case Op::tuple2:
                return push_items(Kind::tuple, pop_count(2));
            case Op::tuple3:
                return push_items(Kind::tuple, pop_count(3));
            case Op::empty_list:
                return push_new(make(Kind::list));
            case Op::list:
                return push_items(Kind::list, pop_to_mark());
            case Op::append:
                return extend(pop_count(1), Kind::list);
            case Op::appends:
                return extend(pop_to_mark(), Kind::list);
            case Op::empty_dict:
                return push_new(make(Kind::dict));
            case Op::dict: {
                std::vector<Ref> items = pop_to_mark();
                in_.check(items.size() % 2 == 0, "a dictionary with a key but no value");
                return push_items(Kind::dict, std::move(items));
            }
            case Op::setitem:
                return extend(pop_count(2), Kind::dict);
            case Op::setitems:
                return extend(pop_to_mark(), Kind::dict);
            case Op::empty_set:
                return push_new(make(Kind::set));
            case Op::frozenset:
                return push_items(Kind::set, pop_to_mark());
            case Op::additems:
                return extend(pop_to_mark(), Kind::set);
            default:
                return false;
        }
    }

    bool push_items(Kind kind, std::vector<Ref> items) {
        Node node = make(kind);
        node.items = std::move(items);
        return push_new(std::move(node));
    }

    /// Adds to the container on top; an object of an unknown class takes them too (it may derive from that container).
    bool extend(const std::vector<Ref>& items, Kind kind) {
        Node& node = out_.nodes_[top()];
        in_.check(node.kind == kind || node.kind == Kind::object,
                  "items for a value that cannot hold them (opcodes out of order)");
        in_.check(kind != Kind::dict || items.size() % 2 == 0, "a dictionary with a key but no value");
        if (node.kind == kind || kind == Kind::dict) node.items.insert(node.items.end(), items.begin(), items.end());
        return true;
    }

    bool memory(Op opcode) {
        switch (opcode) {
            case Op::memoize:
                return put(static_cast<std::uint32_t>(memo_.size()));
            case Op::binput:
                return put(in_.u8());
            case Op::long_binput:
                return put(in_.u32());
            case Op::binget:
                return get(in_.u8());
            case Op::long_binget:
                return get(in_.u32());
            default:
                return false;
        }
    }

    bool put(std::uint32_t index) {
        memo_[index] = top();
        return true;
    }
    bool get(std::uint32_t index) {
        const auto it = memo_.find(index);
        in_.check(it != memo_.end(), "memo entry ", index, " was never written (opcodes out of order)");
        return push(it->second);
    }

    bool call(Op opcode) {
        switch (opcode) {
            case Op::global: {
                const std::string_view module = in_.line();
                return push_global(module, in_.line());
            }
            case Op::stack_global: {
                const std::vector<Ref> names = pop_count(2);
                const Node &module = out_.nodes_[names[0]], &name = out_.nodes_[names[1]];
                in_.check(module.kind == Kind::text && name.kind == Kind::text, "STACK_GLOBAL without two texts");
                return push_global(module.text, name.text);
            }
            case Op::reduce:
            case Op::newobj: {
                const std::vector<Ref> parts = pop_count(2);
                return construct(parts[0], parts[1]);
            }
            case Op::newobj_ex: {
                const std::vector<Ref> parts = pop_count(3);
                return construct(parts[0], parts[1]);
            }
            case Op::build: {
                const Ref state = pop();
                out_.nodes_[top()].state = top() == 0 ? 0 : state;
                return true;
            }
            case Op::binpersid: {
                Node node = make(Kind::persistent);
                node.callee = pop();
                return push_new(std::move(node));
            }
            default:
                return false;
        }
    }

    bool push_global(std::string_view module, std::string_view name) {
        Node node = make(Kind::global);
        node.text = module;
        node.name = name;
        return push_new(std::move(node));
    }

    /// What calling `callee` would have made: a known container, else an opaque object.
    bool construct(Ref callee, Ref arguments) {
        const Kind kind = out_.nodes_[callee].kind;
        in_.check(kind == Kind::global || kind == Kind::object,
                  "a call of something that is no global (opcodes out of order)");
        in_.check(out_.nodes_[arguments].kind == Kind::tuple, "a call whose arguments are no tuple");
        if (is_dictionary(callee)) return push_items(Kind::dict, pairs(arguments));
        Node node = make(Kind::object);
        node.callee = callee;
        node.arguments = arguments;
        return push_new(std::move(node));
    }

    bool is_dictionary(Ref callee) const {
        return out_.is_global(callee, "collections", "OrderedDict") ||
               out_.is_global(callee, "collections", "defaultdict") || out_.is_global(callee, "__builtin__", "dict") ||
               out_.is_global(callee, "builtins", "dict");
    }

    /// OrderedDict([[key, value], …]), as Python 2 wrote it; other arguments (defaultdict's factory) mean an empty one.
    std::vector<Ref> pairs(Ref arguments) {
        std::vector<Ref> items;
        const Node& tuple = out_.nodes_[arguments];
        if (tuple.items.size() != 1 || out_.nodes_[tuple.items[0]].kind != Kind::list) return items;
        for (const Ref entry : out_.nodes_[tuple.items[0]].items) {
            const Node& pair = out_.nodes_[entry];
            in_.check((pair.kind == Kind::list || pair.kind == Kind::tuple) && pair.items.size() == 2,
                      "a dictionary entry that is no pair");
            items.insert(items.end(), pair.items.begin(), pair.items.end());
            in_.check(++copied_pairs_ <= limits_.nodes, "more than ", limits_.nodes, " values");
        }
        return items;
    }

    Pickle& out_;
    detail::OpcodeReader in_;
    const PickleLimits& limits_;
    std::vector<Ref> stack_;
    std::vector<std::size_t> marks_;
    std::size_t copied_pairs_ = 0;  ///< one list may be named again and again, so its copies are counted together
    std::unordered_map<std::uint32_t, Ref> memo_;
};

inline Pickle Pickle::parse(std::string_view bytes, const std::string& where, std::size_t* used,
                            const PickleLimits& limits) {
    Pickle pickle;
    Machine machine(pickle, bytes.substr(0, limits.bytes), where, limits);
    const std::size_t length = machine.run();
    if (used) *used = length;
    return pickle;
}

}  // namespace promptkd
