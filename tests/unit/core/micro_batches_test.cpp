// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/micro_batches.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace micro_batches_test {

namespace {

using namespace promptkd;

using Doubler = MicroBatches<int, int>;

std::vector<int> doubled(std::span<const int> questions) {
    std::vector<int> answers;
    for (const int q : questions) {
        require(q >= 0, "no answer for ", q);
        answers.push_back(2 * q);
    }
    return answers;
}

/// serve() in a thread of its own, as long as this lives.
class Server {
public:
    Server(Doubler& batches, Doubler::Compute compute)
        : thread_([this, &batches, compute = std::move(compute)] {
              batches.serve(compute, [this] { return stop_.load(); });
          }) {}
    ~Server() { end(); }
    void end() {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
    }

private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

/// Until `batches` has n questions that wait.
void await_waiting(const Doubler& batches, std::size_t n) {
    while (batches.waiting() < n) std::this_thread::yield();
}

}  // namespace

TEST_CASE("questions of many threads get their own answers, in batches no larger than allowed") {
    Doubler batches({4, 64, std::chrono::seconds(60), std::chrono::microseconds(0)});
    std::atomic<std::size_t> largest{0}, asked{0};
    Server server(batches, [&](std::span<const int> questions) {
        largest = std::max(largest.load(), questions.size());
        asked += questions.size();
        return doubled(questions);
    });
    std::atomic<int> wrong{0};
    std::vector<std::thread> clients;
    for (int c = 0; c < 8; ++c)
        clients.emplace_back([&, c] {
            for (int i = 0; i < 50; ++i) wrong += batches.ask(100 * c + i) != 2 * (100 * c + i) ? 1 : 0;
        });
    for (std::thread& client : clients) client.join();
    CHECK(wrong == 0);
    CHECK(asked == 400);
    CHECK(largest <= 4);
}

TEST_CASE("what waits is answered together, and one bad question spoils no other") {
    Doubler batches({8, 8, std::chrono::seconds(60), std::chrono::microseconds(0)});
    std::atomic<int> right{0}, refused{0};
    std::vector<std::thread> clients;
    for (const int q : {1, 2, -3, 4})
        clients.emplace_back([&, q] {
            try {
                right += batches.ask(q) == 2 * q ? 1 : 0;
            } catch (const OverloadError&) {
            } catch (const Error& error) {
                refused += std::string(error.what()) == "no answer for -3" ? 1 : 0;
            }
        });
    await_waiting(batches, 4);
    std::vector<std::size_t> sizes;
    Server server(batches, [&](std::span<const int> questions) {
        sizes.push_back(questions.size());
        return doubled(questions);
    });
    for (std::thread& client : clients) client.join();
    server.end();
    CHECK(right == 3);
    CHECK(refused == 1);
    CHECK(sizes == std::vector<std::size_t>{4, 1, 1, 1, 1});
}

TEST_CASE("a full queue, a question that waits for too long and a server that has ended refuse") {
    Doubler batches({1, 1, std::chrono::milliseconds(20), std::chrono::microseconds(0)});
    CHECK_THROWS_WITH_AS(batches.ask(1), "no answer within 20 ms", OverloadError);
    CHECK(batches.waiting() == 0);  // it does not keep its place
    Doubler patient({1, 1, std::chrono::seconds(60), std::chrono::microseconds(0)});
    std::atomic<int> answer{0};
    std::thread client([&] { answer = patient.ask(21); });
    await_waiting(patient, 1);
    CHECK_THROWS_WITH_AS(patient.ask(2), "1 questions wait already, as many as may", OverloadError);
    patient.serve(doubled, [] { return true; });  // what waits is still answered
    client.join();
    CHECK(answer == 42);
    CHECK_FALSE(patient.is_open());
    CHECK_THROWS_WITH_AS(patient.ask(3), "no further questions are answered", OverloadError);
    CHECK_THROWS_AS(Doubler({0, 1, {}, {}}), Error);
    CHECK_THROWS_AS(Doubler({1, 0, {}, {}}), Error);
}

TEST_CASE("answers that are too few are an error, not a wrong answer") {
    Doubler batches({2, 2, std::chrono::seconds(60), std::chrono::microseconds(0)});
    Server server(batches, [](std::span<const int>) { return std::vector<int>(); });
    CHECK_THROWS_WITH_AS(batches.ask(1), "1 questions got 0 answers", Error);
}

}  // namespace micro_batches_test
