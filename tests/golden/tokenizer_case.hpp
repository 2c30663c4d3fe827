// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/text/tokenizer.hpp>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../support/golden.hpp"

namespace promptkd::test {

namespace detail {

inline std::string list_of(const std::vector<std::int32_t>& ids) {
    std::string text = "[";
    for (const std::int32_t id : ids) text += (text.size() > 1 ? " " : "") + std::to_string(id);
    return text + "]";
}

/// Compares the ids that `make` returns with `want`.
template <class Make>
void check_ids(const std::string& what, const nlohmann::json& want, Report& report, Make make) {
    try {
        const auto expected = want.get<std::vector<std::int32_t>>();
        const std::vector<std::int32_t> got = make();
        report.check(got == expected, concat(what, ": ", list_of(got), ", expected ", list_of(expected)));
    } catch (const Error& error) {
        report.check(false, concat(what, ": ", error.what()));
    }
}

/// A too long text must be refused, any other padded; the truncated ids are given by the case.
inline void check_length(const Tokenizer& tokenizer, const nlohmann::json& entry, const std::string& what,
                         Report& report) {
    const auto text = entry.at("text").get<std::string>();
    const Index context = static_cast<Index>(entry.at("truncated").size());
    for (const auto& item : entry.items()) {
        constexpr const char* prefix = "too_long_for_";
        if (item.key().rfind(prefix, 0) != 0) continue;
        bool refused = false;
        try {
            tokenizer.tokenize(text, std::stoll(item.key().substr(std::string(prefix).size())));
        } catch (const Error&) {
            refused = true;
        }
        report.check(refused == item.value().get<bool>(), concat(what, ": ", refused ? "refused" : "accepted"));
    }
    check_ids(what + " truncated", entry.at("truncated"), report,
              [&] { return tokenizer.tokenize(text, context, true); });
}

}  // namespace detail

/// Checks every text of a tokenizer case against the ids of the published tokenizer. Groups are lists of {text, ids};
/// `length` and `padded_example` include SOT, EOT and padding; `mojibake` is counted and printed, not required.
inline void check_tokenizer(const std::string& json_path, const std::string& vocab_path, Report& report) {
    const Tokenizer tokenizer = Tokenizer::from_file(vocab_path);
    std::ifstream file(json_path);
    require(file.good(), json_path, ": cannot be opened");
    const nlohmann::json cases = nlohmann::json::parse(file);
    for (const auto& group : cases.items()) {
        if (group.key() == "padded_example") {
            const auto text = group.value().at("text").get<std::string>();
            const nlohmann::json& ids = group.value().at("ids");
            detail::check_ids(group.key(), ids, report,
                              [&] { return tokenizer.tokenize(text, static_cast<Index>(ids.size())); });
            continue;
        }
        if (!group.value().is_array()) continue;
        Report informational(group.key());
        Report& target = group.key() == "mojibake" ? informational : report;
        for (std::size_t i = 0; i < group.value().size(); ++i) {
            const nlohmann::json& entry = group.value()[i];
            const std::string what = concat(group.key(), "[", i, "]");
            if (group.key() == "length") {
                detail::check_length(tokenizer, entry, what, target);
            } else if (entry.contains("text") && entry.contains("ids")) {
                const auto text = entry.at("text").get<std::string>();
                detail::check_ids(concat(what, " '", text, "'"), entry.at("ids"), target,
                                  [&] { return tokenizer.encode(text); });
            }
        }
        if (informational.comparisons() > 0)
            std::printf("  %s: %s: %d of %d match (not required)\n", report.name().c_str(), group.key().c_str(),
                        informational.comparisons() - informational.failures(), informational.comparisons());
    }
    report.check(report.comparisons() > 0, json_path + ": holds no text to check");
}

}  // namespace promptkd::test
