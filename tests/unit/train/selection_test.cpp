// SPDX-License-Identifier: Apache-2.0
#include <promptkd/train/best_check.hpp>
#include <promptkd/train/selection.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

namespace selection_test {

namespace {

using namespace promptkd;

/// A model of one number, which a step moves by its rate; remembers what it was told.
class Counter final : public Trainable {
public:
    void begin_epoch(Index epoch) override { told += "begin " + std::to_string(epoch) + "; "; }
    void begin_step(const Batch&, double rate) override { value += rate; }
    double end_step() override { return -value; }
    void end_epoch(Index epoch) override { told += "end " + std::to_string(epoch) + "; "; }
    void finish() override { told += "finish; "; }
    void save(TensorMap& state) const override { state.tensors["value"] = make_tensor(std::vector<double>{value}, {}); }
    void load(const TensorMap& state) override { value = state.at("value").to<double>().at(0); }

    double value = 0;
    std::string told;
};

/// One epoch of one step after each of which the model has one more, with these validation scores.
struct Run {
    Counter model;
    std::vector<double> scores;
    std::size_t asked = 0;
    BestEpoch best{model, [this] { return scores.at(asked++); }};

    explicit Run(std::vector<double> all) : scores(std::move(all)) {}
    void epochs(Index first, Index last) {
        for (Index epoch = first; epoch < last; ++epoch) {
            best.begin_epoch(epoch);
            best.begin_step(Batch{}, 1);
            CHECK(best.end_step() == -model.value);
            best.end_epoch(epoch);
        }
    }
};

TEST_CASE("best epoch: the state with the highest score comes back") {
    Run run({50, 70, 60, 60});
    run.epochs(0, 3);
    CHECK(run.best.best_score() == 70);
    CHECK(run.best.best_epoch() == 1);
    CHECK(run.model.value == 3);
    CHECK(run.best.select());
    CHECK(run.model.value == 2);
    CHECK(run.asked == 4);  // after each epoch, and of the model as it ended
    CHECK(run.model.told == "begin 0; end 0; begin 1; end 1; begin 2; end 2; ");
}

TEST_CASE("best epoch: of two equal ones the later") {
    Run run({70, 60, 70, 65, 65});
    run.epochs(0, 4);
    CHECK(run.best.best_epoch() == 2);
    CHECK(run.best.select());
    CHECK(run.model.value == 3);
}

TEST_CASE("best epoch: a model that ended as good stays, even if it was changed after the last epoch") {
    for (const double last : {70.0, 71.0}) {
        Run run({70, 60, last});
        run.epochs(0, 2);
        run.model.value = 100;  // aggregated prompts, say
        CHECK(!run.best.select());
        CHECK(run.model.value == 100);
        CHECK(run.best.best_score() == last);
    }
}

TEST_CASE("best epoch: without an epoch there is nothing to go back to") {
    Run run({12});
    CHECK(run.best.best_epoch() == -1);
    CHECK(std::isinf(run.best.best_score()));
    CHECK(!run.best.select());
    CHECK(run.best.best_score() == 12);
}

TEST_CASE("best epoch: a resumed run knows the best epoch of the one before") {
    Run first({50, 70});
    first.epochs(0, 2);
    TensorMap state;
    first.best.save(state);
    CHECK(state.at("value").to<double>() == std::vector<double>{2});
    CHECK(state.at("best.value").to<double>() == std::vector<double>{2});

    Run second({60, 60});
    second.best.load(state);
    CHECK(second.best.best_score() == 70);
    CHECK(second.best.best_epoch() == 1);
    CHECK(second.model.value == 2);
    second.epochs(2, 3);
    CHECK(second.model.value == 3);
    CHECK(second.best.select());
    CHECK(second.model.value == 2);
}

TEST_CASE("best epoch: saved before the first epoch, and a state without it") {
    Run run({40, 40});
    TensorMap state;
    run.best.save(state);
    Run again({40, 40});
    again.best.load(state);
    CHECK(again.best.best_epoch() == -1);
    again.epochs(0, 1);
    CHECK(again.best.best_epoch() == 0);
    state.tensors.erase("best_epoch");
    state.source = "state.safetensors";
    CHECK_THROWS_WITH_AS(again.best.load(state), "state.safetensors: tensor 'best_epoch' is missing", Error);
}

TEST_CASE("best epoch: the end of the run is passed on") {
    Run run({1});
    run.best.finish();
    CHECK(run.model.told == "finish; ");
}

}  // namespace

namespace {

/// A model of one number that a step raises by one, judged at some steps.
struct CheckedRun {
    Counter model;
    std::vector<double> scores;
    std::size_t asked = 0;
    BestCheck best;

    CheckedRun(std::vector<double> all, Index steps, Index checks)
        : scores(std::move(all)),
          best(model,
               {[this](Index) { return scores.at(asked++); }, [this](TensorMap& to) { model.save(to); },
                [this](const TensorMap& from) { model.load(from); }},
               steps, checks) {}
    void steps(Index count) {
        for (Index i = 0; i < count; ++i) {
            best.begin_step(Batch{}, 1);
            best.end_step();
        }
    }
};

}  // namespace

TEST_CASE("best check: evenly over the steps, the least score comes back") {
    CheckedRun run({3, 1, 2, 1}, 10, 4);  // behind steps 3, 5, 8 and 10
    run.steps(10);
    REQUIRE(run.best.checks().size() == 4);
    CHECK(run.best.checks()[0].step == 3);
    CHECK(run.best.checks()[1].step == 5);
    CHECK(run.best.checks()[2].step == 8);
    CHECK(run.best.checks()[3].step == 10);
    run.best.select();
    CHECK(run.best.best().step == 5);
    CHECK(run.best.best().score == 1);
    CHECK(run.model.value == 5);
    CHECK(run.asked == 4);
}

TEST_CASE("best check: more checks than steps, and a run that ends before its time") {
    CheckedRun dense({5, 4, 3}, 3, 10);
    dense.steps(3);
    CHECK(dense.asked == 3);
    CheckedRun cut({5, 4}, 10, 2);
    cut.steps(7);
    cut.best.select();  // judged as it ended
    CHECK(cut.best.checks().size() == 2);
    CHECK(cut.model.value == 7);
}

TEST_CASE("best check: a checkpoint goes on as if nothing had been") {
    CheckedRun whole({3, 1, 2, 4}, 12, 4);
    whole.steps(12);
    CheckedRun first({3, 1}, 12, 4), second({2, 4}, 12, 4);
    first.steps(7);
    TensorMap state;
    first.best.save(state);
    second.best.load(state);
    second.steps(5);
    TensorMap one, other;
    whole.best.save(one);
    second.best.save(other);
    for (const auto& [name, tensor] : one.tensors) CHECK(tensor.to<double>() == other.at(name).to<double>());
    second.best.select();
    CHECK(second.model.value == 6);
}

}  // namespace selection_test
