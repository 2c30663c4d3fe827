// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"

#include <promptkd/data/benchmark_table.hpp>
#include <promptkd/text/template_sets.hpp>

// How class names become texts, as users say it: the same for every command with a text branch.
namespace promptkd::cli {

inline CLI::Option* repeatable(CLI::Option* option) {
    return option->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

/// The texts of --template, --templates, --descriptions and --truncate.
struct TextFlags {
    std::vector<std::string> patterns;
    std::string set, descriptions;
    bool truncate = false;

    /// Whether anything is said of them.
    bool given() const { return !patterns.empty() || !set.empty() || !descriptions.empty(); }

    /// Completes what a specification says of its texts. Of a single prompt `config` gets the text.
    void apply(const std::string& data, std::string& pattern, TextOptions& text, nlohmann::json& config) const {
        text.descriptions = descriptions;
        text.truncate = truncate;
        if (patterns.size() > 1 || !set.empty()) {
            text.templates = patterns;
            const std::vector<std::string> more = set.empty() ? std::vector<std::string>() : template_set(data);
            text.templates.insert(text.templates.end(), more.begin(), more.end());
            return;
        }
        if (!descriptions.empty()) text.templates = patterns;
        pattern = patterns.empty() ? default_template(data) : patterns.front();
        config["template"] = pattern;
    }

private:
    /// The texts of a file, or of a published set: that of the data set for "published".
    std::vector<std::string> template_set(const std::string& data) const {
        if (std::filesystem::is_regular_file(set)) return read_text_lines(set);
        const TemplateSet* found = find_template_set(set == "published" ? parse_data_spec(data).name : set);
        if (found) return found->templates;
        std::string known;
        for (const TemplateSet& one : template_sets()) known += ", " + one.name;
        fail("--templates ", set, ": there is no such file, and no published set of this name; known: published",
             known);
    }
};

inline void add_text_options(CLI::App& c, TextFlags& o) {
    repeatable(c.add_option("--template", o.patterns,
                            "prompt text with {} for the class name (default: the published one of the data set); "
                            "repeated: an ensemble, whose class vectors are averaged"));
    c.add_option(
         "--templates", o.set,
         "an ensemble: a file with one text a line, published (the data set's), imagenet (OpenAI's 80 texts) or "
         "the name of another data set")
        ->configurable(false);
    c.add_option("--descriptions", o.descriptions,
                 "JSON file {\"class\": [\"a sentence\", …]}: sentences in place of the prompt, or beside those given")
        ->configurable(false);
    c.add_flag("--truncate", o.truncate, "cut texts that are longer than the model's context (the end token stays)")
        ->configurable(false);
}

}  // namespace promptkd::cli
