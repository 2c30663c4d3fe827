// SPDX-License-Identifier: Apache-2.0
#include "support/image_tree.hpp"

#include <promptkd/data/class_names_file.hpp>
#include <promptkd/data/describe.hpp>
#include <promptkd/data/folder.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/text/class_names.hpp>

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace folder_test {

namespace {

using namespace promptkd;

using promptkd::test::ImageTree;

/// The whole of a tree without parts.
Dataset load_folder(const std::string& root, const ClassNames& names = {},
                    FolderLabels labels = FolderLabels::automatic) {
    return read_folder(root, names, labels).images(Split::test, labels != FolderLabels::none);
}

bool says(const std::vector<std::string>& texts, const std::string& what) {
    for (const std::string& text : texts)
        if (text.find(what) != std::string::npos) return true;
    return false;
}

/// "part: images of each class" of every part.
std::map<std::string, std::vector<Index>> counts(const DataContents& contents) {
    std::map<std::string, std::vector<Index>> result;
    const auto add = [&](const std::string& name, const Dataset& data) {
        std::vector<Index>& of_class = result[name];
        of_class.resize(contents.class_names.size());
        for (const Item& item : data.items)
            if (item.label >= 0) ++of_class[static_cast<std::size_t>(item.label)];
    };
    if (contents.whole) add("all", *contents.whole);
    for (const auto& [part, data] : contents.parts) add(name_of(part), data);
    return result;
}

using Counts = std::map<std::string, std::vector<Index>>;

std::vector<std::string> names_of(const Dataset& data, const std::string& root) {
    std::vector<std::string> names;
    for (Index i = 0; i < data.size(); ++i)
        names.push_back(data.item_name(i).substr(root.size() + 1) + "=" + std::to_string(data.label(i)));
    return names;
}

using Names = std::vector<std::string>;

TEST_CASE("folder: a labelled tree; sorted, recursive, extensions in any case, hidden and other files left out") {
    const ImageTree folder;
    folder.touch({"fire_truck/b.PNG", "fire_truck/a.jpeg", "fire_truck/more/c.JPG", "fire_truck/notes.txt", "car/1.jpg",
                  "car/._1.jpg", ".git/x.jpg", "readme.md"});
    const Dataset data = load_folder(folder.path());
    CHECK(data.class_names == Names{"car", "fire truck"});
    CHECK(names_of(data, folder.path()) ==
          Names{"car/1.jpg=0", "fire_truck/a.jpeg=1", "fire_truck/b.PNG=1", "fire_truck/more/c.JPG=1"});
    CHECK(data.labelled());
}

TEST_CASE("folder: given class names set the order of the labels") {
    const ImageTree folder;
    folder.touch({"fire_truck/a.jpg", "car/1.jpg"});
    const Dataset data = load_folder(folder.path(), {"fire truck", "car"});
    CHECK(names_of(data, folder.path()) == Names{"car/1.jpg=1", "fire_truck/a.jpg=0"});
    CHECK(data.class_names == Names{"fire truck", "car"});
}

TEST_CASE("folder: unlabelled images, anywhere below the root") {
    const ImageTree folder;
    folder.touch({"z.jpg", "2021/may/a.jpg", "2022/b.png"});
    const Dataset data = load_folder(folder.path(), {"cat", "dog"});
    CHECK(names_of(data, folder.path()) == Names{"2021/may/a.jpg=-1", "2022/b.png=-1", "z.jpg=-1"});
    CHECK(data.class_names == Names{"cat", "dog"});
    CHECK_FALSE(data.labelled());
    CHECK_THROWS_WITH_AS(load_folder(folder.path(), {"cat", "dog"}, FolderLabels::required),
                         doctest::Contains("folder '2021', '2022' is not among the class names"), Error);
}

TEST_CASE("folder: labels can be ignored") {
    const ImageTree folder;
    folder.touch({"cat/a.jpg", "dog/b.jpg"});
    CHECK(load_folder(folder.path(), {"cat", "dog"}).labelled());
    const Dataset data = load_folder(folder.path(), {"cat", "dog"}, FolderLabels::none);
    CHECK(data.size() == 2);
    CHECK_FALSE(data.labelled());
}

TEST_CASE("folder: trees that disagree with the class names, or with themselves, are refused") {
    const ImageTree folder;
    folder.touch({"cat/a.jpg", "dog/b.jpg"});
    CHECK_THROWS_WITH_AS(load_folder(folder.path(), {"cat", "bird"}), doctest::Contains("folder 'dog' is not among"),
                         Error);
    const DataContents wider = read_folder(folder.path(), {"cat", "dog", "bird", "cow"});
    CHECK(wider.whole->labelled());
    CHECK(wider.whole->classes() == 4);
    CHECK(says(wider.warnings, "2 of the 4 classes have no image"));
    CHECK(says(wider.warnings, "'bird', 'cow'; they stay among the classes"));
    make_directories(folder / "empty");
    CHECK_THROWS_WITH_AS(load_folder(folder.path()), doctest::Contains("class 'empty' has no image"), Error);
    std::filesystem::remove(folder / "empty");
    folder.touch({"stray.jpg"});
    CHECK_THROWS_WITH_AS(load_folder(folder.path()), doctest::Contains("stray.jpg' lies beside the class folders"),
                         Error);
}

TEST_CASE("folder: missing, empty and ambiguous folders are refused") {
    const ImageTree folder;
    CHECK_THROWS_WITH_AS(load_folder(folder / "absent"), doctest::Contains("No such file"), Error);
    CHECK_THROWS_WITH_AS(load_folder(folder.path()), doctest::Contains("no class folders"), Error);
    CHECK_THROWS_WITH_AS(load_folder(folder.path(), {"cat"}), doctest::Contains("has no image"), Error);
    folder.touch({"a_b/1.jpg", "a b/1.jpg"});
    CHECK_THROWS_WITH_AS(load_folder(folder.path()), doctest::Contains("differ only in _ and space"), Error);
    const ImageTree other;
    other.touch({"\xff/1.jpg"});
    CHECK_THROWS_WITH_AS(load_folder(other.path()), doctest::Contains("not valid UTF-8"), Error);
}

TEST_CASE("folder: loops of symbolic links end") {
    const ImageTree folder;
    folder.touch({"cat/a.jpg"});
    std::filesystem::create_directory_symlink(folder.path(), folder / "cat/loop");
    CHECK(load_folder(folder.path()).size() == 1);
}

TEST_CASE("folder: parts under every usual name") {
    const std::vector<std::pair<std::string, std::string>> pairs{{"train", "test"},
                                                                 {"Train", "Test"},
                                                                 {"TRAIN", "VAL"},
                                                                 {"training", "validation"},
                                                                 {"train", "valid"},
                                                                 {"training_set", "test_set"},
                                                                 {"Training Set", "Dev"},
                                                                 {"train2017", "val2017"},
                                                                 {"train_images", "test_images"},
                                                                 {"TrainImages", "TestImages"},
                                                                 {"trainset", "testset"},
                                                                 {"seg_train", "seg_test"}};
    for (const auto& [train, test] : pairs) {
        const auto& shown_train = train;  // clang 14 captures no structured binding
        CAPTURE(shown_train);
        const ImageTree folder;
        folder.fill({train + "/cat", train + "/dog"}, 3);
        folder.fill({test + "/cat", test + "/dog"}, 1);
        const DataContents found = read_folder(folder.path());
        CHECK(found.class_names == Names{"cat", "dog"});
        CHECK(found.images(Split::train, true).size() == 6);
        CHECK(found.images(Split::test, true).size() == 2);
        CHECK(found.warnings.empty());
    }
    for (const char* name : {"cat", "trainer", "test_tube", "vale", "validated", "train_station", ""})
        CHECK_FALSE(part_named(name).has_value());
}

TEST_CASE("folder: the validation part is the test where there is no other, and the run says so") {
    const ImageTree folder;
    folder.fill({"train/cat", "train/dog", "valid/cat", "valid/dog"}, 2);
    std::vector<std::string> told;
    const DataTeller tell{{}, {}, [&](const std::string& text) { told.push_back(text); }};
    const Dataset test = open_dataset("folder:" + folder.path(), Split::test, {}, FolderLabels::automatic, tell);
    CHECK(test.size() == 4);
    CHECK(says(told, "no test part with labels: the 4 images of '" + folder / "valid" + "' serve as the test"));
    folder.fill({"test/cat", "test/dog"}, 5);
    told.clear();
    CHECK(open_dataset("folder:" + folder.path(), Split::test, {}, FolderLabels::automatic, tell).size() == 10);
    CHECK(told.empty());
}

TEST_CASE("folder: a test part without class folders has no labels, so the validation part serves") {
    const ImageTree folder;
    folder.fill({"train/cat", "train/dog", "val/cat", "val/dog"}, 2);
    for (const std::string flat : {"test", "test/images", "test/unknown", "test/test"}) {
        CAPTURE(flat);
        const ImageTree copy;
        copy.fill({"train/cat", "train/dog", "val/cat", "val/dog", flat}, 2);
        const DataContents found = read_folder(copy.path());
        CHECK(found.class_names == Names{"cat", "dog"});
        CHECK(found.test_origin(true) == TestOrigin::validation);
        CHECK(says(found.warnings, "has no class folders: its 2 images have no labels"));
    }
}

TEST_CASE("folder: a class that is called like a part") {
    const ImageTree vehicles({"train/a.jpg", "car/b.jpg"});
    CHECK(open_dataset("folder:" + vehicles.path(), Split::train).class_names == Names{"car", "train"});
    const ImageTree beside({"train/cat/a.jpg", "train/dog/a.jpg", "extra/b.jpg"});  // here it holds class folders
    const DataContents found = read_folder(beside.path());
    CHECK(found.class_names == Names{"cat", "dog"});
    CHECK(says(found.warnings, "extra' is no part (1 images): left out"));
}

TEST_CASE("folder: a part that is not there") {
    const ImageTree alone({"train/cat/a.jpg", "train/dog/a.jpg"});
    CHECK(open_dataset("folder:" + alone.path(), Split::train).size() == 2);
    CHECK_THROWS_WITH_AS(open_dataset("folder:" + alone.path(), Split::test),
                         doctest::Contains("no test or validation part; there is "), Error);
    CHECK(open_dataset("folder:" + alone.path(), Split::test, {}, FolderLabels::none).size() == 2);
    const ImageTree only_test({"test/cat/a.jpg"});
    CHECK_THROWS_WITH_AS(open_dataset("folder:" + only_test.path(), Split::train),
                         doctest::Contains("no training part"), Error);
    const ImageTree twice({"train/cat/a.jpg", "Training/cat/a.jpg", "test/cat/a.jpg"});
    CHECK_THROWS_WITH_AS(read_folder(twice.path()),
                         doctest::Contains("both 'Training', 'train' could be the train part"), Error);
    const ImageTree empty({"train/cat/a.jpg", "train/dog/a.jpg"});
    make_directories(empty / "test");
    CHECK(says(read_folder(empty.path()).warnings, "has no image: there is no test part"));
}

TEST_CASE("folder: wrappers of archives, folders called images, parts inside the classes") {
    const std::vector<std::vector<std::string>> trees{
        {"dataset-master/data/train/cat", "dataset-master/data/train/dog", "dataset-master/data/test/cat",
         "dataset-master/data/test/dog"},
        {"train/images/cat", "train/images/dog", "test/images/cat", "test/images/dog"},
        {"images/train/cat", "images/train/dog", "images/test/cat", "images/test/dog"},
        {"train/train/cat", "train/train/dog", "test/test/cat", "test/test/dog"},
        {"cat/train", "cat/test", "dog/train", "dog/test"}};
    for (const std::vector<std::string>& tree : trees) {
        CAPTURE(tree.front());
        const ImageTree folder;
        folder.fill(tree, 2);
        folder.touch({"README.md", "__MACOSX/._a.jpg", "annotations/a.xml"});
        CHECK(counts(read_folder(folder.path())) == Counts{{"test", {2, 2}}, {"train", {2, 2}}});
    }
    const ImageTree wrapped({"pets-1.0/cat/a.jpg", "pets-1.0/dog/a.jpg", "pets-1.0/labels.txt"});
    const DataContents found = read_folder(wrapped.path());
    CHECK(found.class_names == Names{"cat", "dog"});
    CHECK(says(found.notes, "the images are below '" + wrapped / "pets-1.0" + "'"));
    const ImageTree inside({"cat/images/a.jpg", "dog/images/a.jpg"});
    CHECK(read_folder(inside.path()).class_names == Names{"cat", "dog"});
}

TEST_CASE("folder: class folders at two levels are refused unless the names decide") {
    const ImageTree folder({"animals/cat/a.jpg", "animals/dog/a.jpg", "plants/rose/a.jpg", "plants/oak/b.jpg"});
    CHECK_THROWS_WITH_AS(read_folder(folder.path()),
                         doctest::Contains("could be 'animals', 'plants' or the folders below them, 'animals/cat'"),
                         Error);
    CHECK(counts(read_folder(folder.path(), {"animals", "plants"})) == Counts{{"all", {2, 2}}});
    CHECK(counts(read_folder(folder.path(), {"oak", "rose", "cat", "dog"})) == Counts{{"all", {1, 1, 1, 1}}});
    const ImageTree halves({"train/cat/a.jpg", "train/dog/a.jpg", "holdout/cat/b.jpg", "holdout/dog/b.jpg"});
    CHECK_THROWS_WITH_AS(read_folder(halves.path()), doctest::Contains("parts are called train, val and test"), Error);
    CHECK(counts(read_folder(halves.path(), {"cat", "dog"})) == Counts{{"all", {2, 2}}});
    const ImageTree batches({"cat/01/a.jpg", "cat/02/a.jpg", "dog/03/a.jpg"});  // numbers tell no class
    CHECK(counts(read_folder(batches.path())) == Counts{{"all", {2, 1}}});
}

TEST_CASE("folder: classes that differ between the parts stay, with a warning") {
    const ImageTree folder;
    folder.fill({"train/cat", "train/dog", "test/cat", "test/owl"}, 2);
    make_directories(folder / "test/dog");
    const DataContents found = read_folder(folder.path());
    CHECK(found.class_names == Names{"cat", "dog", "owl"});
    CHECK(counts(found) == Counts{{"test", {2, 0, 2}}, {"train", {2, 2, 0}}});
    CHECK(says(found.warnings, "1 of the 3 classes have no image in the train part: 'owl'"));
    CHECK(says(found.warnings, "1 of the 3 classes have no image in the test part: 'dog'"));
}

TEST_CASE("folder: files of other image kinds are counted and named") {
    const ImageTree folder({"cat/a.jpg", "cat/b.jfif", "cat/c.heic", "dog/a.JPE", "dog/d.heic", "dog/e.AVIF"});
    const DataContents found = read_folder(folder.path());
    CHECK(found.whole->size() == 3);
    CHECK(says(found.warnings, "3 files .avif, .heic left out"));
    REQUIRE(found.left_out.size() == 1);
    CHECK(found.left_out[0].first == "3 files .avif, .heic");
    const ImageTree notes({"cat/a.jpg", "cow/a.jpg", "dog/notes.txt"});
    CHECK(says(read_folder(notes.path()).warnings, "dog' holds files but no image, so it is no class: left out"));
    const ImageTree none({"cat/a.jpg", "dog/a.heic"});
    CHECK_THROWS_WITH_AS(
        read_folder(none.path()),
        doctest::Contains("class 'dog' has no image (.jpg, .png, .webp, .gif, .bmp, .tif), but 1 file .heic"), Error);
}

TEST_CASE("folder: numbers and WordNet numbers as names of classes") {
    const ImageTree ids({"n02000003/a.jpg", "n02000001/a.jpg", "n02000007/a.jpg", "n02000008/a.jpg"});
    CHECK(says(read_folder(ids.path()).warnings, "('n02000001', 'n02000003', 'n02000007')"));
    const ClassNames map({"bag", "trouser", "dress", "sneaker"}, {"n02000008", "n02000001", "n02000003", "n02000007"});
    const DataContents mapped = read_folder(ids.path(), map);
    CHECK(names_of(*mapped.whole, ids.path()) ==
          Names{"n02000001/a.jpg=1", "n02000003/a.jpg=2", "n02000007/a.jpg=3", "n02000008/a.jpg=0"});
    CHECK(mapped.warnings.empty());
    const DataContents listed = read_folder(ids.path(), {"trouser", "dress", "sneaker", "bag"});
    CHECK(names_of(*listed.whole, ids.path()).back() == "n02000008/a.jpg=3");
    CHECK(says(listed.notes, "'n02000001' is 'trouser'"));

    const ImageTree numbers({"0/a.jpg", "1/a.jpg", "10/a.jpg", "2/a.jpg"});
    CHECK(says(read_folder(numbers.path()).warnings, "numbers or ids ('0', '1', '10')"));
    const Names eleven{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"};
    CHECK(names_of(*read_folder(numbers.path(), eleven).whole, numbers.path()) ==
          Names{"0/a.jpg=0", "1/a.jpg=1", "10/a.jpg=10", "2/a.jpg=2"});
    const ImageTree from_one({"class_1/a.jpg", "class_2/a.jpg", "class_3/a.jpg"});
    const DataContents first = read_folder(from_one.path(), {"a", "b", "c"});
    CHECK(names_of(*first.whole, from_one.path()).front() == "class_1/a.jpg=0");
    CHECK(says(first.notes, "counted from 1"));
}

TEST_CASE("folder: names are found whatever their case and gaps") {
    const ImageTree folder({"Ankle-Boot/a.jpg", "t_shirt/a.jpg"});
    CHECK(read_folder(folder.path(), {"T-shirt", "ankle boot"}).whole->label(0) == 1);
}

TEST_CASE("folder: labels of a metadata file") {
    for (const std::string name : {"metadata.csv", "metadata.jsonl"}) {
        const ImageTree folder;
        folder.fill({"train", "test"}, 2);
        const bool csv = name == "metadata.csv";
        folder.write("train/" + name, csv ? "file_name,label\n0.png,cat\n1.png,dog\n"
                                          : "{\"file_name\": \"0.png\", \"label\": \"cat\"}\n"
                                            "{\"file_name\": \"1.png\", \"label\": \"dog\"}\n");
        folder.write("test/" + name, csv ? "file_name,label\n1.png,dog\n"
                                         : "{\"file_name\": \"1.png\", \"label\": \"dog\", \"box\": [1, 2]}\n");
        const DataContents found = read_folder(folder.path());
        CHECK(counts(found) == Counts{{"test", {0, 1}}, {"train", {1, 1}}});
        CHECK(says(found.warnings, "has 1 images that its metadata does not name"));
    }
    const ImageTree inside;
    inside.fill({"train"}, 1);
    inside.write("train/metadata.csv", "file_name,label\n0.png,cat\n");
    CHECK(describe_data("folder:" + inside.path()).classes == 1);
    const ImageTree root;
    root.fill({"train", "test"}, 2);
    root.write("metadata.csv", "file_name,label\ntrain/0.png,cat\ntrain/1.png,dog\ntest/0.png,cat\ntest/1.png,dog\n");
    CHECK(counts(read_folder(root.path())) == Counts{{"test", {1, 1}}, {"train", {1, 1}}});
}

TEST_CASE("inspect: exactly what a run uses") {
    const ImageTree folder;
    folder.fill({"train/cat", "train/dog", "valid/cat", "valid/dog", "extra"}, 2);
    folder.touch({"train/cat/x.heic"});
    const DataDescription found = describe_data("folder:" + folder.path());
    CHECK(found.classes == 2);
    CHECK(found.train == 4);
    CHECK(found.test == 4);
    CHECK(found.tested_on == "the validation part: there is no test part with labels");
    REQUIRE(found.parts.size() == 2);
    CHECK(found.parts[0].part == "train");
    CHECK(found.parts[0].per_class == std::vector<std::pair<std::string, Index>>{{"cat", 2}, {"dog", 2}});
    CHECK(found.parts[0].first.front() == folder / "train/cat/0.png");
    REQUIRE(found.left_out.size() == 2);
    CHECK(found.left_out[0].first == folder / "extra");
    CHECK(found.left_out[1].first == "1 file .heic");
    const ImageTree flat({"a.jpg", "c.jpg"});
    const DataDescription unlabelled = describe_data("folder:" + flat.path());
    CHECK(unlabelled.train == 2);
    CHECK_FALSE(unlabelled.labelled);
    CHECK(says(unlabelled.notes, "class names must be given"));
}

TEST_CASE("class names: the ids of names that keep their order") {
    const ClassNames given({"cat", "dog"}, {"n1", "n2"});
    CHECK(given.renamed({"dog", "cat"}).ids == Names{"n2", "n1"});
    CHECK(ClassNames().renamed({"dog"}).names == Names{"dog"});
    CHECK_THROWS_WITH_AS(given.renamed({"cow"}), doctest::Contains("'cow' is not among"), Error);
    CHECK_THROWS_WITH_AS(ClassNames({"cat", "dog"}).renamed({"dog", "cat"}), doctest::Contains("in its order"), Error);
}

TEST_CASE("folder: what else may be meant is named") {
    const ImageTree zip({"photos.zip"});
    CHECK_THROWS_WITH_AS(read_folder(zip.path()), doctest::Contains("unpack '"), Error);
    const ImageTree table({"a.jpg", "labels.csv"});
    CHECK_THROWS_WITH_AS(read_folder(table.path()), doctest::Contains("labels.csv' a list of its images"), Error);
}

/// Reads a file of class names with this text.
ClassNames class_names(const std::string& text, const std::string& file = "n") {
    const ImageTree folder;
    folder.write(file, text);
    return read_class_names_file(folder / file);
}

TEST_CASE("class names: UTF-8, every line end, blank lines and a byte order mark") {
    for (const char* text : {"\xef\xbb\xbf"
                             "cat\r\n\r\n  caf\xc3\xa9 noir\t\n\nfire_truck",
                             "cat\rcaf\xc3\xa9 noir\rfire_truck\r"})
        CHECK(class_names(text).names == Names{"cat", "caf\xc3\xa9 noir", "fire_truck"});
    CHECK(class_names("2012 Audi A5\n2010 BMW M5\n2009 Ford GT\n").names[0] == "2012 Audi A5");
    CHECK(class_names("0 degrees\n90 degrees\n").names[0] == "0 degrees");
}

TEST_CASE("class names: maps of ids") {
    const Names names{"trouser", "dress", "bag"}, ids{"n02000001", "n02000003", "n02000008"};
    for (const char* text :
         {"n02000001 trouser\nn02000003 dress\nn02000008 bag\n", "n02000001\ttrouser\nn02000003\tdress\nn02000008\tbag",
          "n02000001 trouser, pair of trousers\nn02000003 dress, frock\nn02000008 bag\n",
          "id,name\nn02000001,trouser\nn02000003,dress\nn02000008,bag\n",
          "wnid;class name;images\nn02000001;trouser;3\nn02000003;dress;3\nn02000008;bag;3\n",
          "{\"n02000001\": \"trouser\", \"n02000003\": \"dress\", \"n02000008\": \"bag\"}",
          "[{\"id\": \"n02000001\", \"name\": \"trouser\"}, {\"id\": \"n02000003\", \"name\": \"dress\"}, "
          "{\"id\": \"n02000008\", \"name\": \"bag\"}]",
          "{\"id\": \"n02000001\", \"name\": \"trouser\"}\n{\"id\": \"n02000003\", \"name\": \"dress\"}\n"
          "{\"id\": \"n02000008\", \"name\": \"bag\"}\n",
          "{\"0\": [\"n02000001\", \"trouser\"], \"1\": [\"n02000003\", \"dress\"], \"2\": [\"n02000008\", "
          "\"bag\"]}"}) {
        CAPTURE(text);
        const ClassNames read = class_names(text);
        CHECK(read.names == names);
        CHECK(read.ids == ids);
    }
    for (const char* text :
         {"2,bag\n0,trouser\n1,dress\n", "1: trouser\n2: dress\n3: bag\n", "{\"trouser\": 0, \"bag\": 2, \"dress\": 1}",
          "{\n \"0\": \"trouser\",\n \"1\": \"dress\",\n \"2\": \"bag\"\n}",
          "label,class_name\n0,trouser\n1,dress\n2,bag\n", "[\"trouser\", \"dress\", \"bag\"]",
          "[\n\"trouser\",\n\"dress\",\n\"bag\"\n]\n"}) {
        CAPTURE(text);
        CHECK(class_names(text).names == names);
    }
}

TEST_CASE("class names: equal ones are kept apart") {
    CHECK(class_names("cat\ndog\n\ncat\n").names == Names{"cat", "dog", "cat"});
    CHECK(distinct_names({"bag", "dress", "bag"}) == Names{"bag", "dress", "bag (class 2)"});
    CHECK(distinct_names({"bag", "dress", "bag"}, {"n1", "n2", "n3"}) == Names{"bag", "dress", "bag (n3)"});
    CHECK(names_of_one_text({"Dog", "cat", "dog", "a__b", "a_b", "cow"}) == Names{"Dog", "dog", "a__b", "a_b"});
    const ImageTree folder({"bag/a.jpg", "dress/a.jpg"});
    CHECK_THROWS_WITH_AS(read_folder(folder.path(), {"bag", "dress", "bag"}),
                         doctest::Contains("folder 'bag' has the name of several classes"), Error);
    std::vector<std::string> told;
    const DataTeller tell{{}, [&](const std::string& text) { told.push_back(text); }, {}};
    open_dataset("folder:" + folder.path(), Split::train, {"Bag", "bag", "cow"}, FolderLabels::none, tell);
    CHECK(told.empty());
    const ImageTree flat({"a.jpg"});
    open_dataset("folder:" + flat.path(), Split::train, {"Bag", "bag", "cow"}, FolderLabels::automatic, tell);
    CHECK(says(told, "several classes have the same text ('Bag', 'bag')"));
}

TEST_CASE("class names: what is no list of them is refused") {
    const auto refused = [&](const std::string& text, const std::string& expected) {
        CAPTURE(expected);
        CHECK_THROWS_WITH_AS(class_names(text), doctest::Contains(expected.c_str()), Error);
    };
    refused("", "the list of class names is empty");
    refused("\n \r\n", "the list of class names is empty");
    refused("cat\nd\xffg\n", "line 2: the class name is not valid UTF-8");
    refused("\xed\xa0\x80\n", "not valid UTF-8");      // a surrogate
    refused("\xc0\xaf\n", "not valid UTF-8");          // overlong
    refused("caf\xc3", "not valid UTF-8");             // cut
    refused("\xf4\x90\x80\x80\n", "not valid UTF-8");  // beyond U+10FFFF
    refused(std::string("dog\0cat\0", 8), "line 1: holds a control character");
    refused("names:\n  0: cat\n  1: dog\n", "looks like YAML");
    refused("[\"cat\", ", "not valid JSON");
    refused("[\"cat\", {\"a\": 7}]", "entry 2: expected a text");
    refused("[]", "empty");
    CHECK_THROWS_WITH_AS(read_class_names_file("/absent"), doctest::Contains("No such file"), Error);
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
