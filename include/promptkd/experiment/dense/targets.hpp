// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/host_rows.hpp>
#include <promptkd/distill/patch_targets.hpp>
#include <promptkd/evaluate/dense/crops.hpp>
#include <promptkd/evaluate/dense/dense_model.hpp>
#include <promptkd/evaluate/dense/windows.hpp>
#include <promptkd/experiment/dense/pictures.hpp>
#include <promptkd/experiment/distillation_setup.hpp>
#include <promptkd/experiment/evaluation.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Pictures that have something to teach, and what.
struct TaughtPictures {
    std::vector<Index> pictures;  ///< positions among all pictures
    PatchTargetTable targets;     ///< of these
};

/// Asks the teachers of a distillation about pictures for the sake of their patches.
template <Device D>
class PatchTeacher {
public:
    using T = typename D::Scalar;

    /// For patches of `grid`, `patch` pixels each. All must outlive this.
    PatchTeacher(DistillationSetup<D>& setup, const DenseLessons& lessons, const GridSize& grid, Index patch)
        : setup_(setup), lessons_(lessons), grid_(grid), patch_(patch) {}

    /// The targets of all pictures; `finder` knows their regions. Unreadable ones are left out, and those without a
    /// region. Throws Error where none is left.
    TaughtPictures teach(const Dataset& pictures, const RegionFinder& finder) {
        out_ = {};
        out_.targets.grid = grid_;
        out_.targets.classes = setup_.classes();
        if (lessons_.targets == DenseTargets::regions) of_regions(pictures, finder);
        if (lessons_.targets == DenseTargets::windows) of_windows(pictures);
        if (lessons_.targets == DenseTargets::map) of_map(pictures);
        for (const float value : out_.targets.logits)
            require(std::isfinite(value), "the teacher makes NaN or infinity of the pictures");
        return std::move(out_);
    }

private:
    /// Calls f(i, picture) for each picture that can be read.
    template <class F>
    void for_each_picture(const std::string& name, const Dataset& pictures, const F& f) {
        Stage stage(name, "pictures", pictures.size(), setup_.observer);
        Index read = 0;
        for (Index i = 0; i < pictures.size(); ++i) {
            std::optional<Image> picture;
            try {
                picture = pictures.load(i);
            } catch (const ResourceError&) {
                throw;
            } catch (const Error& error) {
                setup_.observer.on_skipped(error.what());
            }
            if (picture) {
                f(i, *picture);
                ++read;
            }
            stage.update(i + 1);
        }
        stage.end();
        require(read > 0, pictures.name, ": none of the ", pictures.size(), " pictures can be read");
    }

    void of_regions(const Dataset& pictures, const RegionFinder& finder) {
        std::vector<Crop> crops;
        Index without = 0;
        for_each_picture("regions", pictures, [&](Index i, const Image& picture) {
            const std::vector<Component> regions = finder.find(i, picture);
            if (regions.empty()) {
                ++without;
                return;
            }
            const PatchRegions cells = regions_of_patches(regions, grid_, picture.height, picture.width);
            for (const Component& one : regions) crops.push_back({i, one.box});
            out_.pictures.push_back(i);
            out_.targets.add_picture(cells.region, cells.share, static_cast<Index>(regions.size()));
        });
        require(!crops.empty(), pictures.name, ": ", finder.nothing());
        if (without > 0)
            setup_.observer.on_warning(concat(without, " of ", pictures.size(), " pictures have no region: left out"));
        out_.targets.logits = ask(pictures, crops);
    }

    void of_windows(const Dataset& pictures) {
        const Preprocessing& input = setup_.teachers.model().preprocessing();
        WindowOptions cut;
        cut.window = lessons_.window > 0 ? lessons_.window : std::min(input.height, input.width);
        cut.stride = lessons_.stride > 0 ? lessons_.stride : patch_;
        const double sigma = lessons_.window_sigma;
        require(sigma > 0 && std::isfinite(sigma), "the Gaussian of windows needs a sigma above 0, not ", sigma);
        std::vector<Crop> crops;
        std::vector<Index> first;
        std::vector<std::vector<float>> weights;  // of each picture: (cells, windows)
        for_each_picture("windows", pictures, [&](Index i, const Image& picture) {
            const std::vector<PixelRect> windows = windows_of(picture.height, picture.width, cut);
            first.push_back(static_cast<Index>(crops.size()));
            for (const PixelRect& w : windows)
                crops.push_back({i,
                                 {static_cast<double>(w.left), static_cast<double>(w.top),
                                  static_cast<double>(w.left + w.width), static_cast<double>(w.top + w.height)}});
            weights.push_back(near_windows(windows, picture));
            out_.pictures.push_back(i);
        });
        const std::vector<float> asked = ask(pictures, crops);
        for (std::size_t p = 0; p < weights.size(); ++p)
            add_mean(asked.data() + first[p] * setup_.classes(), weights[p]);
    }

    /// Weights (cells, windows), of each patch with a sum of 1: exp(−d²/(2σ²)), d from its centre to the window's.
    std::vector<float> near_windows(const std::vector<PixelRect>& windows, const Image& picture) const {
        const double tall = static_cast<double>(picture.height) / static_cast<double>(grid_.rows);
        const double wide = static_cast<double>(picture.width) / static_cast<double>(grid_.columns);
        std::vector<float> all;
        for (Index k = 0; k < grid_.cells(); ++k) {
            const double y = (static_cast<double>(k / grid_.columns) + 0.5) * tall;
            const double x = (static_cast<double>(k % grid_.columns) + 0.5) * wide;
            std::vector<double> far;
            for (const PixelRect& w : windows) {
                const double down = static_cast<double>(w.top) + static_cast<double>(w.height) / 2 - y;
                const double across = static_cast<double>(w.left) + static_cast<double>(w.width) / 2 - x;
                far.push_back((down * down + across * across) / (2 * lessons_.window_sigma * lessons_.window_sigma));
            }
            const double nearest = *std::min_element(far.begin(), far.end());
            double sum = 0;
            for (double& d : far) sum += d = std::exp(nearest - d);
            for (const double d : far) all.push_back(static_cast<float>(d / sum));
        }
        return all;
    }

    /// A picture whose patches each have an answer of their own: means of the answers at `asked`.
    void add_mean(const float* asked, const std::vector<float>& weights) {
        const Index cells = grid_.cells(), classes = setup_.classes();
        const Index windows = static_cast<Index>(weights.size()) / cells;
        add_own_answers();
        for (Index k = 0; k < cells; ++k) {
            std::vector<double> mean(static_cast<std::size_t>(classes), 0.0);
            for (Index w = 0; w < windows; ++w)
                for (Index c = 0; c < classes; ++c)
                    mean[static_cast<std::size_t>(c)] +=
                        static_cast<double>(weights[static_cast<std::size_t>(k * windows + w)]) *
                        static_cast<double>(asked[w * classes + c]);
            out_.targets.logits.insert(out_.targets.logits.end(), mean.begin(), mean.end());
        }
    }

    void add_own_answers() {
        std::vector<std::int32_t> cells;
        for (Index k = 0; k < grid_.cells(); ++k) cells.push_back(static_cast<std::int32_t>(k));
        out_.targets.add_picture(cells, std::vector<float>(cells.size(), 1), grid_.cells());
    }

    /// What the teachers say of crops: logits (crops, classes).
    std::vector<float> ask(const Dataset& pictures, const std::vector<Crop>& crops) {
        const Index batch = setup_.spec.evaluation_batch;
        const auto live = setup_.teachers.live(setup_.device, TeacherGives::logits, batch);
        TeacherEncoder<D> encoder(*live, setup_.teachers.model().preprocessing());
        const FeatureSet<T> set = encode_images(setup_.device, encoder, crops_of(pictures, crops),
                                                EncodingStage{"teacher", batch, setup_.observer});
        require(set.indices.size() == crops.size(), pictures.name, ": a picture changed while it was read");
        return {set.values.begin(), set.values.end()};
    }

    void of_map(const Dataset& pictures) {
        const TeacherSpec& teacher = setup_.spec.teacher;
        TensorMap weights = load_model(teacher.model(0), setup_.observer);
        const std::optional<TensorMap> prompts = adapt_model(weights, teacher.prompts_of(0), setup_.observer);
        DenseOptions options = lessons_.student;
        options.method = lessons_.map_method;
        DenseModel<D> model(setup_.device, weights, prompts ? &*prompts : nullptr, options, 1);
        for_each_picture("teacher", pictures, [&](Index i, const Image& picture) {
            const Planes logits = resize_planes(map_of(model, picture), grid_.rows, grid_.columns);
            add_own_answers();
            for (Index k = 0; k < grid_.cells(); ++k)
                for (Index c = 0; c < logits.count; ++c)
                    out_.targets.logits.push_back(logits.values[static_cast<std::size_t>(c * grid_.cells() + k)]);
            out_.pictures.push_back(i);
        });
    }

    /// The teacher's logits of the patches of a picture, as planes on its own grid.
    Planes map_of(DenseModel<D>& model, const Image& picture) {
        Planes image(3, picture.height, picture.width);
        normalize_image(picture, image.values.data(), model.model().preprocessing());
        const PixelSize size{picture.height, picture.width};
        const GridSize grid = model.grid(size);
        const Buffer<D, T> pixels(setup_.device, std::vector<T>(image.values.begin(), image.values.end()));
        const Matrix<const T> unit = model.encode(pixels.data(), size, 1);
        std::vector<T> features(static_cast<std::size_t>(unit.count()));
        setup_.device.download(features.data(), unit.data, features.size() * sizeof(T));
        const std::vector<T>& w = setup_.teachers.class_vectors();
        Cpu<double> host;
        const std::vector<double> logits = detail::scaled_cosines(
            host, {features.begin(), features.end()}, {w.begin(), w.end()}, setup_.classes(), model.logit_scale());
        Planes out(setup_.classes(), grid.rows, grid.columns);
        for (Index k = 0; k < grid.cells(); ++k)
            for (Index c = 0; c < out.count; ++c)
                out.values[static_cast<std::size_t>(c * grid.cells() + k)] =
                    static_cast<float>(logits[static_cast<std::size_t>(k * out.count + c)]);
        return out;
    }

    DistillationSetup<D>& setup_;
    DenseLessons lessons_;
    GridSize grid_;
    Index patch_;
    TaughtPictures out_;
};

}  // namespace promptkd
