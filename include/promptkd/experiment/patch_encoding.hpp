// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/data.hpp>
#include <promptkd/experiment/dense_queries.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/image/preprocess.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

namespace promptkd {

/// Features of the patches of a data set's images, after the model's own preprocessing.
struct PatchEncodingSpec {
    std::string bundle;      ///< a student's file; empty: `model`
    ModelFile model;         ///< a CLIP model
    std::string data;        ///< "NAME:ROOT", see open_dataset()
    DenseOptions dense;      ///< how patches are read
    bool normalize = false;  ///< features to unit length
    Index batch = 32;        ///< images at a time
};

namespace detail {

template <Device D>
DenseModel<D> open_patch_model(D& device, const PatchEncodingSpec& spec, Observer& observer) {
    if (spec.bundle.empty())
        return DenseModel<D>(device, load_model(spec.model, observer), nullptr, spec.dense, spec.batch);
    return DenseModel<D>(device, load_dense_student(spec.bundle, spec.model.images, observer), spec.dense, spec.batch);
}

}  // namespace detail

/// patch_features (n, rows, columns, e), and the metadata `images`, their names. Throws Error for a model without a
/// vision transformer, and for NaN or infinity in what comes out.
template <Device D>
TensorMap run(D& device, const PatchEncodingSpec& spec, Observer& observer = silent_observer()) {
    using T = typename D::Scalar;
    DenseModel<D> model = detail::open_patch_model(device, spec, observer);
    const Dataset data = open_dataset(spec.data, Split::test, {}, FolderLabels::none, teller(observer));
    const Preprocessing& p = model.model().preprocessing();
    const PixelSize size{p.height, p.width};
    const GridSize grid = model.grid(size);
    const Index values = 3 * size.height * size.width, each = grid.rows * grid.columns * model.embed();
    const Index batch = std::min(spec.batch, data.size());
    Buffer<D, T> pixels(device, batch * values);
    std::vector<T> all(static_cast<std::size_t>(data.size() * each));
    nlohmann::json names = nlohmann::json::array();
    for (Index first = 0; first < data.size(); first += batch) {
        const Index n = std::min(batch, data.size() - first);
        std::vector<float> host(static_cast<std::size_t>(n * values));
        for (Index i = 0; i < n; ++i) {
            normalize_image(preprocess_image(data.load(first + i), p), host.data() + i * values, p);
            names.push_back(data.item_name(first + i));
        }
        const std::vector<T> converted(host.begin(), host.end());
        device.upload(pixels.data(), converted.data(), converted.size() * sizeof(T));
        const Matrix<const T> found =
            spec.normalize ? model.encode(pixels.data(), size, n) : model.encode_raw(pixels.data(), size, n);
        device.download(all.data() + first * each, found.data, static_cast<std::size_t>(n * each) * sizeof(T));
        observer.on_progress({"encode", "images", first + n, data.size(), 0, ""});
    }
    for (const T value : all)
        require(std::isfinite(static_cast<double>(value)), model.model().source(),
                ": the model makes NaN or infinity of the images");
    TensorMap out;
    out.tensors["patch_features"] = make_tensor(std::move(all), {data.size(), grid.rows, grid.columns, model.embed()});
    out.metadata["images"] = json_text(names);
    return out;
}

}  // namespace promptkd
