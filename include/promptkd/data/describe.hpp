// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/open.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A benchmark beside its published numbers.
struct BenchmarkDescription {
    BenchmarkInfo published;  ///< what it should hold
    BenchmarkReport found;    ///< what the root holds
};

/// What a data set holds.
struct DataDescription {
    std::string source;                             ///< as it was named
    std::optional<BenchmarkDescription> benchmark;  ///< one of benchmarks(); then nothing of what follows is set
    Index classes = 0, train = 0, test = 0;         ///< classes, images of the two parts
    bool labelled = false;                          ///< whether every image has a label
    std::vector<std::pair<std::string, Index>> test_per_class;  ///< class name and its test images

    /// Why it is not the published data set; empty where it is, or where none is published.
    const std::vector<std::string>& problems() const {
        static const std::vector<std::string> none;
        return benchmark ? benchmark->found.problems : none;
    }
};

/// Looks at the data set "NAME:ROOT". Of a benchmark everything that is missing is found; any other data set must open.
inline DataDescription describe_data(const std::string& source) {
    DataDescription info;
    info.source = source;
    const DataSpec spec = parse_data_spec(source);
    if (const BenchmarkInfo* published = find_benchmark(spec.name)) {
        info.benchmark = BenchmarkDescription{*published, check_benchmark(*published, spec.root)};
        return info;
    }
    const Dataset train = open_dataset(source, Split::train), test = open_dataset(source, Split::test);
    info.classes = test.classes();
    info.train = train.size();
    info.test = test.size();
    info.labelled = test.labelled();
    for (const std::string& name : test.class_names) info.test_per_class.emplace_back(name, 0);
    for (const Item& item : test.items)
        if (item.label >= 0) ++info.test_per_class[static_cast<std::size_t>(item.label)].second;
    return info;
}

}  // namespace promptkd
