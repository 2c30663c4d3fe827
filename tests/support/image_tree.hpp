// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "support/temporary_folder.hpp"

#include <promptkd/format/file.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace promptkd::test {

/// A temporary folder with files in it.
class ImageTree : public TemporaryFolder {
public:
    ImageTree() = default;
    /// With empty files of these names.
    explicit ImageTree(const std::vector<std::string>& names) { touch(names); }

    /// Creates empty files: listing a folder never decodes.
    void touch(const std::vector<std::string>& names) const {
        for (const std::string& name : names) write(name, "");
    }
    /// Creates empty images 0.png … in each folder.
    void fill(const std::vector<std::string>& folders, int images) const {
        for (const std::string& folder : folders)
            for (int i = 0; i < images; ++i) write(folder + "/" + std::to_string(i) + ".png", "");
    }
    /// Creates a file.
    void write(const std::string& name, const std::string& text) const {
        make_directories(std::filesystem::path(*this / name).parent_path().string());
        write_atomically(*this / name, text);
    }
};

}  // namespace promptkd::test
