// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/parallel/communicator.hpp>
#include <promptkd/evaluate/evaluate.hpp>

namespace promptkd {

namespace detail {

/// `values` of rank `root` on every rank.
template <Device D, class V>
void share_vector(D& device, const Ranks<D>& ranks, std::vector<V>& values, int root) {
    std::vector<std::int64_t> count{static_cast<std::int64_t>(values.size())};
    Buffer<D, std::int64_t> n(device, count);
    ranks.broadcast(device, n.data(), sizeof(std::int64_t), root);
    values.resize(static_cast<std::size_t>(n.to_host().front()));
    if (values.empty()) return;
    Buffer<D, V> shared(device, values);
    ranks.broadcast(device, shared.data(), values.size() * sizeof(V), root);
    values = shared.to_host();
}

}  // namespace detail

/// The parts of all ranks, one behind the other, on every rank.
template <Device D>
FeatureSet<typename D::Scalar> gather_features(D& device, const Ranks<D>& ranks,
                                               const FeatureSet<typename D::Scalar>& mine) {
    if (ranks.alone()) return mine;
    FeatureSet<typename D::Scalar> all;
    all.embed = mine.embed;
    for (int root = 0; root < ranks.size(); ++root) {
        FeatureSet<typename D::Scalar> part;
        if (root == ranks.rank()) part = mine;
        std::vector<Index> unreadable{part.unreadable};
        detail::share_vector(device, ranks, part.values, root);
        detail::share_vector(device, ranks, part.labels, root);
        detail::share_vector(device, ranks, part.indices, root);
        detail::share_vector(device, ranks, unreadable, root);
        all.values.insert(all.values.end(), part.values.begin(), part.values.end());
        all.labels.insert(all.labels.end(), part.labels.begin(), part.labels.end());
        all.indices.insert(all.indices.end(), part.indices.begin(), part.indices.end());
        all.unreadable += unreadable.front();
    }
    return all;
}

/// collect_features() with the images divided among the ranks; every rank gets the features of all images, in the order
/// that one process would have found. Progress counts this rank's images.
template <Device D, FeatureEncoder<D> Encoder>
FeatureSet<typename D::Scalar> collect_features(D& device, const Ranks<D>& ranks, Encoder& encoder, const Dataset& data,
                                                const EvaluationOptions& options = {}) {
    require(data.size() > 0, data.name, ": there is no image to evaluate");
    const Slice slice = slice_of(data.size(), ranks.rank(), ranks.size());
    FeatureSet<typename D::Scalar> mine;
    mine.embed = encoder.embed();
    if (slice.count > 0) {
        Dataset part = data;
        part.items.assign(data.items.begin() + slice.first, data.items.begin() + slice.first + slice.count);
        mine = collect_features(device, encoder, part, options);
    }
    for (Index& i : mine.indices) i += slice.first;
    return gather_features(device, ranks, mine);
}

}  // namespace promptkd
