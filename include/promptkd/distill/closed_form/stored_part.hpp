// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/device/parallel/communicator.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Features of some images, in ascending order; an image's views behind one another.
template <class T>
struct FeatureRows {
    std::vector<Index> images;  ///< (n), positions in the data set
    std::vector<T> student;     ///< (views·n, e_s)
    std::vector<T> teacher;     ///< (views·n, e_t)
    std::vector<double> norms;  ///< (views·n), ‖W⁺q‖ of features of logits; else empty

    /// Those of further images.
    void append(const FeatureRows& more) {
        images.insert(images.end(), more.images.begin(), more.images.end());
        student.insert(student.end(), more.student.begin(), more.student.end());
        teacher.insert(teacher.end(), more.teacher.begin(), more.teacher.end());
        norms.insert(norms.end(), more.norms.begin(), more.norms.end());
    }
};

namespace detail {

/// What tells one identity from another, for a message: the first entry that differs, what says most before the rest.
inline std::string identity_difference(const nlohmann::json& stored, const nlohmann::json& now) {
    const auto text = [](const nlohmann::json& all, const std::string& key) {
        return all.contains(key) ? json_text(all.at(key)) : std::string("none");
    };
    std::vector<std::string> keys = {"number of images", "names of the images", "sizes of the images"};
    for (const auto& named : now.items()) keys.push_back(named.key());
    for (const auto& named : stored.items()) keys.push_back(named.key());
    for (const std::string& key : keys)
        if (text(stored, key) != text(now, key))
            return concat("the ", key, ": ", text(stored, key), " there, ", text(now, key), " in this run");
    return "nothing";
}

/// Values as a tensor of type `type`. Throws Error for a value that f16 cannot hold.
template <class T>
HostTensor tensor_as(const std::vector<T>& values, Shape shape, DType type) {
    if (type != DType::f16) return make_tensor(values, std::move(shape));
    std::vector<half> halves;
    halves.reserve(values.size());
    for (const T value : values) {
        require(std::abs(static_cast<double>(value)) < 65504, "a feature of ", value,
                " is too large for a cache in 16 bits; fit without a cache");
        halves.emplace_back(static_cast<float>(value));
    }
    return make_tensor(std::move(halves), std::move(shape));
}

}  // namespace detail

/// One part of a FeatureStore: the rows of the images in a range that could be read, as a safetensors file `images`
/// (n) i64, `student` (views·n, e_s), `teacher` (views·n, e_t), `norms` (views·n) f64 of features of logits.
class StoredPart {
public:
    /// What every part of a store has in common.
    struct Layout {
        Index images;         ///< of the data set
        Index views;          ///< rows of an image
        Index student_width;  ///< e_s
        Index teacher_width;  ///< e_t
        DType type;           ///< of the stored values
    };

    Index first = 0;  ///< its first image
    Index end = 0;    ///< the image behind its last one

    /// In what the features of `map` are not those of `identity`; empty: in nothing.
    static std::string difference(const TensorMap& map, const nlohmann::json& identity) {
        const auto it = map.metadata.find("identity");
        const auto text = it == map.metadata.end() ? std::string() : it->second;
        const auto stored = nlohmann::json::parse(text, nullptr, false);
        if (!stored.is_object()) return "they are no features of a fit in closed form";
        const nlohmann::json now = as_read(identity);
        return stored == now ? std::string() : detail::identity_difference(stored, now);
    }

    /// Throws Error unless `map` is a part with this layout.
    StoredPart(TensorMap map, const Layout& layout) : map_(std::move(map)) {
        const std::vector<std::int64_t> range = map_.at("range", {2}).to<std::int64_t>();
        first = range[0];
        end = range[1];
        require(first >= 0 && first < end && end <= layout.images, map_.source, ": images ", first, " to ", end - 1,
                " of ", layout.images);
        const HostTensor& images = map_.at("images");
        require(images.shape.size() == 1, map_.source, ": 'images' has shape ", to_string(images.shape));
        images_ = images.shape[0];
        rows_ = images_ * layout.views;
        for (const auto& [name, width] : {std::pair<const char*, Index>{"student", layout.student_width},
                                          std::pair<const char*, Index>{"teacher", layout.teacher_width}})
            require(map_.at(name, {rows_, width}).dtype == layout.type, map_.source, ": '", name, "' is stored in ",
                    name_of(map_.at(name).dtype), ", expected ", name_of(layout.type));
        check_images();
    }

    /// Where it came from.
    const std::string& source() const { return map_.source; }
    /// Number of rows.
    Index rows() const { return rows_; }
    /// Positions of its images in the data set.
    std::vector<std::int64_t> images() const { return map_.at("images").to<std::int64_t>(); }
    /// See FeatureRows.
    std::vector<double> norms() const {
        return map_.contains("norms") ? map_.at("norms", {rows_}).to<double>() : std::vector<double>();
    }

    /// Rows [from, from + n) of one of its tensors; nothing where `out` is null. Throws Error for a value that is not
    /// finite.
    template <class T>
    void copy(const char* name, Index from, Index n, T* out) const {
        if (!out) return;
        const HostTensor& tensor = map_.at(name);
        const Index width = tensor.shape[1];
        tensor.copy_to(out, from * width, n * width);
        require(std::all_of(out, out + n * width, [](T value) { return std::isfinite(static_cast<double>(value)); }),
                map_.source, ": '", name, "' holds NaN or infinity; remove this file to make it again");
        const std::size_t unit = size_of(tensor.dtype) * static_cast<std::size_t>(width);
        if (tensor.mapped && n > 1)
            detail::drop_pages(tensor.bytes + static_cast<std::size_t>(from) * unit,
                               static_cast<std::size_t>(n) * unit);
    }

private:
    /// Ascending, and in the range.
    void check_images() const {
        Index last = first - 1;
        for (const std::int64_t image : images()) {
            require(image > last && image < end, map_.source, ": image ", image, " is out of order");
            last = image;
        }
    }

    TensorMap map_;
    Index images_ = 0, rows_ = 0;
};

/// The tensors of a part with the rows of the images in `range` that could be read.
template <class T>
TensorMap stored_part(const FeatureRows<T>& rows, const Slice& range, const StoredPart::Layout& layout) {
    const auto n = static_cast<Index>(rows.images.size());
    TensorMap map;
    map.tensors["range"] = make_tensor(std::vector<std::int64_t>{range.first, range.first + range.count}, {2});
    map.tensors["images"] = make_tensor(std::vector<std::int64_t>(rows.images.begin(), rows.images.end()), {n});
    map.tensors["student"] = detail::tensor_as(rows.student, {n * layout.views, layout.student_width}, layout.type);
    map.tensors["teacher"] = detail::tensor_as(rows.teacher, {n * layout.views, layout.teacher_width}, layout.type);
    if (!rows.norms.empty()) map.tensors["norms"] = make_tensor(rows.norms, {n * layout.views});
    return map;
}

}  // namespace promptkd
