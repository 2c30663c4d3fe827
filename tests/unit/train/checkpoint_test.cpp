// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"

#include <promptkd/train/checkpoint.hpp>

#include <doctest/doctest.h>

#include <limits>

namespace checkpoint_test {

namespace {

using namespace promptkd;
using promptkd::test::error_of;
using promptkd::test::TemporaryFolder;

const nlohmann::json settings = {{"command", "distill"}, {"seed", 1}, {"student", "tiny"}};

/// Four epochs of 40 steps.
RunIdentity run_of(const nlohmann::json& config) {
    return {config, {{"number of images", 320}, {"weights", "ab"}}, 4, 40};
}
const RunIdentity run = run_of(settings);

TensorMap some_state() {
    TensorMap state;
    state.tensors["prompts"] = make_tensor(std::vector<float>{1, 2, 3, 4}, {2, 2});
    state.tensors["steps"] = make_tensor(std::vector<std::int64_t>{7}, {});
    return state;
}

Progress some_progress() {
    Progress at;
    at.epoch = 3;
    at.step = 120;
    at.unreadable = 2;
    at.first_loss = 1.5;
    at.last_loss = 0.1 + 0.2;
    at.seconds = 12.25;
    return at;
}

/// A checkpoint whose metadata `change` has altered.
template <class F>
std::string refusal(const F& change) {
    const TemporaryFolder folder;
    write_checkpoint(folder.path(), some_state(), run, some_progress());
    TensorMap state = read_safetensors(checkpoint_path(folder.path()));
    change(state.metadata);
    write_safetensors(checkpoint_path(folder.path()), state);
    Progress at;
    return error_of([&] { read_checkpoint(folder.path(), run, at); });
}

/// The same with `progress` in place of the run's.
std::string refused_progress(const std::string& progress) {
    return refusal([&](auto& metadata) { metadata["progress"] = progress; });
}

bool mentions(const std::string& message, const std::string& text) { return message.find(text) != std::string::npos; }

TEST_CASE("checkpoint: what was written is read, progress and tensors to the last bit") {
    const TemporaryFolder folder;
    CHECK(!has_checkpoint(folder.path()));
    write_checkpoint(folder.path(), some_state(), run, some_progress());
    CHECK(has_checkpoint(folder.path()));
    Progress at;
    const TensorMap state = read_checkpoint(folder.path(), run, at);
    CHECK(at.epoch == 3);
    CHECK(at.step == 120);
    CHECK(at.unreadable == 2);
    CHECK(at.first_loss == 1.5);
    CHECK(at.last_loss == 0.1 + 0.2);
    CHECK(at.seconds == 12.25);
    CHECK(state.at("prompts", {2, 2}).to<float>() == std::vector<float>{1, 2, 3, 4});
    CHECK(state.at("steps").to<std::int64_t>() == std::vector<std::int64_t>{7});
}

TEST_CASE("checkpoint: equal runs write equal bytes, whatever time they took") {
    const TemporaryFolder folder;
    Progress at = some_progress();
    write_checkpoint(folder / "a", some_state(), run, at);
    at.seconds = 99;
    write_checkpoint(folder / "b", some_state(), run, at);
    CHECK(read_file(checkpoint_path(folder / "a")) == read_file(checkpoint_path(folder / "b")));
}

TEST_CASE("checkpoint: the seconds are nothing that a run depends on") {
    const TemporaryFolder folder;
    for (const char* elapsed : {"", "not JSON", "[1]", "{\"seconds\": \"long\"}"}) {
        write_checkpoint(folder.path(), some_state(), run, some_progress());
        write_atomically(folder / "checkpoint/elapsed.json", elapsed);
        Progress at;
        read_checkpoint(folder.path(), run, at);
        CHECK(at.seconds == 0);
        CHECK(at.step == 120);
    }
    std::filesystem::remove(folder / "checkpoint/elapsed.json");
    Progress at;
    read_checkpoint(folder.path(), run, at);
    CHECK(at.seconds == 0);
}

TEST_CASE("checkpoint: one of another run is refused, naming the first difference") {
    const TemporaryFolder folder;
    write_checkpoint(folder.path(), some_state(), run, some_progress());
    const auto refused = [&](const nlohmann::json& other) {
        Progress at;
        const std::string message = error_of([&] { read_checkpoint(folder.path(), run_of(other), at); });
        CHECK(at.step == 0);
        CHECK(mentions(message, "state.safetensors: this checkpoint belongs to a run with other settings: "));
        return message;
    };
    nlohmann::json other = settings;
    other["seed"] = 2;
    CHECK(mentions(refused(other), "'seed' was 1 and is now 2"));
    other["student"] = "large";  // what is trained comes first
    CHECK(mentions(refused(other), "'student' was \"tiny\" and is now \"large\""));
    other = settings;
    other.erase("seed");
    CHECK(mentions(refused(other), "'seed' was 1 and is now not set"));
    other = settings;
    other["depth"] = 9;
    CHECK(mentions(refused(other), "'depth' was not set and is now 9"));
    CHECK(mentions(refused(nlohmann::json::object()), "'command' was \"distill\" and is now not set"));
}

TEST_CASE("checkpoint: a file without a run's metadata is no checkpoint") {
    for (const char* key : {"config", "progress"})
        CHECK(mentions(refusal([&](auto& metadata) { metadata.erase(key); }), ": not a checkpoint of promptkd"));
    for (const char* key : {"config", "progress"})
        for (const char* damage : {"{", "[1, 2]", "3", ""})
            CHECK(mentions(refusal([&](auto& metadata) { metadata[key] = damage; }), ": damaged checkpoint metadata"));
}

TEST_CASE("checkpoint: each part of the progress must be there, and a number") {
    const nlohmann::json whole = {
        {"epoch", 3}, {"step", 120}, {"unreadable", 2}, {"first_loss", 1.5}, {"last_loss", 0.25}};
    CHECK(refused_progress(whole.dump()) == "no error");
    for (const char* key : {"epoch", "step", "unreadable", "first_loss", "last_loss"}) {
        const std::string complaint = concat(": damaged checkpoint metadata: no '", key, "'");
        nlohmann::json damaged = whole;
        damaged.erase(key);
        CHECK(mentions(refused_progress(damaged.dump()), complaint));
        for (const nlohmann::json& wrong : {nlohmann::json("3"), nlohmann::json(nullptr), nlohmann::json({1})}) {
            damaged[key] = wrong;
            CHECK(mentions(refused_progress(damaged.dump()), complaint));
        }
    }
    for (const char* key : {"epoch", "step", "unreadable"})
        for (const nlohmann::json& wrong : {nlohmann::json(-1), nlohmann::json(1.5)}) {
            nlohmann::json damaged = whole;
            damaged[key] = wrong;
            CHECK(mentions(refused_progress(damaged.dump()), concat("no '", key, "'")));
        }
}

TEST_CASE("checkpoint: progress that contradicts itself or the run is refused") {
    const auto refused = [](const char* key, const nlohmann::json& value) {
        nlohmann::json progress = {
            {"epoch", 3}, {"step", 120}, {"unreadable", 2}, {"first_loss", 1.5}, {"last_loss", 0.25}};
        progress[key] = value;
        return refused_progress(progress.dump());
    };
    for (const Index epoch : {Index{0}, Index{2}, Index{5}, Index{1} << 60})
        CHECK(mentions(refused("epoch", epoch), ": damaged checkpoint: 120 steps in "));
    for (const Index step : {Index{0}, Index{2}, Index{121}, Index{1} << 62})
        CHECK(mentions(refused("step", step), ": damaged checkpoint: "));
    CHECK(mentions(refused("step", std::uint64_t{1} << 63), "no 'step'"));
    CHECK(refused("step", 119) == "no error");  // an epoch with unreadable images is shorter
    CHECK(mentions(refused("step_of_epoch", 41), ": damaged checkpoint: "));
    CHECK(mentions(refused("step_of_epoch", 118), ": damaged checkpoint: "));
    CHECK(mentions(refused("last_loss", std::numeric_limits<double>::quiet_NaN()), "no 'last_loss'"));
}

TEST_CASE("checkpoint: what a run is made of must be the same, and the message says what is not") {
    const nlohmann::json stored = {{"number of images", 3},
                                   {"names of the images", "a"},
                                   {"modification times of the images", "t"},
                                   {"vocabulary", "v"}};
    const auto refusal_of = [&](const nlohmann::json& now) {
        return error_of([&] { require_same_inputs(stored, now, "state.safetensors"); });
    };
    CHECK(refusal_of(stored) == "no error");
    nlohmann::json now = stored;
    now["number of images"] = 2;
    now["names of the images"] = "b";
    CHECK(mentions(refusal_of(now), "the number of images changed since this checkpoint was written (3, now 2)"));
    now = stored;
    now.erase("vocabulary");
    CHECK(mentions(refusal_of(now), "the vocabulary (\"v\") of this checkpoint's run is missing now"));
    now = stored;
    now["prompts of the teacher"] = "p";
    CHECK(mentions(refusal_of(now), "the prompts of the teacher changed"));
}

TEST_CASE("checkpoint: where the contents of the images were read both times, their times do not count") {
    nlohmann::json stored = {{"modification times of the images", "t"}, {"contents of the images", "c"}}, now = stored;
    now["modification times of the images"] = "u";
    CHECK(error_of([&] { require_same_inputs(stored, now, ""); }) == "no error");
    now["contents of the images"] = "d";
    CHECK(mentions(error_of([&] { require_same_inputs(stored, now, ""); }), "the contents of the images changed"));
    stored.erase("contents of the images");
    CHECK(mentions(error_of([&] { require_same_inputs(stored, now, ""); }), "the modification times of the images"));
}

TEST_CASE("checkpoint: any flipped bit is found") {
    const TemporaryFolder folder;
    write_checkpoint(folder.path(), some_state(), run, some_progress());
    const std::string bytes = read_file(checkpoint_path(folder.path()));
    for (std::size_t i = 0; i < 8 * bytes.size(); ++i) {
        std::string damaged = bytes;
        damaged[i / 8] = static_cast<char>(damaged[i / 8] ^ (1 << i % 8));
        write_atomically(checkpoint_path(folder.path()), damaged);
        Progress at;
        CHECK_MESSAGE(error_of([&] { read_checkpoint(folder.path(), run, at); }) != "no error", "bit ", i);
    }
}

TEST_CASE("checkpoint: none, and a truncated one") {
    const TemporaryFolder folder;
    Progress at;
    CHECK(mentions(error_of([&] { read_checkpoint(folder.path(), run, at); }), "state.safetensors"));
    write_checkpoint(folder.path(), some_state(), run, some_progress());
    const std::string bytes = read_file(checkpoint_path(folder.path()));
    for (const std::size_t n : {std::size_t{0}, std::size_t{7}, bytes.size() - 1}) {
        write_atomically(checkpoint_path(folder.path()), bytes.substr(0, n));
        CHECK(mentions(error_of([&] { read_checkpoint(folder.path(), run, at); }), "state.safetensors"));
    }
}

}  // namespace

}  // namespace checkpoint_test
