// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/evaluate/dense/boxes.hpp>
#include <promptkd/evaluate/dense/components.hpp>
#include <promptkd/evaluate/dense/crops.hpp>
#include <promptkd/evaluate/dense/region_features.hpp>
#include <promptkd/experiment/segmentation.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// What of a region is classified.
enum class RegionSource {
    square,    ///< a crop of its longer side, centred, black beyond the picture, resized to the model's images
    centered,  ///< the box in its own size in the middle of the model's image
    roi        ///< RoIAlign on the features of the patches
};

/// "square", "centered" or "roi".
inline RegionSource parse_region_source(const std::string& name) {
    if (name == "square") return RegionSource::square;
    if (name == "centered") return RegionSource::centered;
    require(name == "roi", "'", name, "' is no way of reading regions; there are square, centered and roi");
    return RegionSource::roi;
}

/// Where boxes come from that are not given.
struct ProposalOptions {
    bool segmentation = false;  ///< components of the label map's classes, else of the pixels above `foreground`
    int foreground = 16;        ///< a grey value above it is foreground
    Index least = 20;           ///< pixels of a component at least
};

/// How boxes of pictures get classes.
struct DetectionSpec {
    SegmentationSpec segmentation;                ///< the model and the classes; how patches and pixels are read
    RegionSource regions = RegionSource::square;  ///< what is classified
    ProposalOptions proposals;                    ///< where boxes come from that are not given
    double suppression = 1;                       ///< boxes of a class that overlap more are suppressed; 1: none
    double least_score = 0;                       ///< detections below it are left out
};

namespace detail {

/// The box in the middle of a black image of `side` pixels, its centre where it is larger.
inline Image centered_box(const Image& picture, const Box& box, Index side) {
    const auto x0 = static_cast<Index>(std::floor(box.x0)), y0 = static_cast<Index>(std::floor(box.y0));
    const auto width = static_cast<Index>(std::ceil(box.x1)) - x0, height = static_cast<Index>(std::ceil(box.y1)) - y0;
    Image out(side, side);
    const Index top = (side - height) / 2, left = (side - width) / 2;
    for (Index y = 0; y < height; ++y)
        for (Index x = 0; x < width; ++x) {
            const Index to_y = top + y, to_x = left + x;
            if (to_y < 0 || to_y >= side || to_x < 0 || to_x >= side) continue;
            std::copy_n(picture.row(y0 + y) + 3 * (x0 + x), 3, out.row(to_y) + 3 * to_x);
        }
    return out;
}

}  // namespace detail

/// Probabilities of the classes for regions of pictures.
template <Device D>
class RegionClassifier {
public:
    using T = typename D::Scalar;

    /// Of a segmenter's model and classes; it must outlive this.
    RegionClassifier(D& device, ImageSegmenter<D>& segmenter, const DetectionSpec& spec)
        : device_(&device), segmenter_(&segmenter), spec_(spec) {}

    /// Probabilities (boxes, classes): of synonyms the largest.
    std::vector<std::vector<double>> probabilities(const Image& picture, const std::vector<Box>& boxes) {
        if (boxes.empty()) return {};
        if (spec_.regions == RegionSource::roi) return of_roi(picture, boxes);
        std::vector<std::vector<double>> out;
        make_room(static_cast<Index>(boxes.size()));
        const auto batch = static_cast<std::size_t>(room_);
        for (std::size_t first = 0; first < boxes.size(); first += batch)
            for (auto& row : of_crops(
                     picture, {boxes.begin() + static_cast<std::ptrdiff_t>(first),
                               boxes.begin() + static_cast<std::ptrdiff_t>(std::min(boxes.size(), first + batch))}))
                out.push_back(std::move(row));
        return out;
    }

private:
    Index resolution() const { return segmenter_->queries().model->model().vision().resolution(); }

    /// An encoder of whole images for `boxes` of them at a time, or the batch that is asked for where that is less.
    void make_room(Index boxes) {
        const DenseQueries<D>& queries = segmenter_->queries();
        const Index most = spec_.segmentation.queries.batch, needed = std::min(most, boxes);
        if (needed <= room_) return;
        room_ = std::max<Index>(1, room_);
        while (room_ < needed) room_ *= 2;
        room_ = std::min(room_, most);
        student_.reset();
        tower_.reset();
        if (queries.student)
            student_ = std::make_unique<Classifier<D>>(*device_, *queries.student, room_);
        else
            tower_ = std::make_unique<FrozenImageTower<D>>(*device_, queries.model->model(), queries.prompts(), room_);
        pixels_ = Buffer<D, T>();
        pixels_ = Buffer<D, T>(*device_, room_ * 3 * resolution() * resolution());
    }

    std::vector<std::vector<double>> of_crops(const Image& picture, const std::vector<Box>& boxes) {
        const Preprocessing& p = segmenter_->queries().model->model().preprocessing();
        const Index size = 3 * resolution() * resolution(), n = static_cast<Index>(boxes.size());
        std::vector<float> values(static_cast<std::size_t>(n * size));
        for (Index i = 0; i < n; ++i) {
            const Box& box = boxes[static_cast<std::size_t>(i)];
            const Image crop = spec_.regions == RegionSource::square ? preprocess_image(square_around(picture, box), p)
                                                                     : detail::centered_box(picture, box, resolution());
            normalize_image(crop, values.data() + i * size, p);
        }
        const std::vector<T> converted(values.begin(), values.end());
        device_->upload(pixels_.data(), converted.data(), converted.size() * sizeof(T));
        const DenseQueries<D>& queries = segmenter_->queries();
        std::vector<std::vector<double>> out;
        if (student_) {
            const std::vector<T> all = student_->probabilities(pixels_.data(), n);
            const auto classes = static_cast<std::ptrdiff_t>(queries.classes.names.size());
            for (Index i = 0; i < n; ++i) out.emplace_back(all.begin() + i * classes, all.begin() + (i + 1) * classes);
            return out;
        }
        const Index embed = tower_->embed();
        std::vector<T> features(static_cast<std::size_t>(n * embed));
        device_->download(features.data(), tower_->encode(pixels_.data(), n), features.size() * sizeof(T));
        for (Index i = 0; i < n; ++i) out.push_back(decide(features.data() + i * embed, embed));
        return out;
    }

    std::vector<std::vector<double>> of_roi(const Image& picture, const std::vector<Box>& boxes) {
        DenseModel<D>& model = *segmenter_->queries().model;
        const Planes image = segmenter_->pixels(picture);
        const PixelSize size{image.height, image.width};
        const std::vector<T> values(image.values.begin(), image.values.end());
        const Buffer<D, T> pixels(*device_, values);
        const Matrix<const T> features = model.encode(pixels.data(), size, 1);
        const GridSize grid = model.grid(size);
        std::vector<T> host(static_cast<std::size_t>(features.count()));
        device_->download(host.data(), features.data, host.size() * sizeof(T));
        Planes map(model.embed(), grid.rows, grid.columns);
        for (Index k = 0; k < features.rows; ++k)
            for (Index e = 0; e < features.columns; ++e)
                map.row(e, 0)[k] = static_cast<float>(host[static_cast<std::size_t>(k * features.columns + e)]);
        const double scale = static_cast<double>(image.width) /
                             (static_cast<double>(picture.width) * static_cast<double>(model.patch()));
        std::vector<std::vector<double>> out;
        for (const Box& box : boxes) {
            std::vector<float> one = roi_align(map, box, {scale, 1, 0, true}).values;
            double square = 0;
            for (const float v : one) square += static_cast<double>(v) * v;
            const auto inverse = static_cast<float>(square > 0 ? 1 / std::sqrt(square) : 0);
            for (float& v : one) v *= inverse;
            out.push_back(decide(one.data(), model.embed()));
        }
        return out;
    }

    /// Softmax over the queries at the model's own scale, the largest of each class.
    template <class V>
    std::vector<double> decide(const V* feature, Index embed) const {
        const DenseQueries<D>& queries = segmenter_->queries();
        std::vector<double> logits;
        for (std::size_t q = 0; q < queries.classes.queries.size(); ++q) {
            double dot = 0;
            for (Index j = 0; j < embed; ++j)
                dot += static_cast<double>(feature[j]) *
                       static_cast<double>(
                           queries.vectors[q * static_cast<std::size_t>(embed) + static_cast<std::size_t>(j)]);
            logits.push_back(queries.model->logit_scale() * dot);
        }
        const double top = *std::max_element(logits.begin(), logits.end());
        double total = 0;
        for (double& x : logits) total += x = std::exp(x - top);
        std::vector<double> out(queries.classes.names.size(), 0.0);
        for (std::size_t q = 0; q < logits.size(); ++q) {
            double& best = out[static_cast<std::size_t>(queries.classes.query_class[q])];
            best = std::max(best, logits[q] / total);
        }
        return out;
    }

    D* device_;
    ImageSegmenter<D>* segmenter_;
    DetectionSpec spec_;
    std::unique_ptr<Classifier<D>> student_;
    std::unique_ptr<FrozenImageTower<D>> tower_;
    Buffer<D, T> pixels_;
    Index room_ = 0;  ///< images a pass
};

/// Boxes with classes in decoded pictures.
template <Device D>
class Detector {
public:
    /// Loads what `spec` names.
    Detector(D& device, const DetectionSpec& spec, Observer& observer = silent_observer())
        : spec_(spec), segmenter_(device, spec.segmentation, observer), regions_(device, segmenter_, spec) {}

    /// The classes, in label order.
    const std::vector<std::string>& class_names() const { return segmenter_.class_names(); }

    /// The class of each of `boxes`, by falling score. Throws Error, whose text begins with `name`, for a box outside
    /// the picture or inverted.
    std::vector<Detection> classify(const Image& picture, const std::vector<Box>& boxes, const std::string& name) {
        for (const Box& box : boxes) require_box(box, picture.width, picture.height, name);
        std::vector<Detection> out;
        const std::vector<std::vector<double>> p = regions_.probabilities(picture, boxes);
        for (std::size_t i = 0; i < boxes.size(); ++i) {
            const auto best = std::max_element(p[i].begin(), p[i].end());
            require(std::isfinite(*best), name, ": the model makes NaN or infinity of a region");
            out.push_back({0, boxes[i], static_cast<Index>(best - p[i].begin()), *best});
        }
        return finish(out);
    }

    /// Boxes that nobody gave: connected components of the foreground, classified, or of the segmentation, whose score
    /// is the mean of the largest probability.
    std::vector<Detection> detect(const Image& picture, const std::string& name) {
        const std::vector<std::uint8_t> foreground = foreground_of(picture, spec_.proposals.foreground);
        if (spec_.proposals.segmentation) return finish(of_segmentation(picture, foreground));
        std::vector<Box> boxes;
        for (const Component& one :
             connected_components(foreground, picture.height, picture.width, spec_.proposals.least))
            boxes.push_back(one.box);
        return classify(picture, boxes, name);
    }

private:
    std::vector<Detection> of_segmentation(const Image& picture, const std::vector<std::uint8_t>& foreground) {
        const Segmentation found = segmenter_.segment(picture);
        std::vector<std::uint8_t> values;
        for (std::size_t i = 0; i < foreground.size(); ++i)
            values.push_back(foreground[i] != 0 ? static_cast<std::uint8_t>(found.labels.labels[i] + 1)
                                                : std::uint8_t{0});
        std::vector<Detection> out;
        for (const Component& one :
             connected_components(values, picture.height, picture.width, spec_.proposals.least)) {
            const Index label = values[static_cast<std::size_t>(one.pixels.front())] - 1;
            double sum = 0;
            for (const Index pixel : one.pixels) sum += found.probability[static_cast<std::size_t>(pixel)];
            out.push_back({0, one.box, label, sum / static_cast<double>(one.pixels.size())});
        }
        return out;
    }

    std::vector<Detection> finish(std::vector<Detection> all) const {
        if (spec_.suppression < 1) all = suppress_by_class(all, spec_.suppression);
        std::erase_if(all, [this](const Detection& one) { return one.score < spec_.least_score; });
        return all;
    }

    DetectionSpec spec_;
    ImageSegmenter<D> segmenter_;
    RegionClassifier<D> regions_;
};

}  // namespace promptkd
