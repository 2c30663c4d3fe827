// SPDX-License-Identifier: Apache-2.0
#include "support/hostile_files.hpp"

#include <promptkd/experiment/report/html.hpp>
#include <promptkd/experiment/report/json.hpp>
#include <promptkd/experiment/report/make.hpp>
#include <promptkd/experiment/report/markdown.hpp>
#include <promptkd/experiment/report/mean_losses.hpp>
#include <promptkd/experiment/report/pictures.hpp>

#include <doctest/doctest.h>

#include <algorithm>

namespace report_test {

using namespace promptkd;

namespace {

/// A plan without files, one stage after the other, and what they found.
struct Made {
    ReproductionPlan plan;
    std::vector<StageResult> results;

    explicit Made(Protocol protocol, std::vector<std::string> targets) {
        plan.spec.protocol = protocol;
        plan.spec.student = "student.pt";
        for (const std::string& key : targets) plan.targets.push_back({key, key + ":root"});
        plan.learner = "PromptSRC teacher";
    }

    /// A stage that is tested on `keys`, not done yet.
    void stage(const std::string& row, std::uint64_t seed, const std::vector<std::string>& keys, Index shots = 0) {
        ReproductionStage s;
        s.row = row;
        s.seed = seed;
        s.shots = shots;
        s.key = keys.front();
        s.folder = keys.front() + "/seed" + std::to_string(seed);
        s.identity = nlohmann::json::object();
        for (const std::string& key : keys) s.tests.push_back({key, key + ":root"});
        plan.stages.push_back(s);
        results.push_back({});
    }
    void halves(const std::string& row, std::uint64_t seed, const std::string& key, double base, double novel) {
        stage(row, seed, {key});
        TestFigures figures;
        figures.base = base;
        figures.novel = novel;
        figures.harmonic_mean = harmonic_mean(base, novel);
        results.back().tests[key] = figures;
    }
    void accuracy(const std::string& row, std::uint64_t seed, const std::string& key, double value, Index shots = 0) {
        stage(row, seed, {key}, shots);
        results.back().tests[key].accuracy = value;
    }

    ReproductionReport report() const { return make_report(plan, results); }
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("report: base-to-novel, mean and deviation over the seeds beside what was published") {
    Made made(Protocol::base_to_novel, {"dtd"});
    made.plan.spec.seeds = {1, 2};
    made.halves("CLIP student", 0, "dtd", 53.25, 60);
    made.halves("PromptKD", 1, "dtd", 80, 70);
    made.halves("PromptKD", 2, "dtd", 84, 76);
    const ReproductionReport report = made.report();
    CHECK(report.complete());
    REQUIRE(report.tables.size() == 1);
    const ReportTable& table = report.tables[0];
    CHECK(table.title == "dtd");
    CHECK(table.columns == std::vector<std::string>{"base", "new", "harmonic mean"});
    REQUIRE(table.rows.size() == 2);

    const ReportCell& base = table.rows[1].cells[0].value();
    CHECK(base.mean == 82);
    CHECK(base.standard_deviation.value() == doctest::Approx(std::sqrt(8.0)));
    CHECK(base.published.value() == 85.84);  // PromptKD's table 1
    CHECK(base.difference().value() == doctest::Approx(-3.84));
    CHECK(base.values.at(2) == 84);
    const ReportCell& mean = table.rows[1].cells[2].value();
    CHECK(mean.mean == doctest::Approx(2 * 82.0 * 73.0 / 155.0));  // of the means, not the mean of the seeds'
    CHECK(mean.standard_deviation.has_value());
    CHECK_FALSE(table.rows[0].cells[0]->standard_deviation.has_value());

    const std::string markdown = to_markdown(report);
    CHECK(contains(markdown, "\n| PromptKD | 82.00 ± 2.83 | 73.00 ± 4.24 | 77.24 ± 3.63 |\n"));
    CHECK(contains(markdown, "\n| published | 85.84 | 71.37 | 77.94 |\n"));
    CHECK(contains(markdown, "\n| difference | -3.84 | +1.63 | -0.70 |\n"));
    CHECK(contains(markdown, "\n| CLIP student | 53.25 | 60.00 | 56.42 |\n"));
    CHECK_FALSE(contains(markdown, "INCOMPLETE"));

    const nlohmann::json json = to_json(report);
    CHECK(json["tables"][0]["rows"][1]["cells"][0]["seeds"]["1"] == 80.0);
    CHECK_FALSE(json["tables"][0]["rows"][0]["cells"][0].contains("seeds"));  // zero-shot has no seed
    CHECK(json["complete"] == true);
    CHECK(nlohmann::json::parse(json.dump()) == json);
}

TEST_CASE("report: what is missing is marked, and not averaged") {
    Made made(Protocol::base_to_novel, {"dtd", "other"});
    made.halves("PromptKD", 1, "dtd", 80, 70);
    made.halves("PromptKD", 1, "other", 60, 50);
    made.halves("PromptKD", 2, "dtd", 90, 80);
    made.stage("PromptKD", 2, {"other"});
    made.stage("MaPLe", 1, {"other"});
    const ReproductionReport report = made.report();
    CHECK_FALSE(report.complete());
    CHECK(report.done == 3);
    CHECK(report.stages == 5);
    REQUIRE(report.tables.size() == 3);
    const ReportTable& average = report.tables[2];
    CHECK(average.title == "average of 2 data sets");
    CHECK(average.rows[0].cells[0]->mean == 70);  // seed 1 alone has both
    CHECK_FALSE(average.rows[0].cells[0]->published.has_value());
    CHECK_FALSE(average.rows[1].cells[0].has_value());
    const std::string markdown = to_markdown(report);
    CHECK(contains(markdown, "INCOMPLETE: 3 of 5 stages are done."));
    CHECK(contains(markdown, "\n| MaPLe | – | – | – |\n"));
    CHECK(contains(to_html(report), "INCOMPLETE: 3 of 5 stages are done."));
    CHECK(to_json(report)["tables"][2]["rows"][1]["cells"][0].is_null());
    CHECK_THROWS_WITH_AS(make_report(made.plan, {}), doctest::Contains("0 results for 5 stages"), Error);
}

TEST_CASE("report: cross-dataset, published averages only over their own data sets") {
    std::vector<std::string> targets;
    for (const BenchmarkInfo& benchmark : benchmarks())
        if (!is_test_only(benchmark) && benchmark.name != "imagenet") targets.push_back(benchmark.name);
    REQUIRE(targets.size() == 10);
    const auto average_of = [](const std::vector<std::string>& keys) {
        Made made(Protocol::cross_dataset, keys);
        made.plan.spec.source = "imagenet:root";
        made.plan.source.key = "imagenet";
        for (const std::string& key : keys) made.accuracy("PromptKD", 1, key, 70);
        const ReproductionReport report = made.report();
        CHECK(report.tables.size() == 1);
        CHECK(report.tables[0].title == "accuracy, prompts learned on imagenet");
        CHECK(report.tables[0].columns.back() == "average");
        return report.tables[0].rows[0].cells.back().value();
    };
    CHECK(average_of(targets).published.value() == 71.33);
    CHECK(average_of(targets).difference().value() == doctest::Approx(-1.33));
    targets.pop_back();
    CHECK_FALSE(average_of(targets).published.has_value());
    targets.push_back("imagenetv2");
    CHECK_FALSE(average_of(targets).published.has_value());
}

TEST_CASE("report: few-shot, a column for each number of images") {
    Made made(Protocol::few_shot, {"dtd"});
    made.accuracy("CLIP student", 0, "dtd", 44);
    made.accuracy("PromptKD", 1, "dtd", 50, 1);
    made.accuracy("PromptKD", 1, "dtd", 60, 2);
    const ReproductionReport report = made.report();
    const ReportTable& table = report.tables.at(0);
    CHECK(table.columns == std::vector<std::string>{"1 image", "2 images"});
    CHECK(table.rows[0].cells[1]->mean == 44);  // without training: the same for every number
    CHECK(table.rows[1].cells[0]->mean == 50);
    CHECK(table.rows[1].cells[1]->mean == 60);
    CHECK(to_json(report)["tables"][0]["shots"] == nlohmann::json({1, 2}));
    CHECK(contains(to_html(report), "accuracy, %, by images a class"));
}

TEST_CASE("report: the loss of a run in at most a hundred points") {
    std::vector<double> losses;
    for (int i = 0; i < 250; ++i) losses.push_back(i);
    const auto points = detail::loss_curve(losses, 250);
    REQUIRE(points.size() == 83);
    CHECK(points[0].first == doctest::Approx(3 / 250.0));
    CHECK(points[0].second == 1);
    CHECK(detail::loss_curve(losses, 50).size() == 250);
    CHECK(detail::loss_curve({}, 0).empty());

    const test::TemporaryFolder folder;
    write_atomically(folder / "log.jsonl", "{\"loss\": 2.5}\nnot json\n{\"step\": 1}\n{\"loss\": 1}\n{\"loss\": 7");
    CHECK(detail::logged_losses(folder / "log.jsonl") == std::vector<double>{2.5, 1});
    CHECK(detail::logged_losses(folder / "absent").empty());
}

TEST_CASE("report: equal recipes stand there once") {
    Made made(Protocol::base_to_novel, {"dtd"});
    for (const std::uint64_t seed : {1u, 2u}) {
        made.stage("PromptKD", seed, {"dtd"});
        ReproductionStage& stage = made.plan.stages.back();
        stage.kind = StageKind::student;
        stage.identity = {{"lr", 0.005},     {"images", 0}, {"seed", seed},       {"weights", "ab"},
                          {"teacher", "cd"}, {"part", ""},  {"template", "a {}."}};
    }
    const ReproductionReport report = made.report();
    REQUIRE(report.recipes.size() == 1);
    CHECK(report.recipes[0].settings == nlohmann::json({{"lr", 0.005}, {"images", 0}, {"template", "a {}."}}));
    CHECK(detail::printed_settings(report.recipes[0]) == "lr 0.005, template a {}.");
}

TEST_CASE("report: names from outside cannot leave their place in the page") {
    const std::string hostile = "<script>alert('1')</script> & \"x\" | y\n" + std::string(600, '<');
    Made made(Protocol::base_to_novel, {hostile});
    made.plan.spec.learner.name = hostile;
    made.plan.files.push_back({"teacher", "folder/<img src='x'>.pt", "00", "<b>", ""});
    made.halves(hostile, 1, hostile, 80, 70);
    made.plan.stages.back().kind = StageKind::learner;
    made.plan.stages.back().identity = {{"template", hostile}};
    made.results.back().training = StageTraining{};
    const ReproductionReport report = made.report();

    const std::string html = to_html(report);
    for (const char* tag : {"<script", "<img", "<b>", "href="}) CHECK_MESSAGE(!contains(html, tag), tag);
    CHECK(contains(html, "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;x&quot;"));
    CHECK(contains(html, "&lt;img src=&#39;x&#39;&gt;.pt"));
    CHECK(std::count(html.begin(), html.end(), '<') == std::count(html.begin(), html.end(), '>'));

    const std::string markdown = to_markdown(report);
    CHECK_FALSE(contains(markdown, "<script"));
    CHECK(contains(markdown, "\\| y "));
    CHECK(nlohmann::json::parse(to_json(report).dump()) == to_json(report));
}

TEST_CASE("pictures: base64, and escaped names") {
    CHECK(base64("") == "");
    CHECK(base64("M") == "TQ==");
    CHECK(base64("Ma") == "TWE=");
    CHECK(base64("Man") == "TWFu");
    CHECK(base64(std::string("\xff\x00\xfe", 3)) == "/wD+");
    const std::string gallery = gallery_picture({{"png", "<right>", "<right>", 0.5}, {"png", "<a>", "<b>", 1}});
    CHECK(contains(gallery, "&lt;right&gt; 50%</text>"));
    CHECK(contains(gallery, "is &lt;b&gt;</text>"));
    CHECK_FALSE(contains(gallery, "<a>"));
    const Curve curve{"<loss>", "#000", {{0, 1}, {1, 0.1}}};
    const std::string picture = training_picture({curve}, {}, "<progress>");
    CHECK(contains(picture, "&lt;loss&gt;"));
    CHECK(contains(picture, "&lt;progress&gt;"));
}

TEST_CASE("the curve of losses in a log: means of whole groups, at the step that ends them") {
    test::TemporaryFolder folder;
    const std::string path = folder / "log.jsonl";
    write_atomically(path,
                     "{\"step\":0,\"loss\":4}\n{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":1}\n"
                     "{\"step\":3,\"loss\":2}\n{\"step\":4,\"loss\":9}\n");
    const auto means = mean_losses(path, 8, 2);
    REQUIRE(means.size() == 2);
    CHECK(means[0] == std::pair(0.25, 3.0));
    CHECK(means[1] == std::pair(0.5, 1.5));
}

}  // namespace report_test
