// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"

#include <promptkd/train/log.hpp>

#include <doctest/doctest.h>

namespace log_test {

namespace {

using namespace promptkd;
using promptkd::test::error_of;
using promptkd::test::TemporaryFolder;

StepRecord record(Index step, double loss) {
    StepRecord r;
    r.step = step;
    r.epoch = step / 2;
    r.lr = 0.005;
    r.loss = loss;
    return r;
}

void write_steps(const TemporaryFolder& folder, Index first, Index last) {
    StepLog log(folder.path(), first);
    for (Index step = first; step < last; ++step) log.write(record(step, 1.0 / static_cast<double>(1 + step)));
    log.save();
}

std::string json_of(const TemporaryFolder& folder) { return read_file(folder / "log.jsonl"); }
std::string csv_of(const TemporaryFolder& folder) { return read_file(folder / "log.csv"); }

TEST_CASE("step log: one line a step in both files") {
    const TemporaryFolder folder;
    write_steps(folder, 0, 3);
    CHECK(json_of(folder) ==
          "{\"step\": 0, \"epoch\": 0, \"lr\": 0.005, \"loss\": 1}\n"
          "{\"step\": 1, \"epoch\": 0, \"lr\": 0.005, \"loss\": 0.5}\n"
          "{\"step\": 2, \"epoch\": 1, \"lr\": 0.005, \"loss\": 0.333333333}\n");
    CHECK(csv_of(folder) == "step,epoch,lr,loss\n0,0,0.005,1\n1,0,0.005,0.5\n2,1,0.005,0.333333333\n");
}

TEST_CASE("step log: a new run forgets an old log") {
    const TemporaryFolder folder;
    write_steps(folder, 0, 5);
    write_steps(folder, 0, 1);
    CHECK(csv_of(folder) == "step,epoch,lr,loss\n0,0,0.005,1\n");
}

TEST_CASE("step log: a resumed run drops the lines behind its checkpoint and ends as an unbroken one") {
    const TemporaryFolder unbroken;
    write_steps(unbroken, 0, 6);
    const TemporaryFolder resumed;
    write_steps(resumed, 0, 5);
    write_steps(resumed, 2, 6);  // the checkpoint was written after step 2
    CHECK(json_of(resumed) == json_of(unbroken));
    CHECK(csv_of(resumed) == csv_of(unbroken));
}

TEST_CASE("step log: half a line at the end, from a run that was killed while writing, is dropped") {
    const TemporaryFolder unbroken;
    write_steps(unbroken, 0, 4);
    const TemporaryFolder killed;
    write_steps(killed, 0, 3);
    write_atomically(killed / "log.jsonl", json_of(killed) + "{\"step\": 3, \"ep");
    write_steps(killed, 3, 4);
    CHECK(json_of(killed) == json_of(unbroken));
}

TEST_CASE("step log: lines that are missing before a checkpoint are no obstacle, and are told") {
    const TemporaryFolder folder;
    write_steps(folder, 0, 2);
    {
        StepLog log(folder.path(), 5);  // three steps of a checkpoint have no line
        CHECK(!log.complete());
        log.write(record(5, 0.5));
        log.save();
    }
    CHECK(csv_of(folder) == "step,epoch,lr,loss\n0,0,0.005,1\n1,0,0.005,0.5\n5,2,0.005,0.5\n");
    StepLog again(folder.path(), 6);  // the gap stays, no line stands twice
    CHECK(!again.complete());
    CHECK(csv_of(folder) == "step,epoch,lr,loss\n0,0,0.005,1\n1,0,0.005,0.5\n5,2,0.005,0.5\n");
    std::filesystem::remove(folder / "log.csv");
    write_steps(folder, 2, 3);
    CHECK(csv_of(folder) == "step,epoch,lr,loss\n2,1,0.005,0.333333333\n");
}

TEST_CASE("step log: lines of something else are dropped") {
    const TemporaryFolder folder;
    write_steps(folder, 0, 2);
    write_atomically(folder / "log.jsonl", json_of(folder) + "{\"step\": 1, \"epoch\": 0}\nprogress 12\n");
    CHECK(!StepLog(folder.path(), 3).complete());
    CHECK(json_of(folder) ==
          "{\"step\": 0, \"epoch\": 0, \"lr\": 0.005, \"loss\": 1}\n"
          "{\"step\": 1, \"epoch\": 0, \"lr\": 0.005, \"loss\": 0.5}\n");
}

TEST_CASE("step log: a log that is removed during the run goes on in a new file") {
    const TemporaryFolder folder;
    StepLog log(folder.path(), 0);
    log.write(record(0, 1));
    CHECK(log.save());
    std::filesystem::remove(folder / "log.csv");
    log.write(record(1, 0.5));
    CHECK(!log.save());
    log.write(record(2, 0.25));
    CHECK(log.save());
    CHECK(csv_of(folder) == "step,epoch,lr,loss\n2,1,0.005,0.25\n");
}

TEST_CASE("step log: a folder that is not there is an error") {
    const TemporaryFolder folder;
    CHECK(error_of([&] { StepLog(folder / "none", 0); }).find("none/log.jsonl") != std::string::npos);
}

}  // namespace

}  // namespace log_test
