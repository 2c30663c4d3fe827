// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "hostile_files.hpp"

#include <promptkd/core/image.hpp>
#include <promptkd/format/image.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace promptkd::test {

/// A folder of miniature benchmarks of four classes each, removed at the end: food101, dtd and eurosat with a split
/// file (4 training and 2 test images a class), ImageNet (6 training and 6 test images a class) and its variants -V2
/// and -Sketch (3 test images a class).
class TinyBenchmarks {
public:
    TinyBenchmarks() : png_(encode_png(Image(4, 4))) {
        with_split("food-101", "images", "split_zhou_Food101.json");
        with_split("dtd", "images", "split_zhou_DescribableTextures.json");
        with_split("eurosat", "2750", "split_zhou_EuroSAT.json");
        write("imagenet/classnames.txt", "n01 shirt\nn02 dress\nn03 coat\nn04 bag\n");
        for (int c = 0; c < 4; ++c) {
            const std::string wordnet = "n0" + std::to_string(c + 1);
            images("imagenet/images/train/" + wordnet, 6);
            images("imagenet/images/val/" + wordnet, 6);
            images("imagenetv2/imagenetv2-matched-frequency-format-val/" + std::to_string(c), 3);
            images("imagenet-sketch/images/" + wordnet, 3);
        }
    }

    const std::string& root() const { return folder_.path(); }
    /// "NAME:ROOT".
    std::string spec(const std::string& name) const { return name + ":" + root(); }

private:
    void write(const std::string& path, const std::string& text) const {
        const std::filesystem::path full = std::filesystem::path(root()) / path;
        std::filesystem::create_directories(full.parent_path());
        std::ofstream(full, std::ios::binary) << text;
    }

    void images(const std::string& folder, int n) const {
        for (int i = 0; i < n; ++i) write(folder + "/image" + std::to_string(i) + ".jpg", png_);
    }

    void with_split(const std::string& folder, const std::string& below, const std::string& file) const {
        const std::vector<std::string> names = {"first", "second", "third", "fourth"};
        nlohmann::json split = {
            {"train", nlohmann::json::array()}, {"val", nlohmann::json::array()}, {"test", nlohmann::json::array()}};
        for (std::size_t c = 0; c < names.size(); ++c) {
            images(folder + "/" + below + "/" + std::to_string(c), 7);
            for (int i = 0; i < 7; ++i) {
                const char* part = i < 4 ? "train" : i < 5 ? "val" : "test";
                split[part].push_back({std::to_string(c) + "/image" + std::to_string(i) + ".jpg", c, names[c]});
            }
        }
        write(folder + "/" + file, split.dump());
    }

    TemporaryFolder folder_;
    std::string png_;
};

}  // namespace promptkd::test
