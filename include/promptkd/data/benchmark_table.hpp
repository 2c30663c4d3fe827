// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/text/class_names.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// How the parts of a benchmark are found when it has no split file (or never has one).
enum class BenchmarkLayout {
    drawn,        ///< class folders, drawn 50 / 20 / 30 % a class
    pets,         ///< annotations/trainval.txt and test.txt
    sun,          ///< ClassName.txt, Training_01.txt, Testing_01.txt
    aircraft,     ///< variants.txt, images_variant_{train,test}.txt
    annotations,  ///< MATLAB annotations, which are not read: the split file is required
    imagenet,     ///< images/train and images/val, classnames.txt
    numbered,     ///< folders 0–999 in the order of classnames.txt, test only
    wordnet       ///< folders by WordNet number, named through classnames.txt, test only
};

/// One of the published benchmarks: where its files lie below the common root, its prompt and its published sizes.
struct BenchmarkInfo {
    std::string name;        ///< as in "NAME:ROOT"
    std::string folder;      ///< below the root
    std::string images;      ///< folder of the images below `folder`; empty: `folder` itself
    std::string split;       ///< split file below `folder`; empty: none is published
    std::string pattern;     ///< prompt text with {} for the class name
    BenchmarkLayout layout;  ///< How its parts are found without a split file.
    Index classes;           ///< Published number of classes.
    Index train;             ///< published number of training images; 0: not published
    Index base;              ///< test images of the base classes
    Index novel;             ///< test images of the new classes
};

/// The fifteen benchmarks of the published protocols, with the sizes of the PromptKD repository.
inline const std::vector<BenchmarkInfo>& benchmarks() {
    using L = BenchmarkLayout;
    static const std::string photo = "a photo of a {}.";
    static const std::vector<BenchmarkInfo> table = {
        {"imagenet", "imagenet", "images", "", photo, L::imagenet, 1000, 1281167, 25000, 25000},
        {"caltech101", "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", photo, L::drawn, 100, 4128,
         1549, 916},
        {"oxford_pets", "oxford_pets", "images", "split_zhou_OxfordPets.json", "a photo of a {}, a type of pet.",
         L::pets, 37, 2944, 1881, 1788},
        {"stanford_cars", "stanford_cars", "", "split_zhou_StanfordCars.json", photo, L::annotations, 196, 6509, 4002,
         4039},
        {"oxford_flowers", "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json",
         "a photo of a {}, a type of flower.", L::annotations, 102, 4093, 1053, 1410},
        {"food101", "food-101", "images", "split_zhou_Food101.json", "a photo of {}, a type of food.", L::drawn, 101,
         50500, 15300, 15000},
        {"fgvc_aircraft", "fgvc_aircraft", "images", "", "a photo of a {}, a type of aircraft.", L::aircraft, 100, 3334,
         1666, 1667},
        {"sun397", "sun397", "SUN397", "split_zhou_SUN397.json", photo, L::sun, 397, 15880, 9950, 9900},
        {"dtd", "dtd", "images", "split_zhou_DescribableTextures.json", "{} texture.", L::drawn, 47, 2820, 864, 828},
        {"eurosat", "eurosat", "2750", "split_zhou_EuroSAT.json", "a centered satellite photo of {}.", L::drawn, 10,
         13500, 4200, 3900},
        {"ucf101", "ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", "a photo of a person doing {}.", L::drawn,
         101, 7639, 1934, 1849},
        {"imagenetv2", "imagenetv2", "imagenetv2-matched-frequency-format-val", "", photo, L::numbered, 1000, 0, 0, 0},
        {"imagenet_sketch", "imagenet-sketch", "images", "", photo, L::wordnet, 1000, 0, 0, 0},
        {"imagenet_a", "imagenet-adversarial", "imagenet-a", "", photo, L::wordnet, 200, 0, 0, 0},
        {"imagenet_r", "imagenet-rendition", "imagenet-r", "", photo, L::wordnet, 200, 0, 0, 0}};
    return table;
}

/// The benchmark called `name`, case and - or _ apart; null when there is none.
inline const BenchmarkInfo* find_benchmark(std::string name) {
    name = data_set_key(std::move(name));
    const auto& table = benchmarks();
    const auto found = std::find_if(table.begin(), table.end(), [&](const BenchmarkInfo& b) { return b.name == name; });
    return found == table.end() ? nullptr : &*found;
}

/// The published prompt text of the data set "NAME:ROOT" (or NAME); "a photo of a {}." where none is published.
inline std::string default_template(const std::string& spec) {
    const BenchmarkInfo* found = find_benchmark(spec.substr(0, spec.find(':')));
    return found ? found->pattern : "a photo of a {}.";
}

}  // namespace promptkd
