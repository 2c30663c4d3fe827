// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>
#include <promptkd/data/mask_layouts.hpp>
#include <promptkd/evaluate/dense/overlap.hpp>
#include <promptkd/evaluate/dense/pamr.hpp>
#include <promptkd/evaluate/dense/probabilities.hpp>
#include <promptkd/evaluate/dense/segmenter.hpp>
#include <promptkd/experiment/dense_queries.hpp>
#include <promptkd/image/preprocess.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// How pictures become label maps.
struct SegmentationSpec {
    DenseQuerySpec queries;             ///< the model and the classes
    WindowOptions windows;              ///< how a picture is cut
    PixelDecision decision;             ///< how logits become labels
    Index short_side = 0;               ///< pictures are resized to it, the longer side in proportion; 0: as they are
    std::optional<PamrOptions> pamr{};  ///< refines the cosines by the picture's colours
};

/// What is found of a picture.
struct Segmentation {
    LabelMap labels;                 ///< at the picture's own size
    Planes cosines;                  ///< (queries, height, width) at the size that was computed with
    std::vector<double> shares;      ///< of each class: its share of the pixels
    std::vector<float> probability;  ///< (height, width): of the most probable class
};

/// Label maps of decoded pictures.
template <Device D>
class ImageSegmenter {
public:
    using T = typename D::Scalar;

    /// Loads what `spec` names.
    ImageSegmenter(D& device, const SegmentationSpec& spec, Observer& observer = silent_observer())
        : spec_(spec),
          queries_(device, spec.queries, observer),
          segmenter_(*queries_.model, queries_.vectors, spec.windows) {
        const Index patch = queries_.model->patch();
        require(spec.short_side == 0 || spec.windows.odd == OddWindow::pad || spec.short_side >= patch,
                "pictures with a short side of ", spec.short_side, " pixels are smaller than a patch of the model, ",
                patch, "; make it larger");
    }

    /// The classes, in label order.
    const std::vector<std::string>& class_names() const { return queries_.classes.names; }
    /// The model and its classes.
    DenseQueries<D>& queries() { return queries_; }

    /// Normalised pixels (3, height, width), resized as the specification says.
    Planes pixels(const Image& picture) const {
        const Preprocessing& p = queries_.model->model().preprocessing();
        const Image* image = &picture;
        Image resized;
        if (spec_.short_side > 0 && std::min(picture.height, picture.width) != spec_.short_side) {
            const Index shorter = std::min(picture.height, picture.width);
            const auto side = [&](Index length) {
                return std::max<Index>(1, (length * spec_.short_side + shorter / 2) / shorter);
            };
            resized = resize(picture, side(picture.height), side(picture.width), p.interpolation);
            image = &resized;
        }
        Planes out(3, image->height, image->width);
        normalize_image(*image, out.values.data(), p);
        return out;
    }

    /// Labels of a picture. Throws Error when it is smaller than a patch.
    Segmentation segment(const Image& picture) {
        const Planes image = pixels(picture);
        Segmentation found;
        found.cosines = segmenter_.cosines(image);
        if (spec_.pamr) found.cosines = refine_by_pamr(image, std::move(found.cosines), *spec_.pamr);
        const bool same = image.height == picture.height && image.width == picture.width;
        const Planes p =
            class_probabilities(same ? found.cosines : resize_planes(found.cosines, picture.height, picture.width),
                                queries_.classes.query_class, spec_.decision);
        for (const float value : p.values)
            require(std::isfinite(value), "the model makes NaN or infinity of this picture");
        found.labels = decide(p, spec_.decision);
        found.probability.assign(p.values.begin(), p.values.begin() + p.pixels());
        for (Index c = 1; c < p.count; ++c)
            for (std::size_t i = 0; i < found.probability.size(); ++i)
                found.probability[i] = std::max(found.probability[i], p.row(c, 0)[i]);
        found.shares.assign(class_names().size(), 0.0);
        for (const std::uint8_t label : found.labels.labels)
            found.shares[label] += 1.0 / static_cast<double>(found.labels.labels.size());
        return found;
    }

private:
    SegmentationSpec spec_;
    DenseQueries<D> queries_;
    Segmenter<D> segmenter_;
};

/// Pictures with masks that a segmentation is measured on.
struct MaskEvaluationSpec {
    SegmentationSpec segmentation;  ///< how pictures become label maps
    std::string root;               ///< folder of the data set
    std::string layout;             ///< see mask_layouts; empty: the one whose folders are there
    Index images = 0;               ///< only the first so many; 0: all
};

/// Overlap over a whole data set.
struct MaskEvaluation {
    Overlap overlap{0};                    ///< counts of each class
    std::vector<std::string> class_names;  ///< the classes
    std::string layout;                    ///< that was read
    Index images = 0;                      ///< pictures
};

/// Segments the pictures of a data set and counts. Throws Error naming the file for a mask of another size, labels
/// above the classes, and masks that are stored in two ways; and where no pixel has a label.
template <Device D>
MaskEvaluation run(D& device, const MaskEvaluationSpec& spec, Observer& observer = silent_observer()) {
    const MaskLayout layout = find_mask_layout(spec.root, spec.layout);
    std::vector<MaskedImage> files = masked_images(spec.root, layout);
    if (spec.images > 0 && static_cast<Index>(files.size()) > spec.images)
        files.resize(static_cast<std::size_t>(spec.images));
    ImageSegmenter<D> segmenter(device, spec.segmentation, observer);
    const auto classes = static_cast<Index>(segmenter.class_names().size());
    require(layout.classes == 0 || layout.classes == classes, "the layout ", layout.name, " has ", layout.classes,
            " classes, but there are ", classes, " class names",
            layout.classes == classes + 1 ? "; is the background missing?" : "");
    MaskEvaluation found{Overlap(classes), segmenter.class_names(), layout.name, 0};
    MaskReader masks(layout);
    for (const MaskedImage& one : files) {
        const LabelMap truth = masks.read(one.mask);
        const Image picture = read_image(one.image);
        require(picture.height == truth.height && picture.width == truth.width, one.mask, ": a mask of ", truth.width,
                " x ", truth.height, " pixels for a picture of ", picture.width, " x ", picture.height);
        try {
            found.overlap.add(segmenter.segment(picture).labels, truth);
        } catch (const Error& error) {
            fail(one.mask, ": ", error.what());
        }
        observer.on_progress({"segment", "images", ++found.images, static_cast<Index>(files.size()), 0, ""});
    }
    require(found.overlap.pixels() > 0, spec.root, ": no pixel has a label in the layout ", layout.name,
            ", all are ignored; is it another one?");
    return found;
}

}  // namespace promptkd
