// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/torch_tensors.hpp>

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd::detail {

/// Collects the named tensors of a pickle that torch wrote: a dictionary of tensors, a checkpoint around one under any
/// key ({"state_dict": …, "epoch": …}, {"model": …, "optimizer": …}), or a tree of module objects (TorchScript; pickled
/// modules), whose attribute names are joined with ".". Of several dictionaries the one with the most tensors is taken;
/// metadata `state_key` names it, `state_copies` those with the same names (averages of the weights), which are not
/// read.
class TorchTree {
public:
    using Ref = Pickle::Ref;
    using Kind = Pickle::Kind;

    TorchTree(const Pickle& pickle, TorchTensors& tensors, TensorMap& out)
        : pickle_(pickle), tensors_(tensors), out_(out) {}

    void collect() {
        const Ref root = pickle_.root();
        if (pickle_[root].kind == Kind::object) return collect_modules(root);
        require(pickle_[root].kind == Kind::dict, out_.source, ": holds neither a dictionary of tensors nor a module");
        const Ref inner = pickle_.find(root, "state_dict");
        require(inner == 0 || pickle_[inner].kind == Kind::object || pickle_[inner].kind == Kind::dict, out_.source,
                ": its 'state_dict' is not a dictionary");
        if (inner != 0 && pickle_[inner].kind == Kind::object) {
            collect_notes(root);
            return collect_modules(inner);
        }
        const std::vector<State> states = find_states(root);
        if (states.empty()) return collect_module_of(root);
        const State& best = choose(states);
        if (best.ref != root) collect_notes(root);
        if (!best.key.empty() && best.key != "state_dict") out_.metadata["state_key"] = best.key;
        collect_dictionary(best.ref);
    }

private:
    static constexpr std::size_t visit_limit = 1'000'000, depth_limit = 64;

    struct Pending {
        Ref ref;
        std::string prefix;
        std::size_t depth;
    };

    /// A dictionary of tensors: where it stands, and the names in it.
    struct State {
        Ref ref;
        std::string key;
        std::size_t depth;
        std::set<std::string> names;
    };

    static bool is_average(const std::string& key) {
        for (const char* word : {"ema", "EMA", "average", "swa", "shadow"})
            if (key.find(word) != std::string::npos) return true;
        return false;
    }

    /// The dictionaries at most four keys deep that hold tensors themselves.
    std::vector<State> find_states(Ref root) const {
        std::vector<State> found, pending{{root, "", 0, {}}};
        std::set<Ref> seen;
        for (std::size_t at = 0; at < pending.size(); ++at) {
            State state = pending[at];
            if (!seen.insert(state.ref).second) continue;
            const std::vector<Ref>& items = pickle_[state.ref].items;
            for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
                if (pickle_[items[i]].kind != Kind::text) continue;
                const std::string key(pickle_[items[i]].text);
                const Ref value = items[i + 1];
                if (tensors_.is_tensor(value) || tensors_.is_foreign_tensor(value))
                    state.names.insert(key);
                else if (pickle_[value].kind == Kind::dict && state.depth < 4)
                    pending.push_back({value, state.key.empty() ? key : state.key + "." + key, state.depth + 1, {}});
            }
            require(pending.size() < visit_limit, out_.source, ": more than ", visit_limit, " dictionaries");
            if (!state.names.empty()) found.push_back(std::move(state));
        }
        return found;
    }

    /// The one with the most tensors; of copies the one that is no average, else the first. Throws Error where another
    /// with other names is nearly as large: nobody can tell which is meant.
    const State& choose(const std::vector<State>& states) {
        const State* best = &states.front();
        bool named = false;  // the usual key decides, whatever is beside it
        for (const State& state : states)
            if (state.key == "state_dict") {
                best = &state;
                named = true;
            }
        for (const State& state : states) {
            if (named) break;
            const bool larger = state.names.size() > best->names.size();
            const bool plainer =
                state.names.size() == best->names.size() && is_average(best->key) && !is_average(state.key);
            if (larger || plainer) best = &state;
        }
        std::string copies;
        for (const State& state : states) {
            if (&state == best) continue;
            if (state.names == best->names) {
                copies += (copies.empty() ? "" : ", ") + state.key;
                continue;
            }
            require(named || states.front().key.empty() || 2 * state.names.size() < best->names.size(), out_.source,
                    ": holds several sets of tensors, '", best->key, "' (", best->names.size(), ") and '", state.key,
                    "' (", state.names.size(), "); save the one that is meant alone");
        }
        if (!copies.empty()) out_.metadata["state_copies"] = copies;
        return *best;
    }

    /// A pickled module under a key of the checkpoint.
    void collect_module_of(Ref root) {
        const std::vector<Ref>& items = pickle_[root].items;
        for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
            if (pickle_[items[i]].kind != Kind::text || pickle_[items[i + 1]].kind != Kind::object) continue;
            collect_modules(items[i + 1]);
            if (out_.tensors.empty()) continue;
            out_.metadata["state_key"] = std::string(pickle_[items[i]].text);
            return collect_notes(root);
        }
    }

    void add(const std::string& name, Ref ref) {
        require(!tensors_.is_foreign_tensor(ref), out_.source, ": tensor '", name,
                "' is of a kind that is not supported (", foreign_name(ref), ")");
        if (!tensors_.is_tensor(ref)) return;
        require(!out_.contains(name), out_.source, ": two tensors are called '", name, "'");
        out_.tensors.emplace(name, tensors_.build(ref, name));
    }
    std::string foreign_name(Ref ref) const {
        return tensors_.is_foreign_tensor(ref) ? tensors_.callee_name(ref) : std::string();
    }

    void collect_dictionary(Ref dict) {
        const std::vector<Ref>& items = pickle_[dict].items;
        for (std::size_t i = 0; i + 1 < items.size(); i += 2)
            if (pickle_[items[i]].kind == Kind::text) add(std::string(pickle_[items[i]].text), items[i + 1]);
    }

    /// Epoch and our own notes (see write_torch_checkpoint) become metadata.
    void collect_notes(Ref root) {
        const Ref epoch = pickle_.find(root, "epoch");
        if (epoch != 0 && pickle_[epoch].kind == Kind::integer)
            out_.metadata["epoch"] = std::to_string(pickle_[epoch].integer);
        const Ref notes = pickle_.find(root, "promptkd");
        if (notes == 0 || pickle_[notes].kind != Kind::dict) return;
        const std::vector<Ref>& items = pickle_[notes].items;
        for (std::size_t i = 0; i + 1 < items.size(); i += 2)
            if (pickle_[items[i]].kind == Kind::text && pickle_[items[i + 1]].kind == Kind::text)
                out_.metadata[std::string(pickle_[items[i]].text)] = std::string(pickle_[items[i + 1]].text);
    }

    /// Depth first with a list of our own: a hostile tree may be as deep as the file is long, or refer to itself.
    void collect_modules(Ref root) {
        std::vector<Pending> pending{{root, "", 0}};
        std::size_t visits = 0;
        while (!pending.empty()) {
            const Pending at = std::move(pending.back());
            pending.pop_back();
            const Pickle::Node& node = pickle_[at.ref];
            const Ref attributes = node.kind == Kind::object ? node.state : at.ref;
            if (pickle_[attributes].kind != Kind::dict) continue;
            const std::vector<Ref>& items = pickle_[attributes].items;
            for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
                require(++visits <= visit_limit, out_.source, ": its modules have more than ", visit_limit,
                        " attributes; they refer to themselves");
                if (pickle_[items[i]].kind == Kind::text)
                    visit(at, std::string(pickle_[items[i]].text), items[i + 1], pending);
            }
        }
    }

    void visit(const Pending& at, const std::string& key, Ref ref, std::vector<Pending>& pending) {
        // A pickled torch.nn.Module keeps its parts in these dictionaries; TorchScript keeps them as attributes.
        const bool transparent = key == "_parameters" || key == "_buffers" || key == "_modules";
        if (tensors_.is_tensor(ref) || tensors_.is_foreign_tensor(ref)) return add(at.prefix + key, ref);
        const Pickle::Node& node = pickle_[ref];
        if (node.kind != Kind::object && !(transparent && node.kind == Kind::dict)) return;
        if (node.kind == Kind::object && pickle_[node.callee].kind != Kind::global) return;
        require(at.depth < depth_limit, out_.source, ": modules nest deeper than ", depth_limit, " at '",
                at.prefix.substr(0, 100), "'");
        pending.push_back({ref, transparent ? at.prefix : at.prefix + key + ".", at.depth + 1});
    }

    const Pickle& pickle_;
    TorchTensors& tensors_;
    TensorMap& out_;
};

}  // namespace promptkd::detail
