// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models.hpp"

#include <promptkd/experiment/protocols.hpp>
#include <promptkd/format/sha256.hpp>

#include <map>
#include <optional>

namespace promptkd::cli {

/// What `reproduce` is asked for. An absent option has the published value of the protocol and data set.
struct ReproduceOptions {
    Protocol protocol = Protocol::base_to_novel;
    std::vector<std::string> data;  ///< "NAME:ROOT" each
    std::string source;             ///< "NAME:ROOT" that prompts are learned on, where the protocol has a source
    std::string weights;            ///< a learner alone …
    std::string teacher, student;   ///< … or PromptKD: prompts learned on the teacher, then the student
    std::string teacher_prompts;    ///< instead of learning them; {data}, {seed}, {shots} stand for the run's
    std::string vocab, activation, teacher_config, student_config, context_words = "a photo of a", out;
    std::string learner = "promptsrc";  ///< "none": a teacher without learned prompts
    std::vector<std::uint64_t> seeds{1, 2, 3};
    std::vector<Index> shots;
    Index images = 0, test_images = 0;
    std::optional<double> learner_lr, lr, kd_weight, temperature;
    std::optional<Index> learner_epochs, learner_batch, learner_depth, learner_prompts, epochs, batch, depth, prompts;
    std::string learner_augment = "rrc", augment = "rrc";
    int loader_threads = 2;
    Index evaluation_batch = 50;
    bool fresh = false, dry_run = false;

    bool distils() const { return !student.empty(); }
    bool learns() const { return learner != "none" && teacher_prompts.empty(); }
};

enum class StageKind { zero_shot, learner, student };

/// A data set that a stage is tested on.
struct StageTest {
    std::string key, spec;
};

/// One piece of work with a folder and a result of its own.
struct Stage {
    StageKind kind = StageKind::zero_shot;
    std::string row;     ///< in the report's tables
    std::string folder;  ///< below the output folder
    std::string key, data, weights;
    std::vector<StageTest> tests;
    std::uint64_t seed = 0;
    Index shots = 0;
    std::string prompts;        ///< the teacher's (zero-shot, student); empty: none
    std::string pattern;        ///< of the class texts
    Recipe recipe;              ///< of a learner
    DistillationRecipe distil;  ///< of a student
    Index images = 0, steps = 0, test_images = 0;
    nlohmann::json identity;  ///< everything that the result depends on
};

/// A short name of a data set, fit for a folder: the benchmark's, or the last part of a root.
inline std::string data_key(const std::string& spec_text) {
    const DataSpec spec = parse_data_spec(spec_text);
    if (const BenchmarkInfo* benchmark = find_benchmark(spec.name)) return benchmark->name;
    if (spec.name != "folder" && spec.name != "list") return spec.name;
    std::string root = spec.root;
    while (root.size() > 1 && root.back() == '/') root.pop_back();
    std::string key = root.substr(root.rfind('/') + 1);
    for (char& c : key)
        if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '.') c = '_';
    return spec.name + "-" + key;
}

/// The number of images of a data set's parts, read once each.
class DataCounts {
public:
    explicit DataCounts(const ReproduceOptions& o) : o_(o) {}

    const Dataset& open(const std::string& spec, Split split) {
        const auto key = std::make_pair(spec, split);
        const auto found = opened_.find(key);
        if (found != opened_.end()) return found->second;
        Dataset data = open_dataset(spec, split);
        const Index limit = split == Split::train ? o_.images : o_.test_images;
        if (limit > 0) data = take(std::move(data), limit);
        return opened_.emplace(key, std::move(data)).first->second;
    }

    /// Images of a draw of `shots` a class (fewer where a class has fewer); 0: all of the half.
    Index drawn(const std::string& spec, Index shots, ClassSubset half) {
        const Dataset data = select_subset(open(spec, Split::train), half);
        if (shots == 0) return data.size();
        std::map<Index, Index> of_class;
        for (Index i = 0; i < data.size(); ++i) ++of_class[data.label(i)];
        Index total = 0;
        for (const auto& entry : of_class) total += std::min(entry.second, shots);
        return total;
    }

private:
    const ReproduceOptions& o_;
    std::map<std::pair<std::string, Split>, Dataset> opened_;
};

/// The part of a data set whose images a student learns from without labels: the training part, or where a benchmark
/// has none (ImageNet's variants) its test images.
inline Split unlabelled_part(const std::string& spec) {
    const BenchmarkInfo* benchmark = find_benchmark(parse_data_spec(spec).name);
    const bool test_only =
        benchmark && (benchmark->layout == BenchmarkLayout::numbered || benchmark->layout == BenchmarkLayout::wordnet);
    return test_only ? Split::test : Split::train;
}

/// Splits the work of a protocol into stages, in the order in which they run.
class ReproducePlan {
public:
    /// Opens every data set and reads every weight file once. Throws Error for what is missing.
    explicit ReproducePlan(const ReproduceOptions& o) : o_(o), counts_(o) {
        std::map<std::string, Index> used;
        for (const std::string& spec : o.data) {
            std::string key = data_key(spec);
            const Index before = used[key]++;
            targets_.push_back({before > 0 ? concat(key, "-", before + 1) : key, spec});
        }
        for (const std::string* file : {&o.weights, &o.teacher, &o.student, &o.vocab})
            if (!file->empty()) sums_[*file] = fingerprint(*file);
        for (const StageTest& target : targets_) add_zero_shot(target);
        if (has_source(o.protocol))
            add_source_stages();
        else
            for (const StageTest& target : targets_) add_stages(target);
    }

    const std::vector<Stage>& stages() const { return stages_; }
    const std::vector<StageTest>& targets() const { return targets_; }
    const std::string& sum(const std::string& file) const { return sums_.at(file); }

    std::string learner_row() const {
        std::string name = o_.learner == "none" ? "CLIP" : find_learner(o_.learner).title;
        if (!o_.teacher_prompts.empty()) name = "given";
        return o_.distils() ? name + " teacher" : name;
    }

private:
    std::string model() const { return o_.distils() ? o_.teacher : o_.weights; }
    std::string context_pattern() const { return o_.context_words + " {}."; }

    std::string prompts_of(const std::string& key, std::uint64_t seed, Index shots) const {
        std::string path = o_.teacher_prompts;
        for (const auto& [from, to] :
             {std::make_pair(std::string("{data}"), key), std::make_pair(std::string("{seed}"), std::to_string(seed)),
              std::make_pair(std::string("{shots}"), std::to_string(shots))})
            for (std::size_t at; (at = path.find(from)) != std::string::npos;) path.replace(at, from.size(), to);
        return path;
    }

    Index tested(const std::vector<StageTest>& tests) {
        Index n = 0;
        for (const StageTest& test : tests) n += counts_.open(test.spec, Split::test).size();
        return n;
    }

    nlohmann::json common_identity(const Stage& s) const {
        nlohmann::json id = {{"weights", sums_.at(s.weights)},
                             {"vocab", sums_.at(o_.vocab)},
                             {"data", s.data},
                             {"images", o_.images},
                             {"test-images", o_.test_images},
                             {"activation", o_.activation},
                             {"template", s.pattern},
                             {"seed", s.seed},
                             {"protocol", name_of(o_.protocol)}};
        if (!s.prompts.empty() && std::filesystem::exists(s.prompts) && !o_.learns())
            id["prompts"] = fingerprint(s.prompts);
        return id;
    }

    void add(Stage s) {
        s.test_images = tested(s.tests);
        stages_.push_back(std::move(s));
    }

    void add_zero_shot(const StageTest& target) {
        const std::pair<std::string, std::string> models[] = {
            {o_.distils() ? "CLIP student" : "CLIP", o_.distils() ? o_.student : o_.weights},
            {"CLIP teacher", o_.teacher}};
        for (const auto& [row, weights] : models) {
            if (weights.empty() || (row == "CLIP teacher" && !o_.distils())) continue;
            Stage s;
            s.row = row, s.key = target.key, s.data = target.spec, s.weights = weights, s.tests = {target};
            s.folder = target.key + (row == "CLIP teacher" ? "/zero-shot-teacher" : "/zero-shot");
            s.pattern = default_template(target.spec);
            s.identity = common_identity(s);
            add(std::move(s));
        }
    }

    std::vector<Index> shot_list() const {
        return o_.shots.empty()
                   ? o_.protocol == Protocol::few_shot ? std::vector<Index>{1, 2, 4, 8, 16} : std::vector<Index>{16}
                   : o_.shots;
    }

    /// Base-to-novel and few-shot: everything on the data set itself.
    void add_stages(const StageTest& target) {
        for (const Index shots : shot_list())
            for (const std::uint64_t seed : o_.seeds) {
                const std::string folder = target.key +
                                           (o_.protocol == Protocol::few_shot ? concat("/shots", shots) : "") +
                                           concat("/seed", seed);
                const TeacherPrompts teacher = add_teacher(target, {target}, folder, seed, shots);
                if (o_.distils()) add_student(target, folder, seed, shots, teacher);
            }
    }

    /// Cross-dataset and domain generalisation: prompts learned on the source, tested on every target.
    void add_source_stages() {
        require(!o_.source.empty(), name_of(o_.protocol),
                ": give the data set that prompts are learned on with --source NAME:ROOT");
        const StageTest source{data_key(o_.source), o_.source};
        for (const Index shots : shot_list())
            for (const std::uint64_t seed : o_.seeds) {
                const TeacherPrompts teacher =
                    add_teacher(source, targets_, concat("source-", source.key, "/seed", seed), seed, shots);
                if (!o_.distils()) continue;
                for (const StageTest& target : targets_)
                    add_student(target, concat(target.key, "/seed", seed), seed, shots, teacher);
            }
    }

    Recipe learner_recipe(const std::string& key, Index shots) const {
        Recipe r = protocol_recipe(o_.protocol, o_.learner, shots, key, o_.distils());
        if (o_.learner_lr) r.lr = *o_.learner_lr;
        if (o_.learner_epochs) r.epochs = *o_.learner_epochs;
        if (o_.learner_batch) r.batch = *o_.learner_batch;
        if (o_.learner_depth) r.depth = *o_.learner_depth;
        if (o_.learner_prompts && r.text > 0) r.text = *o_.learner_prompts;
        if (o_.learner_prompts && r.visual > 0) r.visual = *o_.learner_prompts;
        return r;
    }

    /// What a student needs to know of its teacher's prompts.
    struct TeacherPrompts {
        nlohmann::json identity = "none";
        std::string file;  ///< empty: none
    };

    /// The teacher's (or the lone learner's) stage.
    TeacherPrompts add_teacher(const StageTest& on, const std::vector<StageTest>& tests, const std::string& folder,
                               std::uint64_t seed, Index shots) {
        if (o_.learner == "none" && o_.teacher_prompts.empty()) return {};
        Stage s;
        s.row = learner_row(), s.key = on.key, s.data = on.spec, s.weights = model(), s.tests = tests;
        s.folder = folder + (o_.distils() ? "/teacher" : "/learner"), s.seed = seed, s.shots = shots;
        s.pattern = context_pattern();
        if (!o_.learns()) {
            s.prompts = prompts_of(on.key, seed, shots);
            s.identity = common_identity(s);
        } else {
            s.kind = StageKind::learner, s.recipe = learner_recipe(on.key, shots);
            const ClassSubset half = o_.protocol == Protocol::base_to_novel ? ClassSubset::base : ClassSubset::all;
            s.images = counts_.drawn(on.spec, shots, half);
            s.steps = s.recipe.epochs * (s.images / s.recipe.batch);
            const Recipe& r = s.recipe;
            s.identity = common_identity(s);
            s.identity.update({{"learner", o_.learner},
                               {"shots", shots},
                               {"classes", name_of(half)},
                               {"lr", r.lr},
                               {"epochs", r.epochs},
                               {"batch", r.batch},
                               {"text-prompts", r.text},
                               {"visual-prompts", r.visual},
                               {"depth", r.depth},
                               {"gaussian-mean", r.option("gaussian-mean")},
                               {"gaussian-deviation", r.option("gaussian-deviation")},
                               {"augment", o_.learner_augment}});
            require(s.images >= r.batch, on.key, ": ", s.images, " training images are fewer than one batch of ",
                    r.batch, "; lower --learner-batch");
        }
        const TeacherPrompts prompts{s.identity,
                                     o_.learns() ? o_.out + "/" + s.folder + "/prompts.safetensors" : s.prompts};
        add(std::move(s));
        return prompts;
    }

    void add_student(const StageTest& target, const std::string& folder, std::uint64_t seed, Index shots,
                     const TeacherPrompts& teacher) {
        Stage s;
        s.kind = StageKind::student, s.row = "PromptKD", s.key = target.key, s.data = target.spec;
        s.weights = o_.student, s.tests = {target}, s.folder = folder + "/student", s.seed = seed, s.shots = shots;
        s.prompts = teacher.file;
        s.pattern = s.prompts.empty() ? default_template(target.spec) : context_pattern();
        DistillationRecipe& r = s.distil = distillation_recipe(o_.protocol, target.key);
        if (o_.lr) r.lr = *o_.lr;
        if (o_.epochs) r.epochs = *o_.epochs;
        if (o_.batch) r.batch = *o_.batch;
        if (o_.depth) r.depth = *o_.depth;
        if (o_.prompts) r.prompts = *o_.prompts;
        if (o_.kd_weight) r.kd_weight = *o_.kd_weight;
        if (o_.temperature) r.temperature = *o_.temperature;
        const Split part = unlabelled_part(target.spec);
        s.images = counts_.open(target.spec, part).size();
        if (o_.images > 0) s.images = std::min(s.images, o_.images);
        s.steps = r.epochs * (s.images / r.batch);
        s.identity = common_identity(s);
        s.identity.update({{"teacher", sums_.at(o_.teacher)},
                           {"teacher-prompts", teacher.identity},
                           {"part", name_of(part)},
                           {"lr", r.lr},
                           {"epochs", r.epochs},
                           {"batch", r.batch},
                           {"visual-prompts", r.prompts},
                           {"depth", r.depth},
                           {"kd-weight", r.kd_weight},
                           {"temperature", r.temperature},
                           {"augment", o_.augment}});
        require(s.images >= r.batch, target.key, ": ", s.images, " images are fewer than one batch of ", r.batch,
                "; lower --batch");
        add(std::move(s));
    }

    const ReproduceOptions& o_;
    DataCounts counts_;
    std::map<std::string, std::string> sums_;
    std::vector<StageTest> targets_;
    std::vector<Stage> stages_;
};

}  // namespace promptkd::cli
