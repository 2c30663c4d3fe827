// SPDX-License-Identifier: Apache-2.0
#include <promptkd/data/list.hpp>
#include <promptkd/data/open.hpp>

#include <doctest/doctest.h>

#include <cstdlib>

namespace list_test {

namespace {

using namespace promptkd;

/// A folder with the (empty) images a.jpg, "b, c.jpg" and sub/d.png.
class ListFolder {
public:
    ListFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "promptkd-list-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path_ = name;
        make_directories(path_ + "/sub");
        for (const char* file : {"/a.jpg", "/b, c.jpg", "/sub/d.png"}) write_atomically(path_ + file, "");
    }
    ~ListFolder() { std::filesystem::remove_all(path_); }
    const std::string& path() const { return path_; }
    Dataset load(const std::string& text, const std::vector<std::string>& class_names = {}) const {
        write_atomically(path_ + "/list", text);
        return load_list(path_ + "/list", class_names);
    }
    void refused(const std::string& text, const std::string& expected,
                 const std::vector<std::string>& class_names = {}) const {
        CAPTURE(text);
        CAPTURE(expected);
        CHECK_THROWS_WITH_AS(load(text, class_names), doctest::Contains(expected.c_str()), Error);
    }

private:
    std::string path_;
};

using Names = std::vector<std::string>;

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
    folder.refused("{\"file\":\"a.jpg\"}\n", "line 1: expected an object with the string \"path\"");
    folder.refused("{\"path\":7}\n", "line 1: expected an object with the string \"path\"");
    folder.refused("{\"path\":\"a.jpg\",\"label\":7}\n", "line 1: \"label\" must be a class name");
    folder.refused("{\"path\":" + std::string(100'000, '[') + "\n", "line 1: nested values");
    CHECK_THROWS_WITH_AS(load_list(folder.path() + "/absent"), doctest::Contains("No such file"), Error);
}

}  // namespace

}  // namespace list_test
