// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/fit.hpp>
#include <promptkd/distill/closed_form/fit_sums.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/safetensors.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Writes the sums as plain tensors that any program can add: those called first.… are the same in all parts, those
/// called rows.… are put behind one another, all others are added; the metadata are those of any part.
///   - images (1) i64, student.sum (e_s), student.square (e_s, e_s), norms (1)
///   - ridge.gram (h, h), ridge.cross (h, e_t), ridge.hidden_sum (h), ridge.teacher_sum (e_t)
///   - first.mean, first.variance (h)
///   - rows.ranges (k, 2) i64, rows.student (n, e_s), rows.teacher (n, e_t) f32
///
/// Throws Error when the file cannot be written.
inline void write_sums(const std::string& path, const FitSums& sums) {
    const FeatureMoments& m = sums.moments;
    TensorMap map;
    map.metadata["format"] = "promptkd.sums";
    map.metadata["run"] = json_text(sums.run);
    map.metadata["images"] = json_text(sums.images);
    map.tensors["images"] = make_tensor(std::vector<std::int64_t>{m.images}, {1});
    map.tensors["norms"] = make_tensor(std::vector<double>{sums.norms}, {1});
    map.tensors["student.sum"] = make_tensor(m.sum, {m.width});
    map.tensors["student.square"] = make_tensor(m.square, {m.width, m.width});
    std::vector<std::int64_t> ranges;
    for (const Slice& range : sums.ranges) ranges.insert(ranges.end(), {range.first, range.first + range.count});
    map.tensors["rows.ranges"] = make_tensor(ranges, {static_cast<Index>(sums.ranges.size()), 2});
    if (sums.ridge) {
        const RidgeMoments& r = *sums.ridge;
        map.tensors["ridge.gram"] = make_tensor(r.gram, {r.width, r.width});
        map.tensors["ridge.cross"] = make_tensor(r.cross, {r.width, r.outputs});
        map.tensors["ridge.hidden_sum"] = make_tensor(r.hidden_sum, {r.width});
        map.tensors["ridge.teacher_sum"] = make_tensor(r.teacher_sum, {r.outputs});
        map.tensors["first.mean"] = make_tensor(sums.statistics.mean, {r.width});
        map.tensors["first.variance"] = make_tensor(sums.statistics.variance, {r.width});
        map.tensors["rows.student"] = make_tensor(sums.chosen_student, {sums.chosen(), m.width});
        map.tensors["rows.teacher"] = make_tensor(sums.chosen_teacher, {sums.chosen(), r.outputs});
    }
    write_safetensors(path, map);
}

namespace detail {

/// Tensors of a file of sums. Each function throws Error naming file and tensor where it is missing, has another shape,
/// or holds NaN.
class SumsReader {
public:
    explicit SumsReader(const std::string& path) : map_(read_safetensors(path)) {
        const auto it = map_.metadata.find("format");
        require(it != map_.metadata.end() && it->second == "promptkd.sums", path,
                ": not the sums of a fit in closed form (metadata 'format' is not 'promptkd.sums')");
    }

    nlohmann::json json(const char* key) const {
        const auto it = map_.metadata.find(key);
        const auto value =
            it == map_.metadata.end() ? nlohmann::json() : nlohmann::json::parse(it->second, nullptr, false);
        require(value.is_object() || value.is_array(), map_.source, ": damaged metadata '", key, "'");
        return value;
    }
    bool contains(const char* name) const { return map_.contains(name); }
    /// Extent `axis` of a tensor of `rank` axes.
    Index extent(const char* name, std::size_t rank, std::size_t axis) const {
        const Shape& shape = map_.at(name).shape;
        require(shape.size() == rank, map_.source, ": '", name, "' has shape ", to_string(shape), ", expected ", rank,
                rank == 1 ? " axis" : " axes");
        return shape[axis];
    }
    template <class V = double>
    std::vector<V> values(const char* name, const Shape& shape) const {
        const HostTensor& tensor = map_.at(name, shape);
        require(is_floating(tensor.dtype), map_.source, ": '", name, "' is ", name_of(tensor.dtype),
                ", expected numbers with a point");
        std::vector<V> found = tensor.to<V>();
        for (const V value : found) require(std::isfinite(value), map_.source, ": '", name, "' holds NaN or infinity");
        return found;
    }
    std::vector<std::int64_t> whole(const char* name, const Shape& shape) const {
        return map_.at(name, shape).to<std::int64_t>();
    }

private:
    TensorMap map_;
};

}  // namespace detail

/// The sums of write_sums(), or of another program that has added some. Throws Error naming file and tensor for a file
/// of another kind, shapes that do not fit, and NaN.
inline FitSums read_sums(const std::string& path) {
    const detail::SumsReader in(path);
    FitSums sums;
    sums.source = path;
    sums.run = in.json("run");
    sums.images = in.json("images");
    require(sums.images.is_array() && !sums.images.empty(), path, ": damaged metadata 'images'");
    FeatureMoments& m = sums.moments;
    m.width = in.extent("student.sum", 1, 0);
    m.images = in.whole("images", {1}).front();
    m.sum = in.values("student.sum", {m.width});
    m.square = in.values("student.square", {m.width, m.width});
    sums.norms = in.values("norms", {1}).front();
    const Index count = in.extent("rows.ranges", 2, 0);
    const std::vector<std::int64_t> ranges = in.whole("rows.ranges", {count, 2});
    for (std::size_t i = 0; i < ranges.size(); i += 2) sums.ranges.push_back({ranges[i], ranges[i + 1] - ranges[i]});
    sums.check_ranges();
    if (!in.contains("ridge.gram")) return sums;
    RidgeMoments r;
    r.width = in.extent("ridge.cross", 2, 0);
    r.outputs = in.extent("ridge.cross", 2, 1);
    r.images = m.images;
    r.gram = in.values("ridge.gram", {r.width, r.width});
    r.cross = in.values("ridge.cross", {r.width, r.outputs});
    r.hidden_sum = in.values("ridge.hidden_sum", {r.width});
    r.teacher_sum = in.values("ridge.teacher_sum", {r.outputs});
    sums.statistics = {in.values("first.mean", {r.width}), in.values("first.variance", {r.width})};
    const Index chosen = in.extent("rows.student", 2, 0);
    sums.chosen_student = in.values<float>("rows.student", {chosen, m.width});
    sums.chosen_teacher = in.values<float>("rows.teacher", {chosen, r.outputs});
    sums.ridge = std::move(r);
    return sums;
}

}  // namespace promptkd
