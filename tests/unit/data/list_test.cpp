// SPDX-License-Identifier: Apache-2.0
#include "support/image_tree.hpp"

#include <promptkd/data/draw.hpp>
#include <promptkd/data/list.hpp>
#include <promptkd/data/open.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace list_test {

namespace {

using namespace promptkd;

using promptkd::test::ImageTree;

/// A folder with the (empty) images a.jpg, "b, c.jpg" and sub/d.png.
class ListFolder : public ImageTree {
public:
    ListFolder() : ImageTree({"a.jpg", "b, c.jpg", "sub/d.png"}) {}

    DataContents read(const std::string& text, const ClassNames& class_names = {}) const {
        write("list", text);
        return read_list(*this / "list", class_names);
    }
    Dataset load(const std::string& text, const ClassNames& class_names = {}) const {
        return read(text, class_names).images(Split::test, true);
    }
    void refused(const std::string& text, const std::string& expected, const ClassNames& class_names = {}) const {
        CAPTURE(text);
        CAPTURE(expected);
        CHECK_THROWS_WITH_AS(load(text, class_names), doctest::Contains(expected.c_str()), Error);
    }
};

/// Names below the folder and labels.
std::vector<std::string> items_of(const Dataset& data, const std::string& root) {
    std::vector<std::string> names;
    for (Index i = 0; i < data.size(); ++i) {
        const std::string name = std::filesystem::path(data.item_name(i)).lexically_normal().string();
        names.push_back(name.substr(root.size() + 1) + "=" + std::to_string(data.label(i)));
    }
    return names;
}

bool says(const std::vector<std::string>& texts, const std::string& what) {
    for (const std::string& text : texts)
        if (text.find(what) != std::string::npos) return true;
    return false;
}

using Names = std::vector<std::string>;

TEST_CASE("list: labels in columns of ids, names before numbers") {
    const ListFolder folder;
    for (const char* column : {"class_id", "ClassId", "category_id", "label id", "class_index"}) {
        CAPTURE(column);
        const Dataset data = folder.load(concat("path,", column, "\na.jpg,1\nsub/d.png,0\n"), {"cat", "dog"});
        CHECK(data.label(0) == 1);
        CHECK(data.label(1) == 0);
    }
    const Dataset named = folder.load("path,class_id,class_name\na.jpg,7,dog\nsub/d.png,5,cat\n");
    CHECK(named.class_names == Names{"cat", "dog"});
    CHECK(named.label(0) == 1);
}

TEST_CASE("list: CSV with and without header, quotes, CRLF, absolute paths") {
    const ListFolder folder;
    for (const std::string header : {"", "path,label\n", "Path,Label\r\n", "\xef\xbb\xbfpath,label\n"}) {
        const Dataset data = folder.load(header + "a.jpg,fire_truck\r\n\n\"b, c.jpg\",\"ca\"\"r\"\n" + folder.path() +
                                         "/sub/d.png , fire truck\n");
        CAPTURE(header);
        REQUIRE(data.size() == 3);
        CHECK(data.class_names == Names{"ca\"r", "fire truck"});
        CHECK(data.label(0) == 1);
        CHECK(data.label(1) == 0);
        CHECK(data.label(2) == 1);
        CHECK(data.item_name(0) == folder.path() + "/a.jpg");
        CHECK(data.item_name(1) == folder.path() + "/b, c.jpg");
        CHECK(data.item_name(2) == folder.path() + "/sub/d.png");
    }
}

TEST_CASE("list: paths only") {
    const ListFolder folder;
    for (const char* text : {"a.jpg\nsub/d.png", "path\na.jpg\nsub/d.png\n", "path,label\na.jpg,\nsub/d.png,\n"}) {
        const Dataset data = folder.load(text, {"x", "y"});
        CAPTURE(text);
        CHECK(data.size() == 2);
        CHECK(data.label(1) == -1);
        CHECK(data.class_names == Names{"x", "y"});
    }
    CHECK(folder.load("a.jpg").class_names.empty());
}

TEST_CASE("list: JSON lines") {
    const ListFolder folder;
    const Dataset data = folder.load(
        "{\"path\": \"a.jpg\", \"label\": \"dog\"}\n\n{\"label\":\"cat\",\"path\":\"sub/d.png\",\"id\":3}\r\n",
        {"dog", "cat"});
    REQUIRE(data.size() == 2);
    CHECK(data.label(0) == 0);
    CHECK(data.label(1) == 1);
    CHECK(folder.load("{\"path\":\"a.jpg\",\"label\":null}\n{\"path\":\"sub/d.png\"}").label(0) == -1);
    CHECK(open_dataset("list:" + folder.path() + "/list", Split::test).size() == 2);
}

TEST_CASE("list: errors carry the line number") {
    const ListFolder folder;
    folder.refused("", "the list names no image");
    folder.refused("path,label\n", "the list names no image");
    folder.refused("a.jpg,cat\nb.jpg,cat\n", "list: line 2: there is no file '" + folder.path() + "/b.jpg'");
    folder.refused("sub,cat\n", "line 1: there is no file");
    folder.refused("a.jpg,cat,3\n", "line 1: 3 fields");
    folder.refused("path,label\n\n,cat\n", "line 3: the path is empty");
    folder.refused("\"a.jpg,cat\n", "line 1: a quote is not closed");
    folder.refused("\"a.jpg\"x,cat\n", "line 1: text after a closing quote");
    folder.refused("a.jpg,cat\nsub/d.png\n", "line 2: images with and without a label are mixed (see line 1)");
    folder.refused("a.jpg,c\xfft\n", "line 1: not valid UTF-8");
    folder.refused("a.jpg,cow\n", "line 1: label 'cow' is not among the class names", {"cat", "dog"});
    folder.refused("{\"path\":\"a.jpg\"}\n{\"path\":\n", "line 2: not valid JSON");
    folder.refused("{\"path\":\"a.jpg\"}\n[]\n", "line 2: expected an object");
    folder.refused("{\"picture_of\":\"a.jpg\"}\n{\"picture_of\":\"a.jpg\"}",
                   "the columns 'picture_of' are none of those");
    folder.refused("{\"path\":7}\n", "line 1: there is no file");
    folder.refused("{\"path\":\"a.jpg\",\"label\":[\"cat\"]}\n{\"path\":\"a.jpg\"}\n",
                   "line 1: the value of 'label' is a list or an object");
    folder.refused("{\"path\":" + std::string(100'000, '[') + "\n", "line 1: nested values");
    CHECK_THROWS_WITH_AS(read_list(folder.path() + "/absent"), doctest::Contains("No such file"), Error);
}

TEST_CASE("list: forms that people have") {
    const ListFolder folder;
    const Names expected{"a.jpg=1", "sub/d.png=0"};
    for (const char* text :
         {"filepath,title,class\na.jpg,x y,dog\nsub/d.png,z,cat\n",
          "filename\tlabel\na.jpg\tdog\nsub/d.png\tcat\n",
          "image;label\r\na.jpg;dog\r\nsub/d.png;cat\r\n",
          "sep=;\nimage;label\na.jpg;dog\nsub/d.png;cat\n",
          "a.jpg\tdog\nsub/d.png\tcat\n",
          "a.jpg;dog\nsub/d.png;cat",
          "a.jpg dog\nsub/d.png cat\n",
          "Image Path|Category\na.jpg|dog\nsub/d.png|cat\n",
          ",image_id,breed\n0,a,dog\n1,sub/d,cat\n",
          "path,caption,label\na.jpg,\"one,\ntwo\",dog\nsub/d.png,\"\",cat\n",
          "path,label,label_name\na.jpg,7,dog\nsub/d.png,3,cat\n",
          "path,label\n.\\a.jpg,dog\nsub\\d.png,cat\n",
          "path,label\nC:\\Users\\me\\data\\a.jpg,dog\nC:\\Users\\me\\data\\sub\\d.png,cat\n",
          "path,label\n/home/me/data/a.jpg,dog\n/home/me/data/sub/d.png,cat\n",
          "[{\"file_name\": \"a.jpg\", \"label\": \"dog\", \"box\": [1, 2]}, {\"file_name\": \"sub/d.png\", \"label\": "
          "\"cat\"}]",
          "[\n {\n  \"image\": \"a.jpg\",\n  \"class\": \"dog\"},\n {\"image\": \"sub/d.png\", \"class\": "
          "\"cat\"}\n]\n",
          "[[\"a.jpg\", \"dog\"], [\"sub/d.png\", \"cat\"]]",
          "{\"a.jpg\": \"dog\", \"sub/d.png\": \"cat\"}",
          "{\"path\": [\"a.jpg\", \"sub/d.png\"], \"label\": [\"dog\", \"cat\"]}",
          "{\"path\": {\"0\": \"a.jpg\", \"1\": \"sub/d.png\"}, \"label\": {\"0\": \"dog\", \"1\": \"cat\"}}",
          "{\"version\": 1, \"images\": [{\"path\": \"a.jpg\", \"label\": \"dog\"}, {\"path\": \"sub/d.png\", "
          "\"label\": \"cat\"}]}",
          "{\"image\": \"a.jpg\", \"target\": \"dog\"}\n{\"image\": \"sub/d.png\", \"target\": \"cat\", \"x\": {\"y\": "
          "1}}\n"}) {
        CAPTURE(text);
        const Dataset data = folder.load(text);
        CHECK(data.class_names == Names{"cat", "dog"});
        CHECK(items_of(data, folder.path()) == expected);
    }
    std::string wide = "\xff\xfe";  // a spreadsheet's "Unicode text"
    for (const char c : std::string("path\tlabel\r\na.jpg\tdog\r\nsub/d.png\tcat\r\n")) wide += {c, '\0'};
    CHECK(items_of(folder.load(wide), folder.path()) == expected);
}

TEST_CASE("list: labels that are numbers") {
    const ListFolder folder;
    const ClassNames names{"cat", "dog", "cow"};
    CHECK(items_of(folder.load("a.jpg,2\nsub/d.png,0\n", names), folder.path()) == Names{"a.jpg=2", "sub/d.png=0"});
    CHECK(items_of(folder.load("a.jpg 2\nsub/d.png 0\n", names), folder.path()) == Names{"a.jpg=2", "sub/d.png=0"});
    CHECK(items_of(folder.load("path,label\na.jpg,3.0\nsub/d.png,1.0\n", names), folder.path()) ==
          Names{"a.jpg=2", "sub/d.png=0"});
    CHECK(folder.load("{\"path\":\"a.jpg\",\"label\":2}\n{\"path\":\"sub/d.png\",\"label\":1}", names).label(0) == 2);
    CHECK(folder.load("a.jpg,n2\nsub/d.png,n1\n", ClassNames({"cat", "dog"}, {"n1", "n2"})).label(0) == 1);
    folder.write("list", "a.jpg,10\nsub/d.png,9\n");  // nobody asks what the labels mean
    const DataContents unlabelled = read_list(folder / "list", {}, false);
    CHECK(unlabelled.warnings.empty());
    CHECK(unlabelled.class_names.empty());
    const DataContents alone = folder.read("a.jpg,10\nsub/d.png,9\n");
    CHECK(alone.class_names == Names{"9", "10"});
    CHECK(says(alone.warnings, "numbers or ids ('9', '10')"));
    folder.refused("a.jpg,3\nsub/d.png,0\n", "line 1: label '3' is not among the class names given ('cat', 'dog'",
                   names);
}

TEST_CASE("list: images in folders beside it, parts, repeated images") {
    const ImageTree folder;
    folder.fill({"train_images"}, 3);
    folder.write("train.csv", "image_id,label,split\n0.png,cat,train\n1.png,dog,train\n2.png,cat,Test\n");
    const DataContents parts = read_list(folder / "train.csv");
    CHECK(parts.images(Split::train, true).size() == 2);
    CHECK(parts.images(Split::test, true).item_name(0) == folder / "train_images/2.png");
    CHECK(says(parts.notes, "'0.png' is taken as '" + folder / "train_images/0.png'"));
    CHECK(says(parts.warnings, "1 of the 2 classes have no image in the test part: 'dog'"));
    folder.write("twice.csv", "id,label\n0,cat\n0,dog\n");
    CHECK(says(read_list(folder / "twice.csv").warnings, "1 images stand in the list more than once"));
    folder.fill({"other"}, 1);
    CHECK_THROWS_WITH_AS(read_list(folder / "twice.csv"), doctest::Contains("line 2: '0' could be '"), Error);
}

TEST_CASE("list: what is no list is answered by what was expected") {
    const ListFolder folder;
    folder.refused("picture_of,kind\na.jpg,cat\n", "the columns 'picture_of', 'kind' are none of those expected");
    folder.refused("PK\x03\x04", "an Excel workbook");
    folder.refused("PAR1", "a Parquet file");
    folder.refused(std::string("a\0b", 3), "zero bytes");
    folder.write("list", "path,caption\na.jpg,cat\n");
    CHECK_THROWS_WITH_AS(open_dataset("list:" + folder / "list", Split::test, {}, FolderLabels::required),
                         doctest::Contains("have no labels, which are needed here: the columns 'path', 'caption' hold"),
                         Error);
    const ImageTree deep({"a/b/c/1.png", "a/b/d/2.png"});
    deep.write("list.csv", "image_id,label\n1,cat\n2.png,dog\n");
    CHECK(read_list(deep / "list.csv").whole->item_name(1) == deep / "a/b/d/2.png");
    deep.touch({"a/b/2.png"});
    CHECK_THROWS_WITH_AS(read_list(deep / "list.csv"), doctest::Contains("line 3: '2.png' could be '"), Error);
    deep.write("coco.json",
               "{\"licenses\": [{\"id\": 1, \"url\": \"x\"}], \"images\": [{\"file_name\": \"1.png\", "
               "\"label\": \"cat\"}]}");
    CHECK(read_list(deep / "coco.json").class_names == Names{"cat"});
}

TEST_CASE("draw: evenly over classes or folders, by seed, in order") {
    const ImageTree folder;
    folder.fill({"cat", "dog", "owl"}, 10);
    folder.fill({"yak"}, 1);
    const Dataset all = open_dataset("folder:" + folder.path(), Split::train);
    const auto shares = [](const Dataset& data) {
        std::map<Index, Index> of_class;
        for (const Item& item : data.items) ++of_class[item.label];
        return of_class;
    };
    const Dataset ten = draw_evenly(all, 10, 1);
    CHECK(shares(ten) == std::map<Index, Index>{{0, 3}, {1, 3}, {2, 3}, {3, 1}});
    CHECK(draw_evenly(all, 100, 1).size() == 31);
    CHECK(draw_evenly(all, 2, 1).size() == 2);
    CHECK(shares(draw_evenly(all, 2, 1)) == std::map<Index, Index>{{0, 1}, {2, 1}});
    const auto sources = [](const Dataset& data) {
        std::vector<Index> list;
        for (const Item& item : data.items) list.push_back(item.source);
        return list;
    };
    CHECK(sources(draw_evenly(all, 10, 1)) == sources(ten));
    CHECK(sources(draw_evenly(all, 10, 2)) != sources(ten));
    const std::vector<Index> order = sources(ten);
    CHECK(std::is_sorted(order.begin(), order.end()));
    const Dataset tree = open_dataset("folder:" + folder.path(), Split::train, {"x", "y"});
    std::map<std::string, int> folders;
    for (Index i = 0; i < 6; ++i)
        ++folders[std::filesystem::path(draw_evenly(tree, 6, 1).item_name(i)).parent_path().filename()];
    CHECK(folders == std::map<std::string, int>{{"cat", 2}, {"dog", 2}, {"owl", 1}, {"yak", 1}});

    const ImageTree even;
    even.fill({"cat", "dog"}, 10);
    const HeldOut fifth = hold_out(open_dataset("folder:" + even.path(), Split::train), 0.2, 1);
    CHECK(shares(fifth.test) == std::map<Index, Index>{{0, 2}, {1, 2}});
    CHECK(without_files(fifth.train, {&fifth.test}).size() == 16);
    CHECK(shares(hold_out(open_dataset("folder:" + even.path(), Split::train), 3, 1).test)[1] == 3);
    CHECK_THROWS_WITH_AS(hold_out(all, 1, 1), doctest::Contains("class 'yak' has 1 image(s), too few"), Error);
    CHECK_THROWS_WITH_AS(hold_out(all, 1.5, 1), doctest::Contains("neither a share"), Error);
    CHECK_THROWS_WITH_AS(hold_out(tree, 1, 1), doctest::Contains("labelled"), Error);
}

}  // namespace

}  // namespace list_test
