// SPDX-License-Identifier: Apache-2.0
#include <promptkd/data/class_subset.hpp>

#include <doctest/doctest.h>

#include <set>

namespace halves_test {

namespace {

using namespace promptkd;

class NoImages final : public ImageSource {
public:
    Index size() const override { return 1000; }
    void load(Index, Image&) const override { fail("no image"); }
    std::string name(Index i) const override { return std::to_string(i); }
};

/// `classes` classes with `per_class` images each, interleaved.
Dataset make_data(Index classes, Index per_class) {
    Dataset data;
    data.name = "toy";
    data.source = std::make_shared<NoImages>();
    for (Index c = 0; c < classes; ++c) data.class_names.push_back("c" + std::to_string(c));
    for (Index i = 0; i < classes * per_class; ++i) data.items.push_back({i, i % classes});
    return data;
}

std::vector<Index> sources_of(const Dataset& data) {
    std::vector<Index> sources;
    for (const Item& item : data.items) sources.push_back(item.source);
    return sources;
}

TEST_CASE("halves: base is the first ceil(n/2) classes, new the rest, relabelled from 0") {
    for (const Index classes : {2, 5, 10, 37}) {
        const Dataset data = make_data(classes, 3);
        const Dataset base = select_subset(data, ClassSubset::base), novel = select_subset(data, ClassSubset::novel);
        const Index m = (classes + 1) / 2;
        CHECK(base.classes() == m);
        CHECK(novel.classes() == classes - m);
        CHECK(base.class_names[0] == "c0");
        CHECK(novel.class_names[0] == "c" + std::to_string(m));
        CHECK(base.size() == 3 * m);
        CHECK(novel.size() == 3 * (classes - m));
        for (const Item& item : novel.items) CHECK(item.label == item.source % classes - m);
        CHECK(sources_of(select_subset(data, ClassSubset::all)) == sources_of(data));
    }
}

TEST_CASE("halves: one class leaves nothing for the new half") {
    CHECK_THROWS_WITH_AS(select_subset(make_data(1, 2), ClassSubset::novel),
                         doctest::Contains("leave none for the half 'new'"), Error);
    CHECK(select_subset(make_data(1, 2), ClassSubset::base).size() == 2);
}

TEST_CASE("halves: names") {
    for (const ClassSubset half : {ClassSubset::all, ClassSubset::base, ClassSubset::novel})
        CHECK(parse_class_subset(name_of(half)) == half);
    CHECK_THROWS_WITH_AS(parse_class_subset("novel"), doctest::Contains("known: base, new, all"), Error);
}

TEST_CASE("halves: a selection keeps its order of labels and drops unlabelled images") {
    Dataset data = make_data(4, 2);
    data.items[0].label = -1;
    const Dataset some = select_labels(data, {3, 0});
    CHECK(some.class_names == std::vector<std::string>{"c3", "c0"});
    CHECK(sources_of(some) == std::vector<Index>{3, 4, 7});
    CHECK(some.label(0) == 0);
    CHECK(some.label(1) == 1);
    CHECK_THROWS_WITH_AS(select_labels(data, {4}), doctest::Contains("class 4 does not exist"), Error);
    CHECK_THROWS_WITH_AS(select_labels(data, {1, 1}), doctest::Contains("selected twice"), Error);
}

TEST_CASE("halves: subsets") {
    const Dataset data = make_data(3, 2);
    CHECK(sources_of(subset(data, {5, 0})) == std::vector<Index>{5, 0});
    CHECK_THROWS_WITH_AS(subset(data, {6}), doctest::Contains("image 6 does not exist"), Error);
    CHECK(take(data, 4).size() == 4);
    CHECK(take(data, 100).size() == 6);
    CHECK(take(data, -1).size() == 0);
}

TEST_CASE("few-shot: k images a class, without repetition, by seed") {
    const Dataset data = make_data(5, 40);
    const Dataset drawn = draw_few_shot(data, 16, 1);
    REQUIRE(drawn.size() == 80);
    for (Index i = 0; i < drawn.size(); ++i) CHECK(drawn.label(i) == i / 16);
    const std::vector<Index> sources = sources_of(drawn);
    CHECK(std::set<Index>(sources.begin(), sources.end()).size() == 80);
    CHECK(sources == sources_of(draw_few_shot(data, 16, 1)));
    CHECK(sources != sources_of(draw_few_shot(data, 16, 2)));
    // fewer shots of the same seed are the first of more shots
    const std::vector<Index> four = sources_of(draw_few_shot(data, 4, 1));
    CHECK(std::equal(four.begin(), four.begin() + 4, sources.begin()));
}

TEST_CASE("few-shot: every image is equally likely") {
    const Dataset data = make_data(1, 10);
    std::vector<int> count(10);
    for (std::uint64_t seed = 0; seed < 2000; ++seed)
        for (const Item& item : draw_few_shot(data, 3, seed).items) ++count[static_cast<std::size_t>(item.source)];
    for (const int n : count) {  // expected 600, standard deviation 20.5
        CHECK(n > 500);
        CHECK(n < 700);
    }
}

TEST_CASE("few-shot: too few images are an error naming class and count, unless allowed") {
    Dataset data = make_data(3, 4);
    data.items.pop_back();
    CHECK_THROWS_WITH_AS(draw_few_shot(data, 4, 1),
                         doctest::Contains("class 'c2' has 3 labelled image(s), fewer than the 4"), Error);
    CHECK(draw_few_shot(data, 4, 1, true).size() == 11);
    CHECK_THROWS_WITH_AS(draw_few_shot(data, 0, 1), doctest::Contains("at least 1"), Error);
    data.class_names.push_back("c3");
    CHECK_THROWS_WITH_AS(draw_few_shot(data, 4, 1, true), doctest::Contains("class 'c3' has 0"), Error);
}

TEST_CASE("a half kept with the labels of the whole, and what is left without it") {
    const Dataset data = make_data(5, 4), base = keep_subset(data, ClassSubset::base),
                  novel = keep_subset(data, ClassSubset::novel);
    CHECK(base.size() == 12);
    CHECK(novel.size() == 8);
    CHECK(base.classes() == 5);
    for (Index i = 0; i < novel.size(); ++i) CHECK(novel.label(i) >= 3);
    CHECK(sources_of(without(data, base)) == sources_of(novel));
    CHECK(without(data, data).size() == 0);
    Dataset unlabelled = data;
    for (Item& item : unlabelled.items) item.label = -1;
    CHECK(keep_subset(unlabelled, ClassSubset::all).size() == 20);
    CHECK_THROWS_AS(keep_subset(unlabelled, ClassSubset::base), Error);
}

}  // namespace

}  // namespace halves_test
