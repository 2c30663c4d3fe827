// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_benchmarks.hpp"

#include <promptkd/experiment/report/make.hpp>
#include <promptkd/experiment/report/markdown.hpp>
#include <promptkd/experiment/reproduction/plan.hpp>

#include <doctest/doctest.h>

#include <set>

namespace plan_test {

using namespace promptkd;

namespace {

const std::string assets = PROMPTKD_ASSETS;

/// PromptKD with the demonstration's models.
ReproductionSpec distillation(Protocol protocol, std::vector<std::string> data) {
    ReproductionSpec spec;
    spec.protocol = protocol;
    spec.data = std::move(data);
    spec.teacher = assets + "/fashion_clip_teacher.safetensors";
    spec.student = assets + "/fashion_clip_student.safetensors";
    spec.vocabulary = assets + "/fashion_bpe.txt.gz";
    spec.activation = "quick_gelu";
    spec.learner.batch = 4;
    spec.distillation.batch = 4;
    spec.seeds = {1, 2};
    spec.out = "out";
    spec.allow_incomplete = true;  // the trees are miniatures
    return spec;
}

std::vector<std::string> folders(const ReproductionPlan& plan) {
    std::vector<std::string> all;
    for (const ReproductionStage& stage : plan.stages) all.push_back(stage.folder);
    return all;
}

const ReproductionStage& stage(const ReproductionPlan& plan, const std::string& folder) {
    for (const ReproductionStage& s : plan.stages)
        if (s.folder == folder) return s;
    FAIL("no stage ", folder);
    throw Error("unreachable");
}

}  // namespace

TEST_CASE("plan: base-to-novel, a teacher and a student a seed") {
    const test::TinyBenchmarks tree;
    ReproductionSpec spec = distillation(Protocol::base_to_novel, {tree.spec("dtd")});
    spec.shots = {2};
    spec.learner.epochs = 3;
    const ReproductionPlan p = plan(spec);
    CHECK(folders(p) == std::vector<std::string>{"dtd/zero-shot", "dtd/zero-shot-teacher", "dtd/seed1/teacher",
                                                 "dtd/seed1/student", "dtd/seed2/teacher", "dtd/seed2/student"});
    CHECK(p.learner == "PromptSRC teacher");

    const ReproductionStage& teacher = stage(p, "dtd/seed2/teacher");
    CHECK(teacher.kind == StageKind::learner);
    CHECK(teacher.images == 4);  // two shots of the two base classes
    CHECK(teacher.steps == 3);
    CHECK(teacher.test_images == 8);
    CHECK(teacher.learner.lr == 0.005);  // published for PromptKD's teacher
    CHECK(teacher.identity.at("classes") == "base");
    CHECK(teacher.identity.at("augment") == "rrc");
    CHECK(teacher.pattern == "a photo of a {}.");

    const ReproductionStage& student = stage(p, "dtd/seed2/student");
    CHECK(student.kind == StageKind::student);
    CHECK(student.images == 16);
    CHECK(student.steps == 20 * 4);
    CHECK(student.student.kd_weight == 200);  // published for DTD
    CHECK(student.prompts == "out/dtd/seed2/teacher/prompts.safetensors");
    CHECK(student.identity.at("teacher-prompts") == teacher.identity);
    CHECK(stage(p, "dtd/zero-shot").pattern == "{} texture.");

    REQUIRE(p.files.size() == 3);
    CHECK(p.files[0].role == "teacher");
    CHECK(p.files[1].name() == "fashion_clip_student.safetensors");
    CHECK(p.files[1].sha256.size() == 64);
    CHECK(p.files[1].architecture.rfind("ViT, patch ", 0) == 0);
    CHECK(p.files[2].architecture.empty());
}

TEST_CASE("plan: equal names of data sets are told apart") {
    const test::TinyBenchmarks tree;
    const ReproductionPlan p = plan(distillation(Protocol::base_to_novel, {tree.spec("dtd"), tree.spec("dtd")}));
    REQUIRE(p.targets.size() == 2);
    CHECK(p.targets[1].key == "dtd-2");
    const std::vector<std::string> all = folders(p);
    CHECK(std::set<std::string>(all.begin(), all.end()).size() == all.size());
    CHECK(data_key("folder:/some/where/my set/") == "folder-my_set");
    CHECK(data_key("fashion-mnist:/x") == "fashion-mnist");
}

TEST_CASE("plan: cross-dataset, one teacher a seed for all targets") {
    const test::TinyBenchmarks tree;
    ReproductionSpec spec = distillation(Protocol::cross_dataset, {tree.spec("food101"), tree.spec("eurosat")});
    spec.seeds = {7};
    CHECK_THROWS_WITH_AS(plan(spec), doctest::Contains("needs a source"), Error);
    spec.source = tree.spec("imagenet");
    const ReproductionPlan p = plan(spec);
    CHECK(folders(p) == std::vector<std::string>{"food101/zero-shot", "food101/zero-shot-teacher", "eurosat/zero-shot",
                                                 "eurosat/zero-shot-teacher", "source-imagenet/seed7/teacher",
                                                 "food101/seed7/student", "eurosat/seed7/student"});
    const ReproductionStage& teacher = stage(p, "source-imagenet/seed7/teacher");
    CHECK(teacher.tests.size() == 2);
    CHECK(teacher.test_images == 16);
    CHECK(teacher.images == 24);  // 16 shots, but the classes have six images
    const ReproductionStage& student = stage(p, "eurosat/seed7/student");
    CHECK(student.student.depth == 3);
    CHECK(student.prompts == "out/source-imagenet/seed7/teacher/prompts.safetensors");
}

TEST_CASE("plan: domain generalisation, the students learn from the variants' test images") {
    const test::TinyBenchmarks tree;
    ReproductionSpec spec =
        distillation(Protocol::domain_generalization, {tree.spec("imagenetv2"), tree.spec("imagenet_sketch")});
    spec.source = tree.spec("imagenet");
    spec.images = 10;
    const ReproductionPlan p = plan(spec);
    const ReproductionStage& student = stage(p, "imagenet_sketch/seed1/student");
    CHECK(student.images == 10);
    CHECK(student.identity.at("part") == "test");
    CHECK(stage(p, "source-imagenet/seed2/teacher").key == "imagenet");
}

TEST_CASE("plan: few-shot, a learner alone for each number of shots") {
    const test::TinyBenchmarks tree;
    ReproductionSpec spec;
    spec.protocol = Protocol::few_shot;
    spec.data = {tree.spec("food101")};
    spec.weights = assets + "/fashion_clip_student.safetensors";
    spec.vocabulary = assets + "/fashion_bpe.txt.gz";
    spec.activation = "quick_gelu";
    spec.learner.name = "coop";
    spec.learner.batch = 32;  // more than there are: one batch of all
    spec.seeds = {3};
    spec.allow_incomplete = true;
    const ReproductionPlan p = plan(spec);
    CHECK(folders(p) == std::vector<std::string>{"food101/zero-shot", "food101/shots1/seed3/learner",
                                                 "food101/shots2/seed3/learner", "food101/shots4/seed3/learner",
                                                 "food101/shots8/seed3/learner", "food101/shots16/seed3/learner"});
    CHECK(stage(p, "food101/zero-shot").row == "CLIP");
    CHECK(p.learner == "CoOp");
    CHECK(stage(p, "food101/shots2/seed3/learner").images == 8);
    CHECK(stage(p, "food101/shots2/seed3/learner").step_images() == 8);
    CHECK(stage(p, "food101/shots2/seed3/learner").steps == stage(p, "food101/shots2/seed3/learner").learner.epochs);
    CHECK(stage(p, "food101/shots2/seed3/learner").identity.at("classes") == "all");
    CHECK(stage(p, "food101/shots16/seed3/learner").images == 16);
    CHECK(stage(p, "food101/shots16/seed3/learner").learner.epochs == 200);
    CHECK(stage(p, "food101/shots1/seed3/learner").learner.epochs == 50);
}

TEST_CASE("plan: what is not the published data set is refused, or marked in every table") {
    const test::TinyBenchmarks tree;
    ReproductionSpec spec = distillation(Protocol::base_to_novel, {tree.spec("dtd"), tree.spec("eurosat")});
    const ReproductionPlan p = plan(spec);
    CHECK(p.targets[0].title() == "dtd (incomplete)");
    const ReproductionReport report = make_report(p, std::vector<StageResult>(p.stages.size()));
    REQUIRE(report.tables.size() == 3);
    for (const ReportTable& table : report.tables) CHECK(table.title.find("incomplete)") != std::string::npos);
    REQUIRE(report.incomplete.size() == 2);
    CHECK(report.incomplete[0] == "dtd: classes: 4, published 47");
    CHECK(to_markdown(report).find("NOT THE PUBLISHED DATA SET: dtd") != std::string::npos);
    spec.allow_incomplete = false;
    CHECK_THROWS_WITH_AS(plan(spec), doctest::Contains("not the published data set: classes: 4, published 47"), Error);
}

TEST_CASE("plan: given prompts are tested, not learned") {
    const test::TinyBenchmarks tree;
    ReproductionSpec spec = distillation(Protocol::base_to_novel, {tree.spec("dtd")});
    spec.teacher_prompts = "prompts/{data}/seed{seed}/shots{shots}.pt";
    const ReproductionPlan p = plan(spec);
    const ReproductionStage& teacher = stage(p, "dtd/seed2/teacher");
    CHECK(teacher.kind == StageKind::zero_shot);
    CHECK(teacher.row == "given teacher");
    CHECK(teacher.prompts == "prompts/dtd/seed2/shots16.pt");
    CHECK(stage(p, "dtd/seed2/student").prompts == teacher.prompts);

    spec.teacher_prompts.clear();
    spec.learner.name = "none";
    const ReproductionPlan without = plan(spec);
    CHECK(without.stages.size() == 4);
    CHECK(stage(without, "dtd/seed1/student").prompts.empty());
    CHECK(stage(without, "dtd/seed1/student").identity.at("teacher-prompts") == "none");
}

TEST_CASE("plan: all:ROOT stands for the data sets of the published table") {
    ReproductionSpec spec;
    spec.data = {"all:somewhere"};
    CHECK(expand_benchmarks(spec).data.size() == 11);
    spec.protocol = Protocol::cross_dataset;
    const ReproductionSpec cross = expand_benchmarks(spec);
    CHECK(cross.data.size() == 10);
    CHECK(cross.source == "imagenet:somewhere");
    spec.protocol = Protocol::domain_generalization;
    CHECK(expand_benchmarks(spec).data == std::vector<std::string>{"imagenetv2:somewhere", "imagenet_sketch:somewhere",
                                                                   "imagenet_a:somewhere", "imagenet_r:somewhere"});
}

TEST_CASE("plan: contradictions are errors") {
    const test::TinyBenchmarks tree;
    const ReproductionSpec good = distillation(Protocol::base_to_novel, {tree.spec("dtd")});
    const auto refused = [&good](const char* why, const auto& change) {
        ReproductionSpec spec = good;
        change(spec);
        CHECK_THROWS_WITH_AS(plan(spec), doctest::Contains(why), Error);
    };
    refused("give a teacher and a student", [](ReproductionSpec& s) { s.teacher = s.student = ""; });
    refused("needs both", [](ReproductionSpec& s) { s.student = ""; });
    refused("cocoop", [](ReproductionSpec& s) { s.learner.name = "cocoop"; });
    refused("unknown learner", [](ReproductionSpec& s) { s.learner.name = "best"; });
    refused("only few-shot", [](ReproductionSpec& s) { s.shots = {1, 2}; });
    refused("has no source", [](ReproductionSpec& s) { s.source = "imagenet:x"; });
    refused("there is no data set", [](ReproductionSpec& s) { s.data.clear(); });
    refused("there is no seed", [](ReproductionSpec& s) { s.seeds.clear(); });
    refused("absent.pt", [](ReproductionSpec& s) { s.teacher = "absent.pt"; });
}

}  // namespace plan_test
