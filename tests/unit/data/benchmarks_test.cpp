// SPDX-License-Identifier: Apache-2.0
#include <promptkd/data/few_shot_file.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/format/image.hpp>

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace benchmarks_test {

using namespace promptkd;

namespace {

/// A folder of miniature benchmarks in the published layouts, removed at the end.
class Tree {
public:
    Tree() : root_(std::filesystem::temp_directory_path() / ("promptkd-benchmarks-" + std::to_string(::getpid()))) {
        std::filesystem::remove_all(root_);
        std::filesystem::create_directories(root_);
        png_ = encode_png(Image(4, 4));
    }
    ~Tree() { std::filesystem::remove_all(root_); }

    std::string root() const { return root_.string(); }
    void file(const std::string& path, const std::string& text) const {
        const auto full = root_ / path;
        std::filesystem::create_directories(full.parent_path());
        std::ofstream(full, std::ios::binary) << text;
    }
    /// `n` images below a folder: FOLDER/STEM0.jpg …
    void images(const std::string& folder, int n, const std::string& stem = "image") const {
        for (int i = 0; i < n; ++i) file(folder + "/" + stem + std::to_string(i) + ".jpg", png_);
    }
    void remove(const std::string& path) const { std::filesystem::remove_all(root_ / path); }

private:
    std::filesystem::path root_;
    std::string png_;
};

/// A split file over the class folders "0", "1", …, with 3 training, 1 validation and 2 test images of each class.
std::string split_file(const std::vector<std::string>& names) {
    nlohmann::json json = {
        {"train", nlohmann::json::array()}, {"val", nlohmann::json::array()}, {"test", nlohmann::json::array()}};
    for (std::size_t c = 0; c < names.size(); ++c)
        for (int i = 0; i < 6; ++i)
            json[i < 3   ? "train"
                 : i < 4 ? "val"
                         : "test"]
                .push_back({std::to_string(c) + "/image" + std::to_string(i) + ".jpg", c, names[c]});
    return json.dump();
}

Dataset open(const Tree& tree, const std::string& name, Split split) {
    return open_dataset(name + ":" + tree.root(), split);
}

std::string error_of(const Tree& tree, const std::string& name, Split split = Split::train) {
    try {
        open(tree, name, split);
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("benchmarks: nine data sets through their split files") {
    for (const BenchmarkInfo& info : benchmarks()) {
        if (info.split.empty()) continue;
        CAPTURE(info.name);
        const Tree tree;
        const std::string images = info.folder + (info.images.empty() ? "" : "/" + info.images);
        for (int c = 0; c < 3; ++c) tree.images(images + "/" + std::to_string(c), 6);
        tree.file(info.folder + "/" + info.split, split_file({"first one", "second_one", "third"}));
        const Dataset train = open(tree, info.name, Split::train), test = open(tree, info.name, Split::test);
        CHECK(train.size() == 9);
        CHECK(test.size() == 6);
        CHECK(test.class_names == std::vector<std::string>{"first one", "second_one", "third"});
        CHECK(test.label(5) == 2);
        CHECK(test.load(5).width == 4);
        CHECK(prompt_text(default_template(info.name), test.class_names[1]).find("second one") != std::string::npos);
        CHECK(select_subset(test, ClassSubset::base).size() == 4);
        const BenchmarkReport report = check_benchmark(info, tree.root());
        CHECK(report.train == 9);
        CHECK(report.base == 4);
        CHECK(report.novel == 2);
        CHECK(report.problems.size() == 4);  // classes and the three numbers of images differ from the published ones
    }
}

TEST_CASE("benchmarks: class folders without a split file are drawn 50 / 20 / 30 %") {
    const Tree tree;
    for (const char* name : {"airplanes", "Faces", "BACKGROUND_Google", "Faces_easy", "water_lilly"})
        tree.images(std::string("caltech-101/101_ObjectCategories/") + name, 10);
    const Dataset train = open(tree, "caltech101", Split::train), test = open(tree, "caltech101", Split::test);
    CHECK(train.class_names == std::vector<std::string>{"face", "airplane", "water_lilly"});
    CHECK(train.size() == 15);
    CHECK(test.size() == 9);
    for (Index i = 0; i < train.size(); ++i)
        for (Index j = 0; j < test.size(); ++j) CHECK(train.item_name(i) != test.item_name(j));
    CHECK(open(tree, "caltech101", Split::train).item_name(3) == train.item_name(3));

    for (const char* name : {"AnnualCrop", "Forest", "SeaLake"}) tree.images(std::string("eurosat/2750/") + name, 10);
    CHECK(open(tree, "eurosat", Split::test).class_names ==
          std::vector<std::string>{"Annual Crop Land", "Forest", "Sea or Lake"});
    for (const char* name : {"ApplyEyeMakeup", "Baby_Crawling"})
        tree.images(std::string("ucf101/UCF-101-midframes/") + name, 10);
    CHECK(open(tree, "ucf101", Split::test).class_names ==
          std::vector<std::string>{"Apply_Eye_Makeup", "Baby_Crawling"});
    for (const char* name : {"apple_pie", "waffles"}) {
        tree.images(std::string("food-101/images/") + name, 10);
        tree.images(std::string("dtd/images/") + name, 10);
    }
    CHECK(open(tree, "food101", Split::test).size() == 6);
    CHECK(open(tree, "dtd", Split::train).size() == 10);
    tree.file("dtd/images/empty/readme.txt", "");
    CHECK(contains(error_of(tree, "dtd"), "class 'empty' has no image"));
}

TEST_CASE("benchmarks: lists of OxfordPets, SUN397 and FGVCAircraft") {
    const Tree tree;
    tree.images("oxford_pets/images", 10, "Abyssinian_");
    tree.images("oxford_pets/images", 10, "american_bulldog_");
    std::string trainval, test;
    for (int i = 0; i < 10; ++i) {
        std::string& list = i < 5 ? trainval : test;
        list += "Abyssinian_" + std::to_string(i) + " 1 1 1\namerican_bulldog_" + std::to_string(i) + " 2 2 1\n";
    }
    tree.file("oxford_pets/annotations/trainval.txt", trainval);
    tree.file("oxford_pets/annotations/test.txt", test);
    CHECK(open(tree, "oxford_pets", Split::train).size() == 8);  // 20 % of each class are for validation
    CHECK(open(tree, "oxford_pets", Split::test).size() == 10);
    CHECK(open(tree, "oxford-pets", Split::test).class_names ==
          std::vector<std::string>{"abyssinian", "american_bulldog"});

    tree.images("sun397/SUN397/a/abbey", 6);
    tree.images("sun397/SUN397/a/apse/indoor", 6);
    tree.file("sun397/SUN397/ClassName.txt", "/a/abbey\n/a/apse/indoor\n");
    tree.file("sun397/SUN397/Training_01.txt", "/a/abbey/image0.jpg\n/a/apse/indoor/image0.jpg\n");
    tree.file("sun397/SUN397/Testing_01.txt", "/a/abbey/image1.jpg\n/a/apse/indoor/image1.jpg\n");
    CHECK(open(tree, "sun397", Split::test).class_names == std::vector<std::string>{"abbey", "indoor apse"});
    CHECK(contains(open(tree, "sun397", Split::test).item_name(1), "SUN397/a/apse/indoor/image1.jpg"));
    tree.file("sun397/SUN397/Testing_01.txt", "/a/abbey/image1.jpg\n/b/barn/image1.jpg\n");
    CHECK(contains(error_of(tree, "sun397"), "belongs to no class"));

    tree.images("fgvc_aircraft/images", 6, "10");
    tree.file("fgvc_aircraft/variants.txt", "707-320\nBoeing 717\n");
    tree.file("fgvc_aircraft/images_variant_train.txt", "100 707-320\n101 Boeing 717\n");
    tree.file("fgvc_aircraft/images_variant_val.txt", "102 Boeing 717\n");
    tree.file("fgvc_aircraft/images_variant_test.txt", "103 Boeing 717\n104 707-320\n105 707-320\n");
    CHECK(open(tree, "fgvc_aircraft", Split::train).size() == 2);
    const Dataset aircraft = open(tree, "fgvc_aircraft", Split::test);
    CHECK(aircraft.label(0) == 1);
    CHECK(aircraft.class_names[1] == "Boeing 717");
}

TEST_CASE("benchmarks: ImageNet and its variants are named through classnames.txt") {
    const Tree tree;
    tree.file("imagenet/classnames.txt", "n03 cock\nn01 great white shark\nn02 brambling\n");
    for (const char* wnid : {"n01", "n02", "n03"}) {
        tree.images(std::string("imagenet/images/train/") + wnid, 3);
        tree.images(std::string("imagenet/images/val/") + wnid, 2);
        tree.images(std::string("imagenet-sketch/images/") + wnid, 2);
    }
    const Dataset test = open(tree, "imagenet", Split::test);
    CHECK(test.class_names == std::vector<std::string>{"great white shark", "brambling", "cock"});
    CHECK(test.size() == 6);
    CHECK(open(tree, "imagenet", Split::train).size() == 9);
    CHECK(open(tree, "imagenet_sketch", Split::test).class_names[2] == "cock");
    CHECK(contains(error_of(tree, "imagenet_sketch"), "has no training part"));

    // V2's folders are numbers, in the order of classnames.txt.
    for (const char* number : {"0", "1", "2"})
        tree.images(std::string("imagenetv2/imagenetv2-matched-frequency-format-val/") + number, 1);
    CHECK(open(tree, "imagenetv2", Split::test).class_names ==
          std::vector<std::string>{"cock", "great white shark", "brambling"});
    tree.images("imagenet-adversarial/imagenet-a/n02", 2);
    tree.file("imagenet-adversarial/imagenet-a/README.txt", "");
    CHECK(open(tree, "imagenet_a", Split::test).class_names == std::vector<std::string>{"brambling"});
    tree.images("imagenet-rendition/imagenet-r/n01", 2);
    tree.images("imagenet-rendition/imagenet-r/n99", 2);
    CHECK(contains(error_of(tree, "imagenet_r", Split::test), "not in classnames.txt"));
    tree.remove("imagenetv2/imagenetv2-matched-frequency-format-val/1");
    CHECK(contains(error_of(tree, "imagenetv2", Split::test), "is missing, the folder of class"));
    tree.file("imagenet/classnames.txt", "n01 one\nn02 two\nn01 three\n");
    CHECK(contains(error_of(tree, "imagenet", Split::test), "'n01' stands on line 1 and again on line 3"));
    tree.file("imagenet/classnames.txt", "n01 one\nn02\n");
    CHECK(contains(error_of(tree, "imagenet", Split::test), "line 2"));
    tree.file("imagenet/classnames.txt", "n01 \377\n");
    CHECK(contains(error_of(tree, "imagenet", Split::test), "UTF-8"));
    tree.remove("imagenet/classnames.txt");
    CHECK(contains(error_of(tree, "imagenet", Split::test), "classnames.txt"));
}

TEST_CASE("benchmarks: bad roots and split files") {
    const Tree tree;
    const std::string split = "oxford_flowers/split_zhou_OxfordFlowers.json";
    CHECK(contains(error_of(tree, "oxford_flowers"), "there is no folder"));
    tree.images("oxford_flowers/jpg/0", 6);
    CHECK(contains(error_of(tree, "oxford_flowers"), ".mat"));
    CHECK(contains(error_of(tree, "oxford_flowers"), "split_zhou_OxfordFlowers.json' is missing"));
    tree.file(split, split_file({"rose", "pink primrose"}));
    CHECK(contains(error_of(tree, "oxford_flowers"), "3 of the 6 train images are missing, the first is"));
    const BenchmarkReport half = check_benchmark(*find_benchmark("oxford_flowers"), tree.root());
    CHECK(contains(half.problems.at(0), "3 of 6 train images are missing"));
    CHECK(contains(half.problems.at(1), "2 of 4 test images are missing"));
    tree.images("oxford_flowers/jpg/1", 6);
    CHECK(open(tree, "oxford_flowers", Split::train).size() == 6);

    tree.file(split, split_file({"rose", "rose"}));
    CHECK(contains(error_of(tree, "oxford_flowers"), "labels 0 and 1 have the same class name 'rose'"));
    tree.file(split, split_file({"rose", " "}));
    CHECK(contains(error_of(tree, "oxford_flowers"), "the class name of label 1 is empty"));
    tree.file(split, split_file({"rose", "tulip"}).substr(0, 200));
    CHECK(contains(error_of(tree, "oxford_flowers"), "not valid JSON"));
    tree.file(split, "{\"train\": [[\"../secret.jpg\", 0, \"a\"]], \"val\": [], \"test\": []}");
    CHECK(contains(error_of(tree, "oxford_flowers"), "outside the image folder"));
    tree.file(split, "{\"train\": [[\"0/image0.jpg\", 99999999999, \"a\"]], \"val\": [], \"test\": []}");
    CHECK(contains(error_of(tree, "oxford_flowers"), "out of range"));
    tree.file(split, "{\"train\": [[\"0/image0.jpg\", 1, \"a\"]], \"val\": [], \"test\": []}");
    CHECK(contains(error_of(tree, "oxford_flowers"), "label 0 has no image"));
    tree.file(split,
              "{\"train\": [[\"0/image0.jpg\", 0, \"a\"], [\"0/image1.jpg\", 0, \"b\"]], \"val\": [], \"test\": []}");
    CHECK(contains(error_of(tree, "oxford_flowers"), "is called 'a' and 'b'"));
    tree.file(split, "{\"train\": [[\"0/image0.jpg\", 0, \"a\377\"]], \"val\": [], \"test\": []}");
    CHECK(contains(error_of(tree, "oxford_flowers"), "UTF-8"));
    tree.file(split, "{\"train\": []}");
    CHECK(contains(error_of(tree, "oxford_flowers"), "\"val\" is missing"));
    tree.file(split, std::string(100000, '['));
    CHECK(contains(error_of(tree, "oxford_flowers"), "nested too deeply"));
    CHECK(contains(error_of(tree, "flowers"), "known: fashion-mnist, folder, list, imagenet, caltech101"));
}

namespace {

std::string pickled_text(const std::string& text) {
    return std::string("X") + static_cast<char>(text.size()) + std::string(3, '\0') + text;
}

/// A list of Datum objects, as Python pickles them with protocol 2: class by name, empty arguments, state.
std::string pickled_images(const std::vector<std::pair<std::string, int>>& images) {
    std::string bytes = "](";
    for (const auto& [path, label] : images) {
        bytes += "cdassl.data.datasets.base_dataset\nDatum\n)\x81}(" + pickled_text("_impath") + pickled_text(path) +
                 pickled_text("_label") + "K" + static_cast<char>(label) + "ub";
    }
    return bytes + "e";
}

std::string few_shot_pickle(const std::vector<std::pair<std::string, int>>& images) {
    return "\x80\x02}(" + pickled_text("train") + pickled_images(images) + pickled_text("val") +
           pickled_images(images) + "u.";
}

}  // namespace

TEST_CASE("benchmarks: published few-shot draws") {
    const Tree tree;
    for (int c = 0; c < 2; ++c) tree.images("dtd/images/" + std::to_string(c), 6);
    tree.file("dtd/split_zhou_DescribableTextures.json", split_file({"banded", "blotchy"}));
    const Dataset train = open(tree, "dtd", Split::train);
    const std::string draw = "dtd/split_fewshot/shot_1-seed_3.pkl";
    const auto few = [&] {
        return read_few_shot(*find_benchmark("dtd"), published_draw("dtd", tree.root(), 1, 3).value(), train);
    };

    // Paths of another machine: what stands behind the folder of images counts.
    tree.file(draw, few_shot_pickle({{"/home/somebody/DATA/dtd/images/1/image2.jpg", 1},
                                     {"/home/somebody/DATA/dtd/images/0/image1.jpg", 0}}));
    const Dataset drawn = few();
    REQUIRE(drawn.size() == 2);
    CHECK(contains(drawn.item_name(0), tree.root() + "/dtd/images/1/image2.jpg"));
    CHECK(drawn.label(0) == 1);
    CHECK(drawn.label(1) == 0);
    CHECK_FALSE(published_draw("dtd", tree.root(), 1, 1));  // no file for this seed
    CHECK_FALSE(published_draw("fashion-mnist", tree.root(), 1, 3));

    const auto error = [&] {
        try {
            few();
        } catch (const Error& e) {
            return std::string(e.what());
        }
        return std::string("no error");
    };
    tree.file(draw, few_shot_pickle({{"/data/dtd/images/1/image5.jpg", 1}}));
    CHECK(contains(error(), "is not in the training part"));
    tree.file(draw, few_shot_pickle({{"/data/dtd/images/1/image2.jpg", 0}}));
    CHECK(contains(error(), "has label 0, but 1 in the split"));
    tree.file(draw, few_shot_pickle({}));
    CHECK(contains(error(), "is empty"));
    tree.file(draw, "\x80\x02}(" + pickled_text("train") +
                        "](K\x01"
                        "eu.");
    CHECK(contains(error(), "is not an image record"));
    tree.file(draw, few_shot_pickle({{"/data/dtd/images/1/image2.jpg", 1}}).substr(0, 60));
    CHECK(contains(error(), "shot_1-seed_3.pkl"));
}

}  // namespace benchmarks_test
