// SPDX-License-Identifier: Apache-2.0
// `promptkd tokenize`: token ids of texts. No device is involved.
#include "commands.hpp"
#include "models.hpp"

namespace promptkd::cli {

namespace {

struct Tokenize {
    Common common;
    std::vector<std::string> texts;
    Index context = 0;
    bool truncate = false;

    int run() const {
        const Tokenizer tokenizer = read_tokenizer(vocabulary_path(common));
        nlohmann::json all = nlohmann::json::array();
        const auto encode = [&](const std::string& text) {
            if (context > 0) return tokenizer.tokenize(text, context, truncate);
            return tokenizer.encode(text);
        };
        for (const std::string& text : texts) all.push_back(encode(text));
        for (std::string line; texts.empty() && std::getline(std::cin, line);) {
            if (!line.empty() && line.back() == '\r') line.pop_back();
            all.push_back(encode(line));
        }
        std::cout << json_text(all) << std::endl;
        if (common.output.json != "-") common.output.write(all);
        return 0;
    }
};

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
    auto o = std::make_shared<Tokenize>();
    CLI::App& c = *app.add_subcommand(
        "tokenize", "token ids of texts (or of the lines of standard input), without start and end tokens");
    may_be_empty(c.add_option("texts", o->texts, "texts"))->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    c.add_option("--context", o->context,
                 "rows of so many tokens, as a text encoder reads them: with start, end, zeros")
        ->check(whole_from(0));
    c.add_flag("--truncate", o->truncate, "with --context: cut longer texts (the end token stays)");
    add_vocabulary(c, o->common);
    add_json(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

}  // namespace promptkd::cli
