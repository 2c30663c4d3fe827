// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <algorithm>
#include <cstdint>
#include <queue>
#include <tuple>
#include <vector>

namespace promptkd::detail {

/// Merge rules (left symbol, right symbol) → (rank, merged symbol): a hash table with open addressing, read-only once
/// built, so that any number of threads may look up.
class MergeTable {
public:
    struct Rule {
        std::int32_t rank = no_rank;
        std::int32_t merged = -1;
    };
    static constexpr std::int32_t no_rank = 0x7fffffff;

    explicit MergeTable(std::size_t expected = 0) {
        std::size_t slots = 16;
        while (slots < expected * 2) slots *= 2;
        slots_.resize(slots);
    }

    /// Adds a rule; a later rule for the same pair replaces the earlier one, as in the published tokenizer.
    void add(std::int32_t left, std::int32_t right, Rule rule) {
        if (2 * (used_ + 1) > slots_.size()) grow();
        Slot& slot = slots_[locate(key_of(left, right))];
        used_ += slot.key == empty;
        slot.key = key_of(left, right);
        slot.rule = rule;
    }

    Rule find(std::int32_t left, std::int32_t right) const { return slots_[locate(key_of(left, right))].rule; }

private:
    static constexpr std::uint64_t empty = ~std::uint64_t{0};
    struct Slot {
        std::uint64_t key = empty;
        Rule rule;
    };

    static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
        return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
    }

    std::size_t locate(std::uint64_t key) const {
        std::size_t i = (key * 0x9E3779B97F4A7C15ull >> 32) & (slots_.size() - 1);
        while (slots_[i].key != key && slots_[i].key != empty) i = (i + 1) & (slots_.size() - 1);
        return i;
    }

    void grow() {
        std::vector<Slot> old(slots_.size() * 2);
        old.swap(slots_);
        for (const Slot& slot : old)
            if (slot.key != empty) slots_[locate(slot.key)] = slot;
    }

    std::vector<Slot> slots_;
    std::size_t used_ = 0;
};

/// Byte-pair encoding of a short word, in place: merge every occurrence of the pair of lowest rank, from left to
/// right, until no pair has a rule (Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units",
/// ACL 2016). Quadratic in the worst case, and the fastest way for words of ordinary length.
inline void merge_short_word(std::vector<std::int32_t>& symbols, const MergeTable& table) {
    constexpr std::int32_t just_merged = -1;
    std::vector<MergeTable::Rule> rules(symbols.size());  // rules[i] joins symbols[i] and symbols[i + 1]
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) rules[i] = table.find(symbols[i], symbols[i + 1]);
    while (symbols.size() > 1) {
        std::int32_t best = MergeTable::no_rank;
        for (std::size_t i = 0; i + 1 < symbols.size(); ++i) best = std::min(best, rules[i].rank);
        if (best == MergeTable::no_rank) return;
        std::size_t out = 0;
        for (std::size_t i = 0; i < symbols.size(); ++i, ++out) {
            const bool merge = i + 1 < symbols.size() && rules[i].rank == best;
            symbols[out] = merge ? rules[i].merged : symbols[i];
            rules[out] = merge ? MergeTable::Rule{just_merged, 0} : rules[i];
            if (merge) ++i;
        }
        symbols.resize(out);
        rules[out - 1] = {};
        for (std::size_t i = 0; i + 1 < out; ++i)  // a pair untouched on both sides keeps its rule
            if (rules[i].rank == just_merged || rules[i + 1].rank == just_merged || i + 2 == out)
                rules[i] = table.find(symbols[i], symbols[i + 1]);
    }
}

/// The same result for a word of any length in O(n log n): a linked list of symbols and a heap of pairs by (rank,
/// position). All pairs of one rank are merged before the new neighbours are considered, as above.
inline void merge_long_word(std::vector<std::int32_t>& symbols, const MergeTable& table) {
    struct Pair {
        std::int32_t rank, left, right, merged;
        Index at;
        bool operator>(const Pair& other) const { return std::tie(rank, at) > std::tie(other.rank, other.at); }
    };
    const Index n = static_cast<Index>(symbols.size());
    std::vector<Index> links(2 * symbols.size());
    Index* const next = links.data();
    Index* const previous = next + n;
    std::int32_t* const symbol = symbols.data();
    std::priority_queue<Pair, std::vector<Pair>, std::greater<Pair>> heap;
    std::vector<Pair> fresh;
    const auto propose = [&](Index at) {
        if (at < 0 || next[at] >= n) return;
        const MergeTable::Rule rule = table.find(symbol[at], symbol[next[at]]);
        if (rule.rank != MergeTable::no_rank)
            fresh.push_back({rule.rank, symbol[at], symbol[next[at]], rule.merged, at});
    };
    for (Index i = 0; i < n; ++i) {
        next[i] = i + 1;
        previous[i] = i - 1;
    }
    for (Index i = 0; i < n; ++i) propose(i);
    for (;;) {
        for (const Pair& pair : fresh) heap.push(pair);
        fresh.clear();
        if (heap.empty()) break;
        const std::int32_t rank = heap.top().rank;
        while (!heap.empty() && heap.top().rank == rank) {
            const Pair pair = heap.top();
            heap.pop();
            const Index at = pair.at, right = next[at];
            // A pair is stale when either symbol was merged since; a consumed symbol holds -1.
            if (symbol[at] != pair.left || right >= n || symbol[right] != pair.right) continue;
            symbol[at] = pair.merged;
            symbol[right] = -1;
            next[at] = next[right];
            if (next[at] < n) previous[next[at]] = at;
            propose(previous[at]);
            propose(at);
        }
    }
    symbols.erase(std::remove(symbols.begin(), symbols.end(), -1), symbols.end());
}

/// Byte-pair encoding of one word in place.
inline void merge_word(std::vector<std::int32_t>& symbols, const MergeTable& table) {
    constexpr std::size_t short_word = 64;
    if (symbols.size() <= short_word)
        merge_short_word(symbols, table);
    else
        merge_long_word(symbols, table);
}

}  // namespace promptkd::detail
