// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <promptkd/data/box_files.hpp>
#include <promptkd/data/mask_layouts.hpp>
#include <promptkd/evaluate/dense/average_precision.hpp>
#include <promptkd/evaluate/dense/components.hpp>
#include <promptkd/evaluate/dense/overlap.hpp>
#include <promptkd/evaluate/dense/windows.hpp>
#include <promptkd/experiment/box_evaluation.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>

namespace dense_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

std::vector<Detection> detections(const nlohmann::json& list) {
    std::vector<Detection> out;
    for (const auto& one : list) {
        const auto& b = one.at("box");
        out.push_back({one.at("image"), {b[0], b[1], b[2], b[3]}, one.at("label"), one.value("score", 1.0)});
    }
    return out;
}

void write_mask(const std::string& path, std::uint8_t label, LabelStorage storage = LabelStorage::palette) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    LabelMap map(2, 3);
    map.labels.assign(6, label);
    map.labels[0] = 255;
    write_labels(path, map, storage);
}

void write_picture(const std::string& path) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    write_png(path, Image(2, 3));
}

}  // namespace

TEST_CASE("average precision: pycocotools' numbers") {
    const char* chosen = std::getenv("PROMPTKD_GOLDEN_DIR");
    std::string path = std::string(chosen && *chosen ? chosen : "") + "/detection.json";
    if (!std::filesystem::exists(path)) path = PROMPTKD_TEST_DATA "/golden/detection.json";
    const nlohmann::json golden = nlohmann::json::parse(read_file(path));
    const AveragePrecision p = average_precision(detections(golden.at("detections")),
                                                 detections(golden.at("ground_truth")), golden.at("classes"));
    CHECK(100 * AveragePrecision::mean(p.ap50) == doctest::Approx(golden.at("ap50").get<double>()).epsilon(1e-9));
    CHECK(100 * AveragePrecision::mean(p.ap) == doctest::Approx(golden.at("ap").get<double>()).epsilon(1e-9));
    for (std::size_t c = 0; c < p.ap50.size(); ++c) {
        const auto& want = golden.at("ap50_per_class").at(c);
        CHECK(p.ap50[c].has_value() != want.is_null());
        if (p.ap50[c]) CHECK(100 * *p.ap50[c] == doctest::Approx(want.get<double>()).epsilon(0.001));
    }
    CHECK_THROWS_WITH_AS(average_precision({{0, {0, 0, 1, 1}, 4, 1}}, {}, 4),
                         "a box is of class 4, but there are 4 classes", Error);
}

TEST_CASE("boxes: what is wrong is said") {
    CHECK_NOTHROW(require_box({0, 0, 4, 3}, 4, 3, "a.png"));
    CHECK_THROWS_WITH_AS(require_box({2, 0, 1, 3}, 4, 3, "a.png"),
                         "a.png: box 2, 0, 1, 3 is inverted or empty; boxes are left, top, right, bottom", Error);
    CHECK_THROWS_WITH_AS(require_box({0, 0, 5, 3}, 4, 3, "a.png"),
                         "a.png: box 0, 0, 5, 3 lies outside the image of 4 x 3 pixels", Error);
    CHECK_THROWS_AS(require_box({0, 0, NAN, 3}, 4, 3, "a.png"), Error);
}

TEST_CASE("components: by 8 neighbours, of equal values, large enough") {
    const std::vector<int> values{1, 0, 0, 2,   //
                                  0, 1, 0, 2,   //
                                  0, 0, 0, 0,   //
                                  3, 0, 0, 1};  //
    const auto all = connected_components(values, 4, 4);
    REQUIRE(all.size() == 4);
    CHECK(all[0].box == Box{0, 0, 2, 2});
    CHECK(all[1].box == Box{3, 0, 4, 2});
    CHECK(connected_components(values, 4, 4, 2).size() == 2);
    CHECK_THROWS_AS(connected_components(values, 4, 5), Error);
}

TEST_CASE("overlap: sizes and labels are checked") {
    Overlap overlap(2);
    LabelMap map(2, 2), other(2, 3);
    CHECK_THROWS_WITH_AS(overlap.add(map, other), "a mask of 3 x 2 pixels for an image of 2 x 2", Error);
    LabelMap high(2, 2);
    high.labels[3] = 7;
    CHECK_THROWS_WITH_AS(overlap.add(map, high), "a mask holds label 7, but there are 2 classes (0 to 1)", Error);
}

TEST_CASE("windows: those of the last row and column are moved inside") {
    const std::vector<PixelRect> windows = windows_of(5, 9, {4, 3, OddWindow::stretch});
    REQUIRE(windows.size() == 6);
    CHECK(windows.front() == PixelRect{0, 0, 4, 4});
    CHECK(windows.back() == PixelRect{1, 5, 4, 4});
    CHECK(windows_of(3, 3, {4, 2, OddWindow::stretch}) == std::vector<PixelRect>{{0, 0, 3, 3}});
    CHECK_THROWS_AS(windows_of(9, 9, {4, 5, OddWindow::stretch}), Error);
}

TEST_CASE("masks: published layouts are found and read") {
    const TemporaryFolder folder;
    const std::string root = folder.path() + "/";
    write_picture(root + "voc/JPEGImages/a.jpg");
    write_mask(root + "voc/SegmentationClass/a.png", 3);
    std::filesystem::create_directories(root + "voc/ImageSets/Segmentation");
    write_atomically(root + "voc/ImageSets/Segmentation/val.txt", "a\n");
    write_picture(root + "context/JPEGImages/a.jpg");
    write_mask(root + "context/SegmentationClassContext/a.png", 3);
    std::filesystem::create_directories(root + "context/ImageSets/SegmentationContext");
    write_atomically(root + "context/ImageSets/SegmentationContext/val.txt", "a\n");
    write_picture(root + "ade/images/validation/x_1.jpg");
    write_mask(root + "ade/annotations/validation/x_1.png", 3, LabelStorage::grey);
    write_picture(root + "coco/images/val2017/7.jpg");
    write_mask(root + "coco/annotations/val2017/7_labelTrainIds.png", 3, LabelStorage::grey);
    write_picture(root + "city/leftImg8bit/val/bonn/b_leftImg8bit.png");
    write_mask(root + "city/gtFine/val/bonn/b_gtFine_labelTrainIds.png", 3, LabelStorage::grey);
    write_picture(root + "plain/images/sub/p.png");
    write_mask(root + "plain/masks/sub/p.png", 3);
    write_picture(root + "scenes/scene0.png");
    write_mask(root + "scenes/mask0.png", 3);
    const std::vector<std::pair<std::string, std::string>> expected{
        {"voc", "voc21"},       {"context", "context60"}, {"ade", "ade20k"},   {"coco", "coco-stuff"},
        {"city", "cityscapes"}, {"plain", "folder"},      {"scenes", "scenes"}};
    for (const auto& [name, layout] : expected) {
        const std::string tree = root + name;
        CAPTURE(tree);
        const MaskLayout found = find_mask_layout(tree, "");
        CHECK(found.name == layout);
        const std::vector<MaskedImage> files = masked_images(tree, found);
        REQUIRE(files.size() == 1);
        const LabelMap map = MaskReader(found).read(files[0].mask);
        CHECK(map.labels[1] == (found.shifted ? 2 : 3));
        CHECK(map.labels[0] == 255);
    }
    CHECK(find_mask_layout(root + "voc", "voc20").shifted);
    CHECK_THROWS_AS(find_mask_layout(root + "voc", "ade20k"), Error);
    CHECK_THROWS_AS(find_mask_layout(root + "voc", "voc22"), Error);
    CHECK_THROWS_AS(find_mask_layout(root, ""), Error);
    MaskReader reader(find_mask_layout(root + "plain", ""));
    reader.read(root + "plain/masks/sub/p.png");
    CHECK_THROWS_AS(reader.read(root + "ade/annotations/validation/x_1.png"), Error);  // palette, then grey
    CHECK_THROWS_AS(read_labels(root + "scenes/scene0.png"), Error);                   // colours
    std::filesystem::remove(root + "plain/masks/sub/p.png");
    CHECK_THROWS_AS(masked_images(root + "plain", find_mask_layout(root + "plain", "")), Error);
}

TEST_CASE("box files: COCO, records and tables; results against true boxes") {
    const TemporaryFolder folder;
    const std::string root = folder.path() + "/";
    write_atomically(root + "coco.json", R"({"images": [{"id": 4, "file_name": "a.png"}], "annotations":
        [{"image_id": 4, "category_id": 9, "bbox": [1, 2, 3, 4]}], "categories": [{"id": 9, "name": "dog"}]})");
    write_atomically(root + "list.json", R"([{"file": "a.png", "boxes": [[1, 2, 4, 6]], "labels": ["dog"]}])");
    write_atomically(root + "table.csv", "file,x0,y0,x1,y1,label\na.png,1,2,4,6,dog\n");
    for (const char* name : {"coco.json", "list.json", "table.csv"}) {
        CAPTURE(name);
        const BoxFile file = read_boxes(root + name);
        REQUIRE(file.boxes.size() == 1);
        REQUIRE(file.boxes[0].size() == 1);
        CHECK(file.boxes[0][0].edges == std::array<double, 4>{1, 2, 4, 6});
        CHECK(file.boxes[0][0].label == "dog");
        CHECK(std::filesystem::path(file.images[0]).filename() == "a.png");
    }
    write_atomically(root + "found.json", R"([{"image_id": 4, "category_id": 9, "bbox": [1, 2, 3, 4], "score": 0.5}])");
    CHECK(AveragePrecision::mean(evaluate_boxes(root + "found.json", root + "coco.json").precision.ap) == 1);
    write_atomically(root + "other.json", R"([{"image_id": 5, "category_id": 9, "bbox": [1, 2, 3, 4], "score": 0.5}])");
    CHECK_THROWS_AS(evaluate_boxes(root + "other.json", root + "coco.json"), Error);
    write_atomically(root + "bad.json", R"([{"file": "a.png", "boxes": [[1, 2, 4]]}])");
    CHECK_THROWS_AS(read_boxes(root + "bad.json"), Error);
}

}  // namespace dense_test
