// SPDX-License-Identifier: Apache-2.0
// What a distillation says of itself without labels, and the shards' names.
#include "support/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <promptkd/experiment/closed_form/report.hpp>
#include <promptkd/experiment/shards.hpp>

namespace promptkd::test::closed_form_report_test {

namespace {

struct Ear final : Observer {
    std::vector<std::string> notes, warnings;
    void on_note(const std::string& text) override { notes.push_back(text); }
    void on_warning(const std::string& text) override { warnings.push_back(text); }
};

}  // namespace

TEST_CASE("a student farther from its teacher than its frozen self is warned of, with what to do") {
    TeacherLikeness like;
    like.student = {0.3, 70};
    like.zero_shot = {0.2, 80};
    like.images = 50;
    Ear plain, mixed, good;
    explain_likeness(like, false, remedy::of_gradient_descent, plain);
    REQUIRE(plain.warnings.size() == 1);
    CHECK(plain.warnings[0].find("mix it with the zero-shot student") != std::string::npos);
    explain_likeness(like, true, remedy::of_mixture, mixed);
    REQUIRE(mixed.warnings.size() == 1);
    CHECK(mixed.warnings[0].find("trusts it no further than it helps") != std::string::npos);
    like.student = {0.1, 90};
    explain_likeness(like, true, remedy::of_mixture, good);
    CHECK(good.warnings.empty());
    CHECK(good.notes.size() == 1);
}

TEST_CASE("classes that no image shows the teacher") {
    const std::vector<std::string> names = {"cat", "dog", "sofa", "lamp", "cup"};
    const TeacherLook look{0.9, 0.8, {2, 3}};
    Ear all, few, enough;
    warn_of_absent_classes(look, names, {50, 50}, all);
    REQUIRE(all.warnings.size() == 1);
    CHECK(all.warnings[0].find("2 of 5 classes (sofa, lamp)") == 0);
    warn_of_absent_classes(look, names, {50, 5000}, few);  // 50 of 5,000 say little of five classes
    CHECK(few.warnings.empty());
    warn_of_absent_classes(look, names, {200, 5000}, enough);
    CHECK(enough.warnings.size() == 1);
}

TEST_CASE("a teacher that is less sure and contradicts itself more than the student") {
    Ear ear;
    warn_of_teacher({0.5, 0.7, {}}, {90, 80, 100}, ear);  // less sure, but not of two minds
    warn_of_teacher({0.7, 0.5, {}}, {70, 80, 100}, ear);
    CHECK(ear.warnings.empty());
    warn_of_teacher({0.5, 0.7, {}}, {70, 80, 100}, ear);
    REQUIRE(ear.warnings.size() == 1);
    CHECK(ear.warnings[0].find("the teacher looks worse than the student: its mean largest probability is 0.50") == 0);
    warn_of_unsure_teacher({0.3, 0.6, {}}, ear);
    REQUIRE(ear.warnings.size() == 2);
    CHECK(ear.warnings[1].find("mean largest probability 0.30, student 0.60") != std::string::npos);
}

TEST_CASE("a teacher's look: confidence at the own temperature, classes that are never chosen") {
    Cpu<double> host(1);
    const TeacherLook look = look_at_teacher(host, {0.6, 0.3, 0.1, 0.8, 0.1, 0.1}, {0, 0, 0, 0, 0, 0}, 3);
    CHECK(look.confidence == doctest::Approx(0.7));
    CHECK(look.student_confidence == doctest::Approx(1.0 / 3));
    CHECK(look.absent == std::vector<Index>{1, 2});
}

TEST_CASE("shards: their images, their files") {
    CHECK(parse_shard("2/3").of(10).first == 3);
    CHECK(parse_shard("2/3").of(10).count == 3);
    CHECK(parse_shard("3/3").name() == "shard-3-of-3");
    for (const char* text :
         {"", "3", "0/3", "4/3", "-1/3", "1/3x", " 1/3", "1/", "/3", "1/0", "1/99999999999999999999"})
        CHECK_THROWS_WITH_AS(parse_shard(text), doctest::Contains("is no shard"), Error);
    CHECK_THROWS_WITH_AS(parse_shard("1/3").of(2), doctest::Contains("is empty"), Error);
    const TemporaryFolder folder;
    CHECK_THROWS_WITH_AS(find_shards(folder.path()), doctest::Contains("there is no shard"), Error);
    for (const char* name : {"shard-1-of-3", "shard-3-of-3", "shard-x-of-3", "x.shard-1-of-1"})
        std::filesystem::create_directory(folder / name);
    CHECK_THROWS_WITH_AS(find_shards(folder.path()), doctest::Contains("shard 2/3 is missing"), Error);
    std::filesystem::create_directory(folder / "shard-2-of-3");
    CHECK(find_shards(folder.path()).size() == 3);
    CHECK(find_shards(folder.path(), "x.").size() == 1);
    std::filesystem::create_directory(folder / "shard-1-of-2");
    CHECK_THROWS_WITH_AS(find_shards(folder.path()), doctest::Contains("shards of 2 and of 3"), Error);
}

}  // namespace promptkd::test::closed_form_report_test
