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

#include <cstdint>
#include <filesystem>

namespace dense_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

std::vector<Detection> detections(const nlohmann::json& list) {
    std::vector<Detection> out;
    for (const auto& one : list) {
        const auto& b = one.at("box");
        out.push_back({one.at("image"), {b[0], b[1], b[2], b[3]}, one.at("label"), one.at("score")});
    }
    return out;
}

std::vector<TrueBox> true_boxes(const nlohmann::json& list) {
    std::vector<TrueBox> out;
    for (const auto& one : list) {
        const auto& b = one.at("box");
        out.push_back({one.at("image"), {b[0], b[1], b[2], b[3]}, one.at("label"), one.value("crowd", false)});
    }
    return out;
}

/// Numbers that pycocotools was given too.
class Draws {
public:
    Index below(Index n) {
        state_ = (state_ * 1103515245 + 12345) % (std::uint64_t{1} << 31);
        return static_cast<Index>(state_ >> 16) % n;
    }

private:
    std::uint64_t state_ = 1;
};

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
                                                 true_boxes(golden.at("ground_truth")), golden.at("classes"));
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

TEST_CASE("average precision: crowds and more than 100 detections, as pycocotools 2.0 has them") {
    Draws draw;
    std::vector<TrueBox> truth;
    std::vector<Detection> found;
    for (Index image = 0; image < 6; ++image)
        for (int k = 0; k < 4; ++k) {
            const Index x = draw.below(50), y = draw.below(50), w = 5 + draw.below(30), h = 5 + draw.below(30);
            const Index label = draw.below(3);
            const auto box = [&](Index dx, Index dy) {
                return Box{static_cast<double>(x + dx), static_cast<double>(y + dy), static_cast<double>(x + dx + w),
                           static_cast<double>(y + dy + h)};
            };
            truth.push_back({image, box(0, 0), label, draw.below(4) == 0});
            const Index copies = draw.below(3);
            for (Index i = 0; i < copies; ++i) {
                const Index dx = draw.below(7) - 3, dy = draw.below(7) - 3;
                const bool other = draw.below(5) == 0;
                const Index said = other ? draw.below(3) : label;
                found.push_back({image, box(dx, dy), said, static_cast<double>(draw.below(10) + 1) / 16});
            }
        }
    for (int i = 0; i < 110; ++i) {
        const double x = 80 + i % 5;
        found.push_back({0, {x, 80, x + 5, 85}, 0, 15.0 / 16});
    }
    REQUIRE(found.size() == 139);
    const AveragePrecision p = average_precision(found, truth, 3);
    const double want50[] = {0.012400269153128904, 0.5168316831683167, 0.49999999999999994};
    const double want[] = {0.004564604145253956, 0.2691584158415842, 0.24772277227722772};
    for (std::size_t c = 0; c < 3; ++c) {
        CAPTURE(c);
        CHECK(p.ap50[c].value() == doctest::Approx(want50[c]).epsilon(1e-12));
        CHECK(p.ap[c].value() == doctest::Approx(want[c]).epsilon(1e-12));
    }
    CHECK_FALSE(average_precision({}, {{0, {0, 0, 1, 1}, 0, true}}, 1).ap[0].has_value());  // crowds alone
}

TEST_CASE("average precision: recalls are those of numpy's linspace, of which some are above n/100") {
    std::vector<TrueBox> truth;
    std::vector<Detection> found;
    for (Index i = 0; i < 100; ++i) {
        truth.push_back({i, {0, 0, 4, 4}, 0, false});
        if (i < 35) found.push_back({i, {0, 0, 4, 4}, 0, 1});
    }
    CHECK(average_precision(found, truth, 1).ap[0].value() == doctest::Approx(35.0 / 101).epsilon(1e-12));
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
    CHECK(overlap.pixels() == 3);  // those before it
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
}

TEST_CASE("box files: what is wrong is said with its place") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/x.json";
    const auto refused = [&](const std::string& text, const std::string& what) {
        CAPTURE(text);
        write_atomically(path, text);
        std::string said;
        try {
            read_boxes(path);
        } catch (const Error& error) {
            said = error.what();
        }
        CHECK(said == path + ": " + what);
    };
    const std::string image = R"({"id": 4, "file_name": "a.png"})", dog = R"({"id": 9, "name": "dog"})";
    const auto coco = [](const std::string& images, const std::string& categories, const std::string& boxes) {
        return R"({"images": [)" + images + R"(], "categories": [)" + categories + R"(], "annotations": [)" + boxes +
               "]}";
    };
    refused("[1", "not JSON, nor a table called .csv");
    refused("3", "expected an object, {…}");
    refused(R"([{"file": "a.png", "boxes": [[1, 2, 4]]}])", "[0]: 'boxes[0]' is no list of four numbers");
    refused(R"([{"file": "a.png", "boxes": [], "labels": ["dog"]}])", "[0]: 1 labels for 0 boxes");
    refused(coco(R"({"id": 4})", dog, ""), "images[0]: has no 'file_name'");
    refused(coco(R"({"id": "4", "file_name": "a.png"})", dog, ""), "images[0]: 'id' is no whole number");
    refused(coco(image + "," + image, dog, ""), "images[1]: the id 4 is that of another image");
    refused(coco(image + R"(,{"id": 5, "file_name": "a.png"})", dog, ""),
            "two images are 'a.png'; each picture is listed once");
    refused(coco(image, dog + "," + dog, ""), "categories[1]: the id 9 is that of another category");
    refused(coco(image, dog + R"(,{"id": 8, "name": "dog"})", ""),
            "categories[1]: another category is called 'dog' too");
    refused(coco(image, dog, R"({"image_id": 5, "bbox": [0, 0, 1, 1]})"),
            "annotations[0]: it is in image 5, which is not listed");
    refused(coco(image, dog, R"({"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1]})"),
            "annotations[0]: it is of category 1, which is not listed");
    refused(coco(image, dog, R"({"image_id": 4, "bbox": [0, null, 1, 1]})"), "annotations[0]: 'bbox' holds no number");
    write_atomically(path, coco(image, "", R"({"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1]})"));
    CHECK(read_boxes(path).boxes[0][0].label.empty());  // proposals of no class
    const std::string table = folder.path() + "/x.csv";
    write_atomically(table, "file,x0,y0,x1,y1\na.png,1,2,4,6\na.png,1,2,four,6\n");
    CHECK_THROWS_WITH_AS(read_boxes(table), (table + ": line 3: 'four' in column 'x1' is no number").c_str(), Error);
    write_atomically(path, coco(image, dog, ""));
    write_atomically(table, "[]");
    CHECK_THROWS_WITH_AS(evaluate_boxes(table, path), (path + ": holds no true box").c_str(), Error);
}

}  // namespace dense_test
