// SPDX-License-Identifier: Apache-2.0
// What whole runs decide before they compute: whose images, under which identity, and what an observer hears. The runs
// themselves: tests/consumer/whole_runs.cpp and the program's tests.
#include <promptkd/experiment/distillation_spec.hpp>
#include <promptkd/experiment/few_shot_images.hpp>
#include <promptkd/experiment/images.hpp>
#include <promptkd/experiment/stage.hpp>
#include <promptkd/experiment/zero_shot.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

namespace runs_test {

namespace {

using namespace promptkd;

/// {train,test}/{a,b,c}/N.png, empty files: opening a data set decodes nothing. 6 of a class to train, 2 to test.
class Tree {
public:
    Tree() {
        std::string name = (std::filesystem::temp_directory_path() / "promptkd-runs-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path_ = name;
        for (const std::string part : {"train", "test"})
            for (const std::string of : {"a", "b", "c"}) {
                const std::string folder = path_ + "/" + part + "/" + of;
                make_directories(folder);
                for (int i = 0; i < (part == "train" ? 6 : 2); ++i)
                    write_atomically(folder + "/" + std::to_string(i) + ".png", "");
            }
    }
    ~Tree() { std::filesystem::remove_all(path_); }
    const std::string& path() const { return path_; }
    std::string source() const { return "folder:" + path_; }

private:
    std::string path_;
};

std::vector<std::string> names_of(const Dataset& data) {
    std::vector<std::string> names;
    for (Index i = 0; i < data.size(); ++i) names.push_back(data.item_name(i));
    return names;
}

class Listener final : public Observer {
public:
    void on_note(const std::string& text) override { notes.push_back(text); }
    void on_warning(const std::string& text) override { warnings.push_back(text); }
    void on_progress(const StageProgress& now) override { progress.push_back(now); }
    void on_stage_end(const std::string& stage) override { ended.push_back(stage); }
    std::vector<std::string> notes, warnings, ended;
    std::vector<StageProgress> progress;
};

}  // namespace

TEST_CASE("distillation images: held out, drawn by class, of a half") {
    const Tree tree;
    DistillationData data;
    data.source = tree.source();
    TrainingLoopConfig loop;
    CHECK(DistillationImages(data, loop).train.size() == 18);
    data.validation = 2;
    const DistillationImages split(data, loop);
    CHECK(split.validation.size() == 6);
    CHECK(split.train.size() == 12);
    for (const std::string& name : names_of(split.validation))
        for (const std::string& other : names_of(split.train)) CHECK(name != other);
    data.images_per_class = 3;
    CHECK(DistillationImages(data, loop).train.size() == 9);
    data.classes = ClassSubset::base;  // a and b; every class keeps its name
    const DistillationImages base(data, loop);
    CHECK(base.train.size() == 6);
    CHECK(base.train.classes() == 3);
    loop.view_seed = 7;  // draws the images of a class, not those held out
    CHECK(names_of(DistillationImages(data, loop).validation) == names_of(base.validation));
}

TEST_CASE("distillation images: what needs labels says so") {
    const Tree tree;
    DistillationData data;
    data.source = "folder:" + tree.path() + "/train/a";
    data.class_names = {"a", "b"};
    CHECK(DistillationImages(data, {}).train.size() == 6);
    data.validation = 1;
    CHECK_THROWS_WITH_AS(DistillationImages(data, {}), doctest::Contains("needs labelled images"), Error);
}

TEST_CASE("images to evaluate on: asked for, found, or noted as missing") {
    const Tree tree;
    Listener listener;
    DistillationData data;
    data.source = tree.source();
    const auto own = open_evaluation(data, DistillationImages(data, {}), listener);
    REQUIRE(own.has_value());
    CHECK(own->size() == 6);
    CHECK(listener.notes.empty());
    const DistillationImages images(data, {});
    data.source = "folder:" + tree.path() + "/nowhere";
    CHECK(!open_evaluation(data, images, listener).has_value());
    REQUIRE(listener.notes.size() == 1);
    CHECK(listener.notes[0].find("will not be evaluated") != std::string::npos);
    data.evaluation = data.source;
    CHECK_THROWS_AS(open_evaluation(data, images, listener), Error);
}

TEST_CASE("images to evaluate on: never those that are learned from") {
    const Tree tree;
    Listener listener;
    DistillationData data;
    data.source = "folder:" + tree.path() + "/train";
    CHECK_FALSE(open_evaluation(data, DistillationImages(data, {}), listener).has_value());
    REQUIRE(listener.warnings.size() == 1);
    CHECK(listener.warnings[0].find("all of its 18 images are learned from, so nothing is evaluated") !=
          std::string::npos);
    data.images = 6;  // two of each class
    const auto rest = open_evaluation(data, DistillationImages(data, {}), listener);
    REQUIRE(rest.has_value());
    CHECK(rest->size() == 12);
    CHECK(listener.notes.back().find("the test images are the 12 that are not learned from") != std::string::npos);
    data.images = 0;
    data.holdout = 0.5;
    const DistillationImages half(data, {});
    CHECK(half.train.size() == 9);
    CHECK(open_evaluation(data, half, listener)->size() == 9);
    EvaluationData zero_shot;
    zero_shot.source = data.source;
    zero_shot.holdout = 0.5;
    CHECK(names_of(zero_shot.open(listener)) == names_of(*half.test));
    data.holdout = 0;
    data.evaluation = data.source;
    CHECK(open_evaluation(data, DistillationImages(data, {}), listener)->size() == 18);
    CHECK(listener.warnings.back().find("18 of the 18 test images") != std::string::npos);

    FewShotData few;
    few.source = data.source;
    few.shots = 4;
    CHECK(FewShotImages(few, 1).open_test(few, listener)->size() == 6);
    few.shots = 6;
    CHECK_FALSE(FewShotImages(few, 1).open_test(few, listener).has_value());
    few.source = tree.source();
    CHECK(FewShotImages(few, 1).open_test(few, listener)->size() == 6);
    few.shots = 4;
    few.holdout = 2;
    const FewShotImages kept(few, 1);
    CHECK(kept.all.size() == 12);
}

TEST_CASE("one class alone is refused before anything is trained") {
    const Tree tree;
    Listener listener;
    DistillationData data;
    data.source = "folder:" + tree.path() + "/train/a";
    data.class_names = {"a"};
    CHECK_THROWS_WITH_AS(DistillationImages(data, {}), doctest::Contains("there is one class alone (a)"), Error);
    EvaluationData zero_shot;
    zero_shot.source = "list:" + tree.path() + "/one.csv";
    write_atomically(tree.path() + "/one.csv", "train/a/0.png,a\n");
    CHECK_THROWS_WITH_AS(zero_shot.open(listener), doctest::Contains("one class alone"), Error);
    FewShotData few;
    few.source = tree.source();
    few.classes = ClassSubset::novel;  // one of three
    CHECK_THROWS_WITH_AS(FewShotImages(few, 1), doctest::Contains("one class alone"), Error);
}

TEST_CASE("few-shot images: drawn, and held out beside the draw") {
    const Tree tree;
    FewShotData data;
    data.source = tree.source();
    data.shots = 2;
    CHECK(FewShotImages(data, 1).classes == ClassSubset::all);  // a half of three classes would hold one
    data.classes = ClassSubset::base;
    data.validation = 4;  // at most as many as shots
    const FewShotImages images(data, 1);
    CHECK(images.all.size() == 18);
    CHECK(images.train.size() == 4);
    CHECK(images.validation.size() == 4);
    for (const std::string& name : names_of(images.validation))
        for (const std::string& other : names_of(images.train)) CHECK(name != other);
    data.shots = 0;
    CHECK(FewShotImages(data, 1).train.size() == 4);
    data.shots = 7;
    CHECK_THROWS_AS(FewShotImages(data, 1), Error);
}

TEST_CASE("an identity changes with what the results depend on") {
    DistillationSpec spec;
    const nlohmann::json before = derived_identity(spec);
    spec.loop.out = "elsewhere";
    spec.loop.loader_threads = 7;
    spec.evaluation_batch = 3;
    spec.fresh = true;
    CHECK(derived_identity(spec) == before);
    spec.loss.temperature = 2;
    CHECK(derived_identity(spec) != before);
    spec.loss.temperature = 1;
    spec.loop.seed = 2;
    CHECK(derived_identity(spec) != before);
    spec.loop.seed = 1;
    spec.teacher.weights = {"teacher"};
    CHECK(derived_identity(spec) != before);
    CHECK(student_recipe(derived_identity(spec)) == student_recipe(before));

    TrainingSpec training;
    const nlohmann::json first = derived_identity(training);
    training.recipe.options["weight"] = 3;
    CHECK(derived_identity(training) != first);
}

TEST_CASE("class texts are read only where nothing stands in for them") {
    DistillationSpec spec;
    CHECK(!spec.needs_vocabulary());
    spec.teacher.weights = {"teacher"};
    CHECK(spec.needs_vocabulary());
    spec.teacher.class_vectors = "vectors";
    CHECK(!spec.needs_vocabulary());
    spec.loss.stay_close = 1;
    CHECK(!spec.needs_vocabulary());
    spec.loss.stay_close_to = StayCloseTo::logits;
    CHECK(spec.needs_vocabulary());
}

TEST_CASE("teachers: prompts for each, or for all") {
    TeacherSpec spec;
    CHECK(spec.count() == 0);
    spec.weights = {"w"};
    spec.prompts = {"p", "", "q"};
    CHECK(spec.count() == 3);
    CHECK(spec.model(2).path == "w");
    CHECK(spec.prompts_of(1).empty());
    CHECK(spec.prompts_of(2) == "q");
    spec.check();
    spec.weights = {"w", "v"};
    CHECK_THROWS_AS(spec.check(), Error);
    spec.prompts.clear();
    spec.class_vectors = "vectors";
    CHECK_THROWS_WITH_AS(spec.check(), doctest::Contains("one teacher"), Error);
}

TEST_CASE("a training stage tells steps, notes and its end") {
    Listener listener;
    TrainingLoopConfig loop;
    loop.batch = 4;
    loop.schedule.max_epoch = 3;
    CHECK(count_steps(loop, 10) == 6);
    loop.max_steps = 5;
    CHECK(count_steps(loop, 10) == 5);
    TrainingStage stage("distil", 5, listener);
    const TrainingLoopConfig connected = stage.connect(loop, 10, false);
    CHECK(!connected.resume);
    CHECK(listener.progress.empty());  // what comes before the steps takes no time of theirs
    stage.begin();
    connected.on_step(StepRecord{2, 1, 0.1, 1.5});
    connected.warn("broken.png");
    stage.end();
    REQUIRE(listener.progress.size() == 2);
    CHECK(listener.progress[0].done == 0);
    CHECK(listener.progress[1].done == 3);
    CHECK(listener.progress[1].resumed == 2);
    CHECK(listener.progress[1].total == 5);
    CHECK(listener.progress[1].note == "epoch 2, loss 1.5000");
    CHECK(listener.warnings == std::vector<std::string>{"skipped: broken.png"});
    CHECK(listener.ended == std::vector<std::string>{"distil"});
}

TEST_CASE("a figure over several runs: mean and deviation of a sample") {
    CHECK(spread_of({70}).mean == 70);
    CHECK(spread_of({70}).standard_deviation == 0);
    const Spread found = spread_of({1, 2, 6});
    CHECK(found.mean == 3);
    CHECK(found.standard_deviation == doctest::Approx(std::sqrt(7.0)));
    CHECK_THROWS_AS(spread_of({}), Error);
}

}  // namespace runs_test
