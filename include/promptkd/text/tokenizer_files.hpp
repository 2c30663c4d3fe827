// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/file.hpp>
#include <promptkd/text/tokenizer.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Bytes of a SentencePiece model at most.
inline constexpr std::size_t max_pieces = std::size_t{64} << 20;

namespace detail {

inline nlohmann::json read_tokenizer_json(const std::string& path) {
    nlohmann::json json = nlohmann::json::parse(read_text_file(path), nullptr, false);
    require(json.is_object(), path, ": not a JSON object");
    return json;
}

/// The text under a key; `otherwise` where there is none.
inline std::string text_under(const nlohmann::json& json, const char* key, const std::string& otherwise = "") {
    const auto found = json.is_object() ? json.find(key) : json.end();
    return found != json.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

/// The ids of a tokenizer.json's vocabulary.
inline std::map<std::string, std::int64_t> vocabulary_of_json(const nlohmann::json& model, const std::string& path) {
    std::map<std::string, std::int64_t> ids;
    require(model.contains("vocab") && model["vocab"].is_object(), path, ": has no \"vocab\"");
    for (const auto& [entry, id] : model["vocab"].items()) {
        require(id.is_number_integer(), path, ": the id of '", entry, "' is no whole number");
        ids[entry] = id.get<std::int64_t>();
    }
    return ids;
}

/// One entry of a tokenizer.json's merges: "left right", or ["left", "right"] in newer files.
inline std::pair<std::string, std::string> merge_of_json(const nlohmann::json& merge, const std::string& path) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
        return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    require(merge.is_string(), path, ": a merge is neither a text nor a pair of texts");
    const std::string text = merge.get<std::string>();
    const std::size_t space = text.find(' ');
    require(space != std::string::npos, path, ": the merge '", text, "' is not two words");
    return {text.substr(0, space), text.substr(space + 1)};
}

/// Hugging Face's tokenizer.json of a CLIP model as the merges file that it was made from. Throws Error for another
/// kind of tokenizer, and for ids that are not in CLIP's order.
inline std::string merges_of_tokenizer_json(const std::string& path) {
    const nlohmann::json json = read_tokenizer_json(path);
    require(json.contains("model") && json["model"].is_object(), path, ": has no \"model\"; this is no tokenizer.json");
    const nlohmann::json& model = json["model"];
    const std::string kind = text_under(model, "type", "BPE");
    require(kind == "BPE" && model.contains("merges") && model["merges"].is_array(), path,
            ": a tokenizer of the kind '", kind,
            "'; CLIP's is byte-level BPE, and texts for another one are not made here");
    require(text_under(model, "end_of_word_suffix") == "</w>", path,
            ": its words do not end in '</w>'; this is not the tokenizer of a CLIP model");
    const std::map<std::string, std::int64_t> vocabulary = vocabulary_of_json(model, path);
    std::map<std::string, std::int64_t> last;  // of equal entries the last counts
    std::vector<std::string> lines;
    for (const nlohmann::json& merge : model["merges"]) {
        const auto [left, right] = merge_of_json(merge, path);
        last[left + right] = 512 + static_cast<std::int64_t>(lines.size());
        lines.push_back(left + " " + right);
    }
    for (const auto& [entry, id] : last) {
        const auto found = vocabulary.find(entry);
        require(found != vocabulary.end() && found->second == id, path, ": '", entry, "' has not the id ", id,
                " that CLIP's order of merges gives it");
    }
    std::string text = "#version: 0.2";
    for (const std::string& line : lines) text += "\n" + line;
    return vocabulary.count("") != 0 ? text + "\n" : text;  // an empty last line is an entry too
}

/// What a model's files say of its tokenizer.
struct TokenizerNeed {
    bool pieces = false;                                  ///< SigLIP's; else CLIP's
    PieceCleaning cleaning = PieceCleaning::huggingface;  ///< of the texts of SigLIP's
    std::string said_by;                                  ///< the file that says so
};

/// What is said where a model has a tokenizer that is not read.
inline constexpr const char* unread_tokenizer =
    "', which is not read; texts for it cannot be made here, class vectors in a file need none";

/// Whether open_clip's name of a tokenizer is one of SigLIP's.
inline bool names_pieces(const std::string& name) {
    for (const char* part : {"SigLIP", "siglip", "gemma", "t5"})
        if (name.find(part) != std::string::npos) return true;
    return false;
}

/// Reads what an open_clip configuration says of the tokenizer. Throws Error when it is neither CLIP's nor SigLIP's, or
/// has settings that are not followed.
inline void read_tokenizer_need(const std::string& path, TokenizerNeed& need) {
    const nlohmann::json json = nlohmann::json::parse(read_text_file(path), nullptr, false);
    if (!json.is_object()) return;  // something else beside the weights
    const nlohmann::json model = json.contains("model_cfg") ? json["model_cfg"] : json;
    const nlohmann::json text = model.is_object() && model.contains("text_cfg") ? model["text_cfg"] : nlohmann::json();
    const std::string name = text_under(text, "hf_tokenizer_name");
    const bool pieces = names_pieces(name);
    require(name.empty() || name.rfind("openai/clip", 0) == 0 || pieces, path, ": the model's tokenizer is '", name,
            unread_tokenizer);
    const bool changed = text.is_object() && text.contains("tokenizer_kwargs") && !text["tokenizer_kwargs"].empty();
    const nlohmann::json canonical = {{"clean", "canonicalize"}};
    require(!changed || (pieces && text["tokenizer_kwargs"] == canonical), path,
            ": the model's tokenizer has settings of its own (tokenizer_kwargs ",
            changed ? text["tokenizer_kwargs"].dump() : "",
            "), which are not followed; texts for it cannot be made here");
    if (pieces) need = {true, PieceCleaning::open_clip, path};
}

/// The same of Hugging Face's files in a folder.
inline void read_huggingface_need(const std::string& folder, TokenizerNeed& need) {
    const std::string config = folder + "/config.json", tokenizer = folder + "/tokenizer_config.json";
    if (std::filesystem::is_regular_file(config)) {
        const nlohmann::json json = nlohmann::json::parse(read_text_file(config), nullptr, false);
        const std::string type = text_under(json, "model_type");
        require(type != "metaclip_2", config, ": the model's tokenizer is 'XLM-V", unread_tokenizer);
        if (type == "siglip") need = {true, PieceCleaning::huggingface, config};
    }
    if (!std::filesystem::is_regular_file(tokenizer)) return;
    const std::string kind = text_under(read_tokenizer_json(tokenizer), "tokenizer_class");
    bool pieces = false;
    for (const char* begins : {"Siglip", "Gemma"}) pieces = pieces || kind.rfind(begins, 0) == 0;
    require(kind.empty() || kind.rfind("CLIPTokenizer", 0) == 0 || pieces, tokenizer, ": the model's tokenizer is a '",
            kind, unread_tokenizer);
    if (pieces) need = {true, PieceCleaning::huggingface, tokenizer};
}

/// The folder of the weights `model`, a file or a folder.
inline std::string folder_of_model(const std::string& model) {
    if (std::filesystem::is_directory(model)) return model;
    const std::string parent = std::filesystem::path(model).parent_path().string();
    return parent.empty() ? "." : parent;
}

/// What the files beside the weights `model` (a file or a folder) say of its tokenizer: CLIP's where they say nothing.
/// Throws Error when it is one that is not read.
inline TokenizerNeed tokenizer_need(const std::string& model) {
    TokenizerNeed need;
    if (!std::filesystem::exists(model)) return need;
    const std::string folder = folder_of_model(model);
    const std::string stem = folder == model ? "" : std::filesystem::path(model).stem().string();
    read_huggingface_need(folder, need);
    for (const std::string& name : {std::string("open_clip_config"), stem}) {
        const std::string file = folder + "/" + name + ".json";
        if (!name.empty() && std::filesystem::is_regular_file(file)) read_tokenizer_need(file, need);
    }
    return need;
}

/// Whether the file is what its name says; a JSON file may be anything.
inline bool may_be_tokenizer(const std::string& path) {
    if (!std::filesystem::is_regular_file(path)) return false;
    if (std::filesystem::path(path).extension() != ".json") return true;
    const nlohmann::json json = nlohmann::json::parse(read_text_file(path), nullptr, false);
    return json.is_object() && json.contains("model") && json["model"].is_object();
}

}  // namespace detail

/// The tokenizer's file in a folder: a SentencePiece model, merges.txt, tokenizer.json or OpenAI's merges; empty where
/// there is none.
inline std::string find_tokenizer(const std::string& folder) {
    for (const char* name : {"spiece.model", "tokenizer.model", "sentencepiece.model", "merges.txt", "tokenizer.json",
                             "bpe_simple_vocab_16e6.txt.gz", "tokenizer/merges.txt", "tokenizer/tokenizer.json"}) {
        const std::string path = folder + "/" + name;
        if (detail::may_be_tokenizer(path)) return path;
    }
    return "";
}

/// Whether `path` holds a SentencePiece model.
inline bool holds_pieces(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    char head[8] = {};
    file.read(head, sizeof head);
    return detail::begins_as_pieces({head, static_cast<std::size_t>(file.gcount())});
}

/// Reads a tokenizer: a merges file (see Tokenizer::from_file()), Hugging Face's tokenizer.json, a SentencePiece model,
/// or a folder with one of them. Throws Error when it is none, or another model's. `cleaning`: of texts in front of
/// SentencePiece.
inline Tokenizer read_tokenizer(const std::string& path, PieceCleaning cleaning = PieceCleaning::huggingface) {
    if (std::filesystem::is_directory(path)) {
        const detail::TokenizerNeed need = detail::tokenizer_need(path);
        const std::string file = find_tokenizer(path);
        require(!file.empty(), path,
                ": this folder has no tokenizer (merges.txt, tokenizer.json, spiece.model, tokenizer.model)");
        return read_tokenizer(file, need.pieces ? need.cleaning : cleaning);
    }
    if (holds_pieces(path))
        return Tokenizer::from_pieces(
            std::make_shared<const PieceTokenizer>(read_file(path, max_pieces), path, cleaning), path);
    const std::string extension = std::filesystem::path(path).extension().string();
    if (extension != ".json") return Tokenizer::from_file(path);
    return Tokenizer::from_merges(detail::merges_of_tokenizer_json(path), path);
}

/// The tokenizer of a model: `given`, else what lies beside the weights `model` (a file or a folder), else `otherwise`;
/// empty where there is none. Throws Error when the model's files name another kind of tokenizer.
inline std::string tokenizer_file(const std::string& given, const std::string& model,
                                  const std::string& otherwise = "") {
    if (!std::filesystem::exists(model)) return given.empty() ? otherwise : given;
    const detail::TokenizerNeed need = detail::tokenizer_need(model);
    std::string file = given.empty() ? find_tokenizer(detail::folder_of_model(model)) : given;
    if (file.empty()) file = otherwise;
    const bool folder = std::filesystem::is_directory(file);
    require(!need.pieces || holds_pieces(folder ? find_tokenizer(file) : file), need.said_by,
            ": the texts of this model need its SentencePiece model (spiece.model or tokenizer.model)",
            file.empty() ? ", which is not beside the weights" : ", which " + file + " is not",
            "; class vectors in a file need none");
    return file;
}

/// The same, read. Throws Error where there is none.
inline Tokenizer read_model_tokenizer(const std::string& given, const std::string& model) {
    const std::string file = tokenizer_file(given, model);
    require(!file.empty(),
            "no vocabulary: texts need the file of the model's tokenizer; class vectors in a file need none");
    return read_tokenizer(file, detail::tokenizer_need(model).cleaning);
}

}  // namespace promptkd
