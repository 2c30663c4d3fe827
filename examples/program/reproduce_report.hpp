// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "reproduce_run.hpp"

#include <promptkd/experiment/published.hpp>

#include <cmath>

namespace promptkd::cli {

/// The report of a protocol as JSON, from the results that are there: tables of mean, deviation, published number and
/// difference; recipes; runs with their loss curves. It holds nothing that differs between two equal runs.
class ReproduceReport {
public:
    ReproduceReport(const ReproduceOptions& o, const ReproducePlan& plan) : o_(o), plan_(plan) {
        Index done = 0;
        for (const Stage& stage : plan.stages()) {
            const StageResult file(o.out, stage);
            if (file.state() == StageState::done) ++done;
            results_.push_back(file.read());
        }
        json_ = {{"protocol", name_of(o.protocol)},
                 {"method", o.distils() ? "PromptKD" : plan.learner_row()},
                 {"library", std::string("promptkd ") + version},
                 {"seeds", o.seeds},
                 {"selection", "the model of the last epoch"},
                 {"stages", plan.stages().size()},
                 {"done", done},
                 {"complete", done == static_cast<Index>(plan.stages().size())}};
        add_weights();
        add_tables();
        add_recipes();
        add_runs();
    }

    const nlohmann::json& json() const { return json_; }

private:
    using Json = nlohmann::json;
    /// Values of one figure by seed (0: the figure has none).
    using Values = std::map<std::uint64_t, double>;

    bool halves() const { return o_.protocol == Protocol::base_to_novel; }

    void add_weights() {
        json_["weights"] = Json::array();
        const std::pair<const char*, const std::string*> files[] = {
            {"model", &o_.weights}, {"teacher", &o_.teacher}, {"student", &o_.student}, {"vocabulary", &o_.vocab}};
        for (const auto& [role, path] : files) {
            if (path->empty()) continue;
            Json entry = {{"role", role},
                          {"file", std::filesystem::path(*path).filename().string()},
                          {"sha256", plan_.sum(*path)}};
            if (path != &o_.vocab) entry["architecture"] = architecture(*path);
            json_["weights"].push_back(std::move(entry));
        }
    }

    std::string architecture(const std::string& path) const {
        WeightsOptions options;
        options.activation = o_.activation, options.config = path == o_.student ? o_.student_config : o_.teacher_config;
        options.warn = [](const std::string&) {};
        const TensorMap map = promptkd::read_weights(path, options);
        if (!schema::has_vision_transformer(map)) return schema::modified_resnet.name;
        const VisionConfig v = vision_config(map);
        return concat("ViT, patch ", v.patch, ", width ", v.width, ", ", v.layers, " blocks, ", v.resolution(),
                      " pixels, embedding ", v.embed);
    }

    /// `figure` of every finished stage of a row on a data set with that number of shots (0: any).
    Values values(const std::string& row, const std::string& key, const char* figure, Index shots = 0) const {
        Values found;
        for (std::size_t i = 0; i < results_.size(); ++i) {
            const Stage& stage = plan_.stages()[i];
            if (stage.row != row || (shots > 0 && stage.shots > 0 && stage.shots != shots)) continue;
            if (!results_[i].contains("tests") || !results_[i]["tests"].contains(key)) continue;
            found[stage.seed] = results_[i]["tests"][key].at(figure).get<double>();
        }
        return found;
    }

    static double mean_of(const Values& values) {
        double sum = 0;
        for (const auto& entry : values) sum += entry.second;
        return sum / static_cast<double>(values.size());
    }

    /// {"mean", "standard_deviation", "seeds", "published", "difference"}; null without values.
    static Json cell(const Values& values, std::optional<double> published = {}) {
        if (values.empty()) return nullptr;
        const double mean = mean_of(values);
        double square = 0;
        Json seeds = Json::object();
        for (const auto& [seed, value] : values) {
            square += (value - mean) * (value - mean);
            if (seed > 0) seeds[std::to_string(seed)] = value;
        }
        Json c = {{"mean", mean}};
        const double n = static_cast<double>(values.size());
        if (n > 1) c["standard_deviation"] = std::sqrt(square / (n - 1));
        if (!seeds.empty()) c["seeds"] = seeds;
        if (published) c["published"] = *published, c["difference"] = mean - *published;
        return c;
    }

    /// The published method that a row is to be compared with.
    static std::optional<PublishedMethod> method_of(const std::string& row) {
        if (row == "CLIP" || row == "CLIP student") return PublishedMethod::clip;
        for (int i = 1; i <= static_cast<int>(PublishedMethod::promptkd); ++i)
            if (row == name_of(static_cast<PublishedMethod>(i))) return static_cast<PublishedMethod>(i);
        return std::nullopt;
    }

    std::vector<std::string> rows() const {
        std::vector<std::string> names;
        for (const char* wanted : {"CLIP teacher", "CLIP", "CLIP student"})
            for (const Stage& s : plan_.stages())
                if (s.row == wanted && (names.empty() || names.back() != wanted)) names.push_back(s.row);
        for (const Stage& s : plan_.stages())
            if (std::find(names.begin(), names.end(), s.row) == names.end()) names.push_back(s.row);
        return names;
    }

    void add_tables() {
        json_["tables"] = Json::array();
        if (halves())
            add_halves();
        else if (has_source(o_.protocol))
            add_targets();
        else
            add_shots();
    }

    // --- base-to-novel: a table for each data set, and their average
    // ----------------------------------------------------
    void add_halves() {
        for (const StageTest& target : plan_.targets()) {
            Json table = {
                {"title", target.key}, {"columns", {"base", "new", "harmonic mean"}}, {"rows", Json::array()}};
            for (const std::string& row : rows()) {
                std::optional<PublishedAccuracy> published;
                if (const auto method = method_of(row)) published = published_accuracy(target.key, *method);
                table["rows"].push_back(halves_row(row, values(row, target.key, "base"), values(row, target.key, "new"),
                                                   values(row, target.key, "harmonic_mean"), published));
            }
            json_["tables"].push_back(std::move(table));
        }
        if (plan_.targets().size() < 2) return;
        Json table = {{"title", concat("average of ", plan_.targets().size(), " data sets")},
                      {"columns", {"base", "new", "harmonic mean"}},
                      {"rows", Json::array()}};
        for (const std::string& row : rows()) {
            const Values base = average(row, "base"), novel = average(row, "new");
            Values harmonic;
            for (const auto& [seed, value] : base)
                if (novel.count(seed) != 0) harmonic[seed] = harmonic_mean(value, novel.at(seed));
            table["rows"].push_back(halves_row(row, base, novel, harmonic, published_average(row)));
        }
        json_["tables"].push_back(std::move(table));
    }

    /// The harmonic mean of a row is that of its mean base and mean new accuracy, as the papers have it.
    static Json halves_row(const std::string& row, const Values& base, const Values& novel, const Values& harmonic,
                           std::optional<PublishedAccuracy> p) {
        const auto part = [&](double PublishedAccuracy::*field) {
            return p ? std::optional<double>(*p.*field) : std::nullopt;
        };
        Json mean = cell(harmonic, part(&PublishedAccuracy::harmonic_mean));
        if (mean.is_object()) {
            mean["mean"] = harmonic_mean(mean_of(base), mean_of(novel));
            if (p) mean["difference"] = mean["mean"].get<double>() - p->harmonic_mean;
        }
        return {{"name", row},
                {"cells",
                 {cell(base, part(&PublishedAccuracy::base)), cell(novel, part(&PublishedAccuracy::novel)),
                  std::move(mean)}}};
    }

    /// By seed the mean over the data sets, once a seed is there for all of them.
    Values average(const std::string& row, const char* figure, Index shots = 0) const {
        std::map<std::uint64_t, std::pair<double, std::size_t>> sums;
        for (const StageTest& target : plan_.targets())
            for (const auto& [seed, value] : values(row, target.key, figure, shots))
                sums[seed].first += value, ++sums[seed].second;
        Values means;
        for (const auto& [seed, sum] : sums)
            if (sum.second == plan_.targets().size()) means[seed] = sum.first / static_cast<double>(sum.second);
        return means;
    }

    std::optional<PublishedAccuracy> published_average(const std::string& row) const {
        const auto method = method_of(row);
        if (!method) return std::nullopt;
        PublishedAccuracy sum;
        for (const StageTest& target : plan_.targets()) {
            const auto one = published_accuracy(target.key, *method);
            if (!one) return std::nullopt;
            sum.base += one->base, sum.novel += one->novel;
        }
        const double n = static_cast<double>(plan_.targets().size());
        sum.base /= n, sum.novel /= n, sum.harmonic_mean = harmonic_mean(sum.base, sum.novel);
        return sum;
    }

    // --- cross-dataset, domain generalisation: a column for each target, and their average
    // ------------------------------
    void add_targets() {
        Json table = {{"title", concat("accuracy, prompts learned on ", data_key(o_.source))},
                      {"columns", Json::array()},
                      {"rows", Json::array()}};
        for (const StageTest& target : plan_.targets()) table["columns"].push_back(target.key);
        const bool many = plan_.targets().size() > 1;
        if (many) table["columns"].push_back("average");
        for (const std::string& row : rows()) {
            Json cells = Json::array();
            for (const StageTest& target : plan_.targets()) cells.push_back(cell(values(row, target.key, "accuracy")));
            if (many) cells.push_back(cell(average(row, "accuracy"), published_over_targets(row)));
            table["rows"].push_back({{"name", row}, {"cells", std::move(cells)}});
        }
        json_["tables"].push_back(std::move(table));
    }

    /// The published average, where the targets are those that it is over.
    std::optional<double> published_over_targets(const std::string& row) const {
        const auto method = method_of(row);
        std::size_t known = 0;
        for (const StageTest& target : plan_.targets()) {
            const bool variant = target.key == "imagenetv2" || target.key.rfind("imagenet_", 0) == 0;
            if (target.key == "imagenet" || !find_benchmark(target.key)) return std::nullopt;
            known += variant == (o_.protocol == Protocol::domain_generalization) ? 1 : 0;
        }
        const std::size_t wanted = o_.protocol == Protocol::cross_dataset ? 10 : 4;
        if (!method || known != wanted || plan_.targets().size() != wanted) return std::nullopt;
        return o_.protocol == Protocol::cross_dataset ? published_cross_dataset(*method)
                                                      : published_domain_generalization(*method);
    }

    // --- few-shot: a column for each number of images a class
    // ------------------------------------------------------------
    void add_shots() {
        std::vector<Index> shots;
        for (const Stage& s : plan_.stages())
            if (s.shots > 0 && std::find(shots.begin(), shots.end(), s.shots) == shots.end()) shots.push_back(s.shots);
        const auto add = [&](const std::string& title, const auto& find) {
            Json table = {{"title", title}, {"columns", Json::array()}, {"rows", Json::array()}, {"shots", shots}};
            for (const Index k : shots) table["columns"].push_back(concat(k, k == 1 ? " image" : " images"));
            for (const std::string& row : rows()) {
                Json cells = Json::array();
                for (const Index k : shots) cells.push_back(cell(find(row, k)));
                table["rows"].push_back({{"name", row}, {"cells", std::move(cells)}});
            }
            json_["tables"].push_back(std::move(table));
        };
        for (const StageTest& target : plan_.targets())
            add(target.key, [&](const std::string& row, Index k) { return values(row, target.key, "accuracy", k); });
        if (plan_.targets().size() > 1)
            add(concat("average of ", plan_.targets().size(), " data sets"),
                [&](const std::string& row, Index k) { return average(row, "accuracy", k); });
    }

    // --- recipes and runs
    // --------------------------------------------------------------------------------------------------
    void add_recipes() {
        json_["recipes"] = Json::array();
        std::vector<std::string> seen;
        for (const Stage& s : plan_.stages()) {
            if (s.kind == StageKind::zero_shot) continue;
            Json settings = Json::object();
            for (const auto& [key, value] : s.identity.items())
                if (key != "weights" && key != "vocab" && key != "seed" && key != "protocol" && key != "data" &&
                    key.rfind("teacher", 0) != 0 && value != "")
                    settings[key] = value;
            const std::string id = s.row + s.key + settings.dump();
            if (std::find(seen.begin(), seen.end(), id) != seen.end()) continue;
            seen.push_back(id);
            json_["recipes"].push_back({{"data", s.key}, {"stage", s.row}, {"settings", std::move(settings)}});
        }
    }

    void add_runs() {
        json_["runs"] = Json::array();
        for (std::size_t i = 0; i < results_.size(); ++i) {
            const Stage& s = plan_.stages()[i];
            if (s.kind == StageKind::zero_shot || !results_[i].contains("training")) continue;
            Json run = {{"folder", s.folder}, {"stage", s.row}, {"data", s.key}, {"seed", s.seed}, {"shots", s.shots}};
            for (const char* key : {"images", "unreadable", "steps", "epochs", "first_loss", "last_loss"})
                run[key] = results_[i]["training"].at(key);
            run["loss"] = loss_curve(o_.out + "/" + s.folder + "/log.jsonl", s.steps);
            json_["runs"].push_back(std::move(run));
        }
    }

    /// At most a hundred points [part of the run, mean loss] of a log.
    static Json loss_curve(const std::string& path, Index steps) {
        Json points = Json::array();
        if (!std::filesystem::exists(path)) return points;
        const std::string log = read_file(path);
        const Index group = std::max<Index>(1, (steps + 99) / 100);
        double sum = 0;
        Index n = 0, at = 0;
        for (std::size_t begin = 0, end; (end = log.find('\n', begin)) != std::string::npos; begin = end + 1) {
            const Json line = Json::parse(log.begin() + static_cast<std::ptrdiff_t>(begin),
                                          log.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
            if (!line.is_object() || !line.contains("loss") || !line["loss"].is_number()) continue;
            sum += line["loss"].get<double>(), ++n, ++at;
            if (n < group) continue;
            points.push_back({static_cast<double>(at) / static_cast<double>(std::max<Index>(1, steps)),
                              sum / static_cast<double>(n)});
            sum = 0, n = 0;
        }
        return points;
    }

    const ReproduceOptions& o_;
    const ReproducePlan& plan_;
    std::vector<Json> results_;
    Json json_;
};

}  // namespace promptkd::cli
