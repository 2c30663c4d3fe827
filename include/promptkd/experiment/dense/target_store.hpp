// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/dense/targets.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Keeps the targets of patches in a file: the teacher is asked once.
class PatchTargetStore {
public:
    /// Of targets that depend on what `print` says.
    PatchTargetStore(std::string path, const nlohmann::json& print)
        : path_(std::move(path)), print_(json_text(print)) {}

    /// The targets in the file; empty where there is none, or it holds others.
    std::optional<TaughtPictures> read() const {
        if (!std::filesystem::exists(path_)) return std::nullopt;
        const TensorMap map = read_safetensors(path_);
        const auto print = map.metadata.find("fingerprint");
        if (print == map.metadata.end() || print->second != print_) return std::nullopt;
        TaughtPictures taught;
        taught.targets = patch_targets(map);
        taught.pictures = map.at("pictures").to<std::int64_t>();
        require(static_cast<Index>(taught.pictures.size()) == taught.targets.pictures(), path_,
                ": damaged targets of patches");
        return taught;
    }

    /// Writes them.
    void write(const TaughtPictures& taught) const {
        TensorMap map = to_tensors(taught.targets);
        map.tensors["pictures"] = make_tensor(taught.pictures, {static_cast<Index>(taught.pictures.size())});
        map.metadata["format"] = "promptkd.patch_targets";
        map.metadata["fingerprint"] = print_;
        write_safetensors(path_, map);
    }

private:
    std::string path_, print_;
};

}  // namespace promptkd
