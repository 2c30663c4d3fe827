// SPDX-License-Identifier: Apache-2.0
#include <promptkd/distill/adapted_recipe.hpp>
#include <promptkd/experiment/adapted/fold.hpp>

#include <doctest/doctest.h>

namespace folds_test {

using namespace promptkd;

TEST_CASE("folds: as many parts as judge by 200 images, five at most, one from 1,000 images on") {
    const auto folds = [](Index images) { return adapted_folds(images, adapted_held_out(images, 500)); };
    CHECK(folds(3) == 3);
    CHECK(folds(30) == 5);
    CHECK(folds(100) == 5);
    CHECK(folds(300) == 4);
    CHECK(folds(500) == 2);
    CHECK(folds(999) == 2);
    CHECK(folds(1000) == 1);
    CHECK(folds(100000) == 1);
    CHECK(adapted_folds(10, 9) == 1);
}

TEST_CASE("folds: parts from the end of the order, apart from one another, the rest ascending") {
    const std::vector<Index> order = {4, 0, 6, 2, 5, 1, 3};
    const Fold first = make_fold(order, 2, 0), second = make_fold(order, 2, 1), third = make_fold(order, 2, 2);
    CHECK(first.held_out == std::vector<Index>{1, 3});
    CHECK(first.kept == std::vector<Index>{0, 2, 4, 5, 6});
    CHECK(second.held_out == std::vector<Index>{2, 5});
    CHECK(second.kept == std::vector<Index>{0, 1, 3, 4, 6});
    CHECK(third.held_out == std::vector<Index>{0, 6});
    const Fold whole = whole_fold(3);
    CHECK(whole.held_out.empty());
    CHECK(whole.kept == std::vector<Index>{0, 1, 2});
}

TEST_CASE("folds: rows and places of the images that could be read") {
    Fold fold = make_fold({4, 0, 6, 2, 5, 1, 3}, 2, 0);
    fold.find_rows({0, 1, 2, 5, 6});  // 3 and 4 are unreadable
    CHECK(fold.held_rows == std::vector<Index>{1});
    CHECK(fold.kept_rows == std::vector<Index>{0, 2, 3, 4});
    CHECK(fold.kept_places == std::vector<Index>{0, 1, 3, 4});
}

}  // namespace folds_test
