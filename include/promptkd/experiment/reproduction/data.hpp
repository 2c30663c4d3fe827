// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_subset.hpp>
#include <promptkd/experiment/data.hpp>
#include <promptkd/experiment/inputs.hpp>
#include <promptkd/experiment/reproduction/spec.hpp>

#include <cctype>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

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

/// Whether a benchmark consists of test images alone (ImageNet's variants).
inline bool is_test_only(const BenchmarkInfo& benchmark) {
    return benchmark.layout == BenchmarkLayout::numbered || benchmark.layout == BenchmarkLayout::wordnet;
}

/// The part of a data set whose images a student learns from without labels: the training part, or where a benchmark
/// has none its test images.
inline Split unlabelled_part(const std::string& spec) {
    const BenchmarkInfo* benchmark = find_benchmark(parse_data_spec(spec).name);
    return benchmark && is_test_only(*benchmark) ? Split::test : Split::train;
}

/// `spec` with "all:ROOT" replaced by the eleven data sets of the tables (cross-dataset: the ten without ImageNet;
/// domain generalisation: ImageNet's four variants), and ImageNet as the source where the protocol has one.
inline ReproductionSpec expand_benchmarks(ReproductionSpec spec) {
    std::vector<std::string> list;
    for (const std::string& given : spec.data) {
        if (given.rfind("all:", 0) != 0) {
            list.push_back(given);
            continue;
        }
        const std::string root = parse_data_spec(given).root;
        for (const BenchmarkInfo& benchmark : benchmarks()) {
            if (is_test_only(benchmark) != (spec.protocol == Protocol::domain_generalization)) continue;
            if (benchmark.name == "imagenet" && spec.protocol == Protocol::cross_dataset) continue;
            list.push_back(benchmark.name + ":" + root);
        }
        if (has_source(spec.protocol) && spec.source.empty()) spec.source = "imagenet:" + root;
    }
    spec.data = std::move(list);
    return spec;
}

namespace detail {

/// The data sets of a reproduction, opened once each to count their images.
class CountedData {
public:
    explicit CountedData(const ReproductionSpec& spec) : spec_(spec) {}

    const Dataset& open(const std::string& source, Split split) {
        const auto key = std::make_pair(source, split);
        const auto found = opened_.find(key);
        if (found != opened_.end()) return found->second;
        Dataset data = open_dataset(source, split);
        const Index limit = split == Split::train ? spec_.images : spec_.test_images;
        data = limited(source, std::move(data), limit, 1);
        return opened_.emplace(key, std::move(data)).first->second;
    }

    /// What tells the images of a part from others, see images_identity().
    const nlohmann::json& identity(const std::string& source, Split split) {
        nlohmann::json& known = identities_[{source, split}];
        if (known.is_null())
            known = images_identity(open(source, split), parse_data_spec(source).root, spec_.verify_data);
        return known;
    }

    /// Images of a draw of `shots` a class (fewer where a class has fewer); 0: all of the classes.
    Index drawn(const std::string& source, Index shots, ClassSubset classes) {
        const Dataset data = select_subset(open(source, Split::train), classes);
        if (shots == 0) return data.size();
        std::map<Index, Index> of_class;
        for (Index i = 0; i < data.size(); ++i) ++of_class[data.label(i)];
        Index total = 0;
        for (const auto& entry : of_class) total += std::min(entry.second, shots);
        return total;
    }

private:
    const ReproductionSpec& spec_;
    std::map<std::pair<std::string, Split>, Dataset> opened_;
    std::map<std::pair<std::string, Split>, nlohmann::json> identities_;
};

}  // namespace detail
}  // namespace promptkd
