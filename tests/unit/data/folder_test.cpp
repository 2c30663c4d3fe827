// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"

#include <promptkd/data/folder.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/text/class_names.hpp>

#include <doctest/doctest.h>

#include <cstdlib>

namespace folder_test {

namespace {

using namespace promptkd;

class TemporaryFolder : public promptkd::test::TemporaryFolder {
public:
    /// Creates empty files: listing a folder never decodes.
    void touch(const std::vector<std::string>& names) const {
        for (const std::string& name : names) {
            make_directories(std::filesystem::path(*this / name).parent_path().string());
            write_atomically(*this / name, "");
        }
    }
};

std::vector<std::string> names_of(const Dataset& data, const std::string& root) {
    std::vector<std::string> names;
    for (Index i = 0; i < data.size(); ++i)
        names.push_back(data.item_name(i).substr(root.size() + 1) + "=" + std::to_string(data.label(i)));
    return names;
}

using Names = std::vector<std::string>;

TEST_CASE("folder: a labelled tree; sorted, recursive, extensions in any case, hidden and other files left out") {
    const TemporaryFolder folder;
    folder.touch({"fire_truck/b.PNG", "fire_truck/a.jpeg", "fire_truck/more/c.JPG", "fire_truck/notes.txt", "car/1.jpg",
                  "car/._1.jpg", ".git/x.jpg", "readme.md"});
    const Dataset data = load_folder(folder.path());
    CHECK(data.class_names == Names{"car", "fire truck"});
    CHECK(names_of(data, folder.path()) ==
          Names{"car/1.jpg=0", "fire_truck/a.jpeg=1", "fire_truck/b.PNG=1", "fire_truck/more/c.JPG=1"});
    CHECK(data.labelled());
}

TEST_CASE("folder: given class names set the order of the labels") {
    const TemporaryFolder folder;
    folder.touch({"fire_truck/a.jpg", "car/1.jpg"});
    const Dataset data = load_folder(folder.path(), {"fire truck", "car"});
    CHECK(names_of(data, folder.path()) == Names{"car/1.jpg=1", "fire_truck/a.jpg=0"});
    CHECK(data.class_names == Names{"fire truck", "car"});
}

TEST_CASE("folder: unlabelled images, anywhere below the root") {
    const TemporaryFolder folder;
    folder.touch({"z.jpg", "2021/may/a.jpg", "2022/b.png"});
    const Dataset data = load_folder(folder.path(), {"cat", "dog"});
    CHECK(names_of(data, folder.path()) == Names{"2021/may/a.jpg=-1", "2022/b.png=-1", "z.jpg=-1"});
    CHECK(data.class_names == Names{"cat", "dog"});
    CHECK_FALSE(data.labelled());
    CHECK_THROWS_WITH_AS(load_folder(folder.path(), {"cat", "dog"}, FolderLabels::required),
                         doctest::Contains("folder '2021', '2022' is not among the class names"), Error);
}

TEST_CASE("folder: labels can be ignored") {
    const TemporaryFolder folder;
    folder.touch({"cat/a.jpg", "dog/b.jpg"});
    CHECK(load_folder(folder.path(), {"cat", "dog"}).labelled());
    const Dataset data = load_folder(folder.path(), {"cat", "dog"}, FolderLabels::none);
    CHECK(data.size() == 2);
    CHECK_FALSE(data.labelled());
}

TEST_CASE("folder: trees that disagree with the class names, or with themselves, are refused") {
    const TemporaryFolder folder;
    folder.touch({"cat/a.jpg", "dog/b.jpg"});
    CHECK_THROWS_WITH_AS(load_folder(folder.path(), {"cat", "bird"}), doctest::Contains("folder 'dog' is not among"),
                         Error);
    CHECK_THROWS_WITH_AS(load_folder(folder.path(), {"cat", "dog", "bird", "cow"}),
                         doctest::Contains("no folder for class 'bird', 'cow'"), Error);
    make_directories(folder / "empty");
    CHECK_THROWS_WITH_AS(load_folder(folder.path()), doctest::Contains("class 'empty' has no image"), Error);
    std::filesystem::remove(folder / "empty");
    folder.touch({"stray.jpg"});
    CHECK_THROWS_WITH_AS(load_folder(folder.path()), doctest::Contains("stray.jpg' lies beside the class folders"),
                         Error);
}

TEST_CASE("folder: missing, empty and ambiguous folders are refused") {
    const TemporaryFolder folder;
    CHECK_THROWS_WITH_AS(load_folder(folder / "absent"), doctest::Contains("No such file"), Error);
    CHECK_THROWS_WITH_AS(load_folder(folder.path()), doctest::Contains("no class folders"), Error);
    CHECK_THROWS_WITH_AS(load_folder(folder.path(), {"cat"}), doctest::Contains("has no image"), Error);
    folder.touch({"a_b/1.jpg", "a b/1.jpg"});
    CHECK_THROWS_WITH_AS(load_folder(folder.path()), doctest::Contains("differ only in _ and space"), Error);
    const TemporaryFolder other;
    other.touch({"\xff/1.jpg"});
    CHECK_THROWS_WITH_AS(load_folder(other.path()), doctest::Contains("not valid UTF-8"), Error);
}

TEST_CASE("folder: loops of symbolic links end") {
    const TemporaryFolder folder;
    folder.touch({"cat/a.jpg"});
    std::filesystem::create_directory_symlink(folder.path(), folder / "cat/loop");
    CHECK(load_folder(folder.path()).size() == 1);
}

TEST_CASE("folder: train and test subfolders") {
    const TemporaryFolder folder;
    folder.touch({"train/cat/a.jpg", "val/cat/b.jpg", "notes/n.txt"});
    CHECK(split_folder(folder.path(), Split::train) == folder / "train");
    CHECK(split_folder(folder.path(), Split::test) == folder / "val");
    folder.touch({"test/cat/c.jpg"});
    CHECK(split_folder(folder.path(), Split::test) == folder / "test");
    const Dataset data = open_dataset("folder:" + folder.path(), Split::test);
    CHECK(data.class_names == Names{"cat"});
    CHECK(data.item_name(0) == folder / "test/cat/c.jpg");

    const TemporaryFolder vehicles;
    vehicles.touch({"train/a.jpg", "car/b.jpg"});  // here "train" is a class
    CHECK(split_folder(vehicles.path(), Split::train) == vehicles.path());
    CHECK(open_dataset("folder:" + vehicles.path(), Split::train).class_names == Names{"car", "train"});

    const TemporaryFolder alone;
    alone.touch({"train/cat/a.jpg"});
    CHECK(split_folder(alone.path(), Split::train) == alone / "train");
    CHECK_THROWS_WITH_AS(split_folder(alone.path(), Split::test), doctest::Contains("no test or val folder"), Error);
    const TemporaryFolder only_test;
    only_test.touch({"test/cat/a.jpg"});
    CHECK_THROWS_WITH_AS(split_folder(only_test.path(), Split::train), doctest::Contains("no train folder"), Error);
}

TEST_CASE("class names: UTF-8, CRLF, blank lines and a byte order mark") {
    const TemporaryFolder folder;
    write_atomically(folder / "n",
                     "\xef\xbb\xbf"
                     "cat\r\n\r\n  caf\xc3\xa9 noir\t\n\nfire_truck");
    CHECK(read_class_names(folder / "n") == Names{"cat", "caf\xc3\xa9 noir", "fire_truck"});
}

TEST_CASE("class names: empty lists, duplicates and bad UTF-8 are refused") {
    const TemporaryFolder folder;
    const auto refused = [&](const std::string& text, const std::string& expected) {
        write_atomically(folder / "n", text);
        CAPTURE(expected);
        CHECK_THROWS_WITH_AS(read_class_names(folder / "n"), doctest::Contains(expected.c_str()), Error);
    };
    refused("", "the list of class names is empty");
    refused("\n \r\n", "the list of class names is empty");
    refused("cat\ndog\n\ncat\n", "'cat' stands on line 1 and again on line 4");
    refused("fire_truck\nfire truck\n", "stands on line 1 and again on line 2");
    refused("cat\nd\xffg\n", "line 2: the class name is not valid UTF-8");
    refused("\xed\xa0\x80\n", "not valid UTF-8");      // a surrogate
    refused("\xc0\xaf\n", "not valid UTF-8");          // overlong
    refused("caf\xc3", "not valid UTF-8");             // cut
    refused("\xf4\x90\x80\x80\n", "not valid UTF-8");  // beyond U+10FFFF
    CHECK_THROWS_WITH_AS(read_class_names(folder / "absent"), doctest::Contains("No such file"), Error);
}

TEST_CASE("class names: prompts") {
    CHECK(prompt_text("a photo of a {}.", "fire_truck") == "a photo of a fire truck.");
    CHECK(prompt_text("{}, {}", "a") == "a, a");
    CHECK(prompt_text("{}", "{}") == "{}");
    CHECK_THROWS_WITH_AS(prompt_text("a photo", "cat"), doctest::Contains("'a photo' has no '{}'"), Error);
}

TEST_CASE("open: names are parsed, unknown ones refused with the list") {
    CHECK(parse_data_spec("folder:/a:b").root == "/a:b");
    CHECK(parse_data_spec("list:x.csv").name == "list");
    for (const char* bad : {"", "folder", "folder:", ":x"})
        CHECK_THROWS_WITH_AS(parse_data_spec(bad), doctest::Contains("NAME:ROOT"), Error);
    CHECK_THROWS_WITH_AS(open_dataset("mnist:x", Split::train),
                         doctest::Contains("unknown data set 'mnist'; known: fashion-mnist, folder, list"), Error);
    CHECK_THROWS_WITH_AS(open_dataset("fashion-mnist:/absent", Split::train), doctest::Contains("train-images"), Error);
}

}  // namespace

}  // namespace folder_test
