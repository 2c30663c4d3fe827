// SPDX-License-Identifier: Apache-2.0
// Regions of pictures and of their patches; crops.
#include <promptkd/data/memory_images.hpp>
#include <promptkd/evaluate/dense/crops.hpp>
#include <promptkd/experiment/dense/pictures.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

namespace dense_pictures_test {

using namespace promptkd;

namespace {

/// Black, with white rectangles.
Image picture_with(Index height, Index width, const std::vector<std::array<Index, 4>>& rectangles) {
    Image image(height, width);
    for (const auto& [x0, y0, x1, y1] : rectangles)
        for (Index y = y0; y < y1; ++y)
            for (Index x = x0; x < x1; ++x) image.row(y)[3 * x + 1] = 200;
    return image;
}

/// Pictures that need not be there.
Dataset named(const std::vector<std::string>& files) {
    Dataset data;
    for (std::size_t i = 0; i < files.size(); ++i) data.items.push_back({static_cast<Index>(i), -1});
    data.source = std::make_shared<ImageFiles>(files);
    return data;
}

}  // namespace

TEST_CASE("regions: components of the foreground, of a mask, and boxes") {
    std::string folder = (std::filesystem::temp_directory_path() / "promptkd-regions-XXXXXX").string();
    REQUIRE(mkdtemp(folder.data()) != nullptr);
    const Image picture = picture_with(8, 12, {{0, 0, 4, 4}, {6, 1, 12, 5}, {0, 7, 1, 8}});
    RegionOptions options;
    options.least = 2;
    CHECK(RegionFinder(options, named({"p.png"})).find(0, picture).size() == 2);
    options.foreground = 200;
    CHECK(RegionFinder(options, named({"p.png"})).find(0, picture).empty());

    LabelMap mask(8, 12);
    for (Index x = 0; x < 12; ++x) mask.labels[static_cast<std::size_t>(x)] = x < 5 ? 3 : x < 9 ? 4 : 255;
    write_labels(folder + "/p.png", mask);
    options.masks = folder;
    const RegionFinder masks(options, named({"elsewhere/p.jpg"}));
    CHECK(masks.find(0, picture).size() == 2);
    CHECK_THROWS_AS(masks.find(0, Image(8, 11)), Error);
    CHECK_THROWS_AS(RegionFinder(options, named({"q.jpg"})), Error);

    options.masks.clear();
    options.boxes = folder + "/boxes.csv";
    write_atomically(options.boxes, "file,x0,y0,x1,y1\np.png,1,1,4,3\nq.png,0,0,99,9\n");
    const RegionFinder finder(options, named({"p.png", "q.png", "r.png"}));
    const std::vector<Component> boxes = finder.find(0, picture);
    REQUIRE(boxes.size() == 1);
    CHECK(boxes[0].pixels == std::vector<Index>{13, 14, 15, 25, 26, 27});
    CHECK_THROWS_AS(finder.find(1, picture), Error);
    CHECK(finder.find(2, picture).empty());
    std::filesystem::remove_all(folder);
}

TEST_CASE("pictures: of a layout with masks the pictures alone, whether they have masks or not") {
    std::string folder = (std::filesystem::temp_directory_path() / "promptkd-pictures-XXXXXX").string();
    REQUIRE(mkdtemp(folder.data()) != nullptr);
    for (const char* name : {"scene0.png", "scene1.png", "mask0.png"}) write_atomically(folder + "/" + name, "");
    CHECK(open_pictures(folder, {"a"}).size() == 2);
    CHECK(open_pictures("folder:" + folder, {"a"}).size() == 2);
    std::filesystem::rename(folder + "/mask0.png", folder + "/other.png");  // without a mask it is a folder as any
    CHECK(open_pictures(folder, {"a"}).size() == 3);
    std::filesystem::rename(folder + "/other.png", folder + "/mask0.png");
    std::filesystem::remove(folder + "/scene0.png");
    std::filesystem::remove(folder + "/scene1.png");
    CHECK(open_pictures(folder, {"a"}).size() == 1);
    std::filesystem::remove(folder + "/mask0.png");
    CHECK_THROWS_AS(open_pictures(folder, {"a"}), Error);
    for (const char* part : {"a", "b"}) {
        make_directories(folder + "/" + part);
        write_atomically(folder + "/" + part + "/p.png", "");
    }
    CHECK(open_pictures(folder, {"a"}).size() == 2);

    RegionOptions options;  // two pictures of one name: boxes belong to the path, not to the name
    options.boxes = folder + "/boxes.csv";
    write_atomically(options.boxes, "file,x0,y0,x1,y1\na/p.png,0,0,4,4\nb/p.png,0,0,2,2\nb/p.png,0,0,3,3\n");
    const std::string one = folder + "/a/p.png", two = folder + "/./b/p.png";
    const RegionFinder finder(options, named({one, two, folder + "/c/p.png"}));
    CHECK(finder.find(0, Image(8, 8)).size() == 1);
    CHECK(finder.find(1, Image(8, 8)).size() == 2);
    CHECK(finder.find(2, Image(8, 8)).empty());
    write_atomically(options.boxes, "file,x0,y0,x1,y1\np.png,0,0,4,4\n");
    CHECK_THROWS_AS(RegionFinder(options, named({one, two})), Error);

    RegionOptions masked;  // nor are masks of one name mixed up: they lie in folders as the pictures do
    masked.masks = folder + "/masks";
    masked.least = 1;
    for (const char* part : {"/a", "/b"}) {
        make_directories(masked.masks + part);
        LabelMap mask(4, 4);
        mask.labels[5] = mask.labels[part[1] == 'a' ? 5 : 7] = 1;
        write_labels(masked.masks + part + "/p.png", mask);
    }
    Dataset pictures = named({folder + "/a/p.png", folder + "/b/p.png"});
    pictures.name = folder;
    CHECK(RegionFinder(masked, pictures).find(0, Image(4, 4)).size() == 1);
    CHECK(RegionFinder(masked, pictures).find(1, Image(4, 4)).size() == 2);
    std::filesystem::rename(masked.masks + "/a/p.png", masked.masks + "/p.png");
    std::filesystem::remove(masked.masks + "/b/p.png");
    CHECK_THROWS_AS(RegionFinder(masked, pictures), Error);
    std::filesystem::remove_all(folder);
}

TEST_CASE("patches belong to the region that covers most of them") {
    const Image picture = picture_with(8, 12, {{0, 0, 4, 4}, {6, 1, 12, 5}});
    RegionOptions options;
    options.least = 1;
    const PatchRegions found = regions_of_patches(RegionFinder(options, named({"p"})).find(0, picture), {2, 3}, 8, 12);
    CHECK(found.region == std::vector<std::int32_t>{0, 1, 1, -1, 1, 1});
    CHECK(found.share == std::vector<float>{1, 6.0F / 16, 12.0F / 16, 0, 2.0F / 16, 4.0F / 16});
    // on a grid that does not divide the picture every pixel still belongs to one patch
    const PatchRegions odd = regions_of_patches(RegionFinder(options, named({"p"})).find(0, picture), {3, 5}, 8, 12);
    CHECK(odd.region[0] == 0);
    CHECK(odd.share[0] == 1);
}

TEST_CASE("crops: the square around a box, black beyond the picture") {
    const Dataset data = memory_dataset({picture_with(8, 12, {{0, 0, 12, 8}})}, {"a", "b"});
    const Dataset crops = crops_of(data, {{0, {0, 0, 2, 6}}, {0, {4, 2, 8, 6}}});
    REQUIRE(crops.size() == 2);
    const Image first = crops.load(0);
    CHECK(first.height == 6);
    CHECK(first.width == 6);
    CHECK(first.row(0)[3 * 1 + 1] == 0);
    CHECK(first.row(0)[3 * 2 + 1] == 200);
    CHECK(crops.load(1).width == 4);
}

}  // namespace dense_pictures_test
