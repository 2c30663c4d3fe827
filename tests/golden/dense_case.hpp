// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "adapt_case.hpp"

#include <promptkd/data/idx.hpp>
#include <promptkd/data/scenes.hpp>
#include <promptkd/distill/dense_distiller.hpp>
#include <promptkd/evaluate/dense/overlap.hpp>
#include <promptkd/evaluate/dense/packaged.hpp>
#include <promptkd/evaluate/dense/pamr.hpp>
#include <promptkd/evaluate/dense/probabilities.hpp>
#include <promptkd/evaluate/dense/region_features.hpp>
#include <promptkd/evaluate/dense/segmenter.hpp>
#include <promptkd/experiment/models.hpp>

#include <cstdlib>
#include <filesystem>

namespace promptkd::test {

inline constexpr double dense_tolerance = 2e-5;

/// Of the packaged student on scenes: its projector enlarges what fp32 rounds in the encoder 58-fold. PyTorch's fp32 is
/// 2.4e-5 off the fp64 numbers there, 1.6e-5 to 3.3e-5 as one operation or another is taken in fp64.
template <class T>
inline constexpr double packaged_tolerance = std::is_same_v<T, float> ? 5e-5 : dense_tolerance;

/// The file called as the last part of `name` in the case's folder, the folder above, the default golden folder or the
/// Fashion assets.
inline std::string dense_file(const GoldenCase& c, const std::string& name) {
    const std::string last = std::filesystem::path(name).filename().string();
    for (const std::string& folder :
         {c.directory, c.directory + "/..", std::string(PROMPTKD_TEST_DATA "/golden"), std::string(PROMPTKD_ASSETS)})
        if (std::filesystem::exists(folder + "/" + last)) return folder + "/" + last;
    fail("no file '", last, "' beside the case");
}

inline TensorMap dense_weights(const GoldenCase& c, const std::string& name) {
    return read_safetensors(dense_file(c, name + ".safetensors"));
}

/// Image `i` of a tensor (n, 3, h, w).
inline Planes image_planes(const HostTensor& images, Index i) {
    const Index values = images.count() / images.shape.at(0);
    std::vector<float> all(static_cast<std::size_t>(values));
    images.copy_to(all.data(), i * values, values);
    return Planes(images.shape.at(1), images.shape.at(2), images.shape.at(3), std::move(all));
}

/// Labels agree wherever the two largest of `x` are apart by the tolerance.
inline void check_labels(const std::string& what, const Planes& x, const std::vector<double>& want, Report& report) {
    const LabelMap labels = largest_plane(x);
    Index wrong = 0;
    for (std::size_t i = 0; i < labels.labels.size(); ++i) {
        if (labels.labels[i] == static_cast<std::uint8_t>(want.at(i))) continue;
        const float own = x.row(labels.labels[i], 0)[i], other = x.row(static_cast<Index>(want.at(i)), 0)[i];
        if (own - other >= dense_tolerance) ++wrong;
    }
    report.check(labels.labels.size() == want.size() && wrong == 0, concat(what, ": ", wrong, " labels differ"));
}

/// A part of a tensor: values of its first index `i`.
inline std::vector<double> part_of(const GoldenCase& c, const std::string& name, Index i) {
    const std::vector<double> all = c.values(name);
    const auto size = static_cast<std::ptrdiff_t>(all.size()) / c.shape(name).at(0);
    return {all.begin() + i * size, all.begin() + (i + 1) * size};
}

/// Features, similarities, labels, tokens and logits of one method, as far as the case has them under `prefix`.
template <class D>
void check_dense_features(DenseModel<D>& model, const GoldenCase& c, const std::string& prefix,
                          const std::string& images, Report& report) {
    using T = typename D::Scalar;
    const std::vector<T> values = c.map.at(images).template to<T>();
    const Shape& shape = c.shape(images);
    const Buffer<D, T> pixels(model.device(), values);
    const PixelSize size{shape.at(2), shape.at(3)};
    std::vector<std::vector<typename D::Activation>> seen;
    const auto observe = [&](Index, const Matrix<const typename D::Activation>& x) {
        if (model.device().is_planning()) return;
        seen.emplace_back(static_cast<std::size_t>(x.count()));
        model.device().download(seen.back().data(), x.data, seen.back().size() * sizeof(typename D::Activation));
    };
    const Matrix<const T> out = model.encode_raw(pixels.data(), size, shape.at(0), observe);
    std::vector<T> features(static_cast<std::size_t>(out.count()));
    model.device().download(features.data(), out.data, features.size() * sizeof(T));
    report.close(prefix + "features", features, c.values(prefix + "features"), dense_tolerance);
    if (c.has(prefix + "tokens")) {
        const std::vector<double> want = c.values(prefix + "tokens");
        report.close(prefix + "tokens", seen.back().data(), want.data(), static_cast<Index>(want.size()),
                     dense_tolerance);
    }
    if (!c.has(prefix + "similarity")) return;
    Segmenter<D> segmenter(model, c.map.at("class_vectors").template to<T>(), {});
    for (Index i = 0; i < shape.at(0); ++i) {
        const Planes image = image_planes(c.map.at(images), i);
        report.close(prefix + "similarity", segmenter.patch_cosines(image).values, part_of(c, prefix + "similarity", i),
                     dense_tolerance);
        const Planes logits = segmenter.cosines(image);
        check_labels(prefix + "argmax", logits, part_of(c, prefix + "argmax", i), report);
        if (i == 0 && c.has(prefix + "logits"))
            report.close(prefix + "logits", logits.values, c.values(prefix + "logits"), dense_tolerance);
    }
}

/// Every `METHOD.features` of a case, and those of other images and settings.
template <class D, class MakeModel>
void check_dense_names(const GoldenCase& c, const MakeModel& make, Report& report) {
    const Index batch = c.shape("images").at(0);
    for (const auto& [name, tensor] : c.map.tensors) {
        const std::size_t end = name.rfind(".features");
        if (end == std::string::npos || name == "image.features" || name == "class_token.features") continue;
        const std::string prefix = name.substr(0, end);
        const std::size_t dot = prefix.rfind('.');
        std::string method = dot == std::string::npos ? prefix : prefix.substr(dot + 1), images = "images";
        if (prefix.starts_with("small.")) images = "small.images";
        if (prefix.starts_with("same_count.")) images = "same_count.images";
        if (prefix.starts_with("same_count.published")) continue;  // positions in another order: either is right
        DenseOptions options;
        options.sigma = c.config.value("sigma", 5.0);
        if (const std::size_t sigma = method.find("_sigma"); sigma != std::string::npos) {
            options.sigma = std::stod(method.substr(sigma + 6));
            method = method.substr(0, sigma);
        }
        options.method = method;
        DenseModel<D> model = make(options, batch);
        check_dense_features(model, c, prefix + ".", images, report);
    }
}

/// Features of patches by every method, of CLIP models.
template <class D>
void check_dense_methods(D& device, const GoldenCase& c, Report& report) {
    const TensorMap weights = dense_weights(c, c.config.at("model"));
    check_dense_names<D>(
        c,
        [&](const DenseOptions& options, Index batch) {
            return DenseModel<D>(device, weights, nullptr, options, batch);
        },
        report);
    if (!c.has("omega")) return;
    const GridSize grid{c.config.at("grid").at(0), c.config.at("grid").at(1)};
    report.close("omega", nearness(grid, 1, c.shape("omega").at(0), c.config.at("sigma")), c.values("omega"),
                 dense_tolerance);
    const HostTensor& own = weights.at("visual.positional_embedding");
    report.close("position_embedding",
                 resize_positions(own, 1, grid, PositionFilter::bicubic_shifted).template to<double>(),
                 c.values("position_embedding"), dense_tolerance);
}

/// The student of a case: prompts, projector and class vectors beside a CLIP model.
inline BundleParts student_of(const GoldenCase& c) {
    BundleParts parts;
    parts.clip = dense_weights(c, c.config.at("model"));
    for (const auto& [name, tensor] : c.map.tensors)
        if (name.starts_with("image_encoder.") || name.starts_with("VPT_image_trans."))
            parts.learned.tensors[name] = tensor;
    parts.class_vectors = c.map.at("class_vectors");
    return parts;
}

/// Features of patches through a student's projector.
template <class D>
void check_dense_student(D& device, const GoldenCase& c, Report& report) {
    const BundleParts parts = student_of(c);
    check_dense_names<D>(
        c, [&](const DenseOptions& options, Index batch) { return DenseModel<D>(device, parts, options, batch); },
        report);
}

/// Sliding windows.
template <class D>
void check_slide(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    const TensorMap weights = dense_weights(c, c.config.at("model"));
    const std::vector<T> vectors = c.map.at("class_vectors").template to<T>();
    const auto cosines = [&](const nlohmann::json& one) {
        DenseOptions options;
        options.method = one.value("method", "naclip");
        options.sigma = c.config.value("sigma", 5.0);
        DenseModel<D> model(device, weights, nullptr, options, 5);
        WindowOptions windows{one.value("window", Index(0)), one.value("stride", Index(0)),
                              one.value("padded", false) ? OddWindow::pad : OddWindow::stretch};
        return Segmenter<D>(model, vectors, windows).cosines(image_planes(c.map.at(one.value("images", "images")), 0));
    };
    for (const auto& [name, one] : c.config.at("cases").items()) {
        Planes logits = cosines(one);
        if (one.contains("windows_y_x_h_w")) {
            std::vector<Index> got, want;
            for (const PixelRect& w : windows_of(logits.height, logits.width, {one.at("window"), one.at("stride"), {}}))
                got.insert(got.end(), {w.top, w.left, w.height, w.width});
            for (const auto& w : one.at("windows_y_x_h_w")) want.insert(want.end(), w.begin(), w.end());
            report.check(got == want, name + ": other windows");
        }
        if (c.has(name + ".logits"))
            report.close(name + ".logits", logits.values, c.values(name + ".logits"), dense_tolerance);
        if (one.contains("size")) {
            logits = resize_planes(logits, one.at("size").at(0), one.at("size").at(1));
            PixelDecision decision;
            decision.logit_scale = one.at("logit_scale");
            std::vector<Index> own;
            for (Index q = 0; q < logits.count; ++q) own.push_back(q);
            const Planes p = class_probabilities(logits, own, decision);
            const std::vector<double> want = c.values(name + ".probabilities_of_class_0");
            report.close(name + ".probabilities_of_class_0", p.row(0, 0), want.data(), p.pixels(), dense_tolerance);
        }
        check_labels(name + ".argmax", logits, c.values(name + ".argmax"), report);
    }
    if (!c.has("whole.logits")) return;
    const Planes whole = cosines(nlohmann::json::object());
    report.close("whole.logits", whole.values, c.values("whole.logits"), dense_tolerance);
    check_labels("whole.argmax", whole, c.values("whole.argmax"), report);
}

/// Class vectors of several templates.
template <class D>
void check_text_ensemble(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    const std::vector<std::string> words = c.config.at("words"), all = c.config.at("templates"),
                                   seven = c.config.at("seven");
    const std::string vocabulary = dense_file(c, c.config.at("tokenizer"));
    for (const auto& [name, file] : c.config.at("models").items()) {
        const ClipModel<D> model(device, dense_weights(c, file));
        const Tokenizer tokenizer = load_tokenizer(vocabulary);
        const auto vectors = [&](const std::vector<std::string>& templates) {
            ClassTexts texts{words, "a photo of a {}.", vocabulary, {}};
            texts.options.templates = templates;
            return text_features(device, model, tokenizer, texts, nullptr);
        };
        report.close(name + ".class_vectors_80", vectors(all), c.values(name + ".class_vectors_80"), dense_tolerance);
        report.close(name + ".class_vectors_7", vectors(seven), c.values(name + ".class_vectors_7"), dense_tolerance);
        report.close(name + ".class_vectors_1", vectors({"a photo of a {}."}), c.values(name + ".class_vectors_1"),
                     dense_tolerance);
        std::vector<std::string> texts;
        for (const std::string& one : all) texts.push_back(prompt_text(one, words.front()));
        const TokenRows rows = tokenize_classes(tokenizer, model.text().config(), model.source(), texts);
        std::vector<T> features = encode_texts(device, model, rows);
        const auto width = static_cast<std::size_t>(rows.context_length);
        const std::vector<std::int32_t> want = c.map.at("tokens").template to<std::int32_t>();
        report.check(std::equal(rows.ids.begin(), rows.ids.end(), want.begin()) && width * all.size() <= want.size(),
                     name + ": other tokens");
        report.close(name + ".features_of_first_word", features, c.values(name + ".features_of_first_word"),
                     dense_tolerance);
    }
}

/// MaskCLIP's own code: positions by size, its denoising; `published` with another GELU and epsilon.
template <class D>
void check_maskclip_original(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    for (const std::string variant : {"published", "quick_gelu"}) {
        if (!c.has(variant + ".similarity")) continue;
        TensorMap weights = dense_weights(c, c.config.at("model"));
        if (variant == "published") {
            weights.metadata["vision_gelu"] = "exact";
            weights.metadata["vision_epsilon"] = "1e-6";
        }
        DenseModel<D> model(device, weights, nullptr, {"maskclip", 5, PositionFilter::bicubic}, 1);
        Segmenter<D> segmenter(model, c.map.at("class_vectors").template to<T>(), {});
        for (Index i = 0; i < c.shape("images").at(0); ++i) {
            Planes cosines = segmenter.patch_cosines(image_planes(c.map.at("images"), i));
            report.close(variant + ".similarity", cosines.values, part_of(c, variant + ".similarity", i),
                         dense_tolerance);
            const std::string denoised = variant + ".prompt_denoising.similarity";
            if (!c.has(denoised)) continue;
            drop_absent_classes(cosines);
            report.close(denoised, cosines.values, part_of(c, denoised, i), dense_tolerance);
        }
    }
}

inline std::vector<Box> boxes_in(const GoldenCase& c, const std::string& name) {
    const std::vector<double> values = c.values(name);
    std::vector<Box> out;
    for (std::size_t i = 0; i + 3 < values.size(); i += 4)
        out.push_back({values[i], values[i + 1], values[i + 2], values[i + 3]});
    return out;
}

/// RoIAlign and suppression of boxes, of given maps.
inline void check_boxes(const GoldenCase& c, Report& report) {
    for (const auto& [name, tensor] : c.map.tensors) {
        if (name.starts_with("nms.kept_at_")) {
            std::vector<double> kept;
            for (const std::size_t i :
                 non_maximum_suppression(boxes_in(c, "nms.boxes"), c.values("nms.scores"), std::stod(name.substr(12))))
                kept.push_back(static_cast<double>(i));
            report.check(kept == c.values(name), name + ": other boxes");
        }
        if (!name.starts_with("roi.out")) continue;
        RoiOptions options;
        options.output = tensor.shape.at(2);
        options.samples = std::max<Index>(0, std::stol(name.substr(name.find("sampling") + 8)));
        options.aligned = name.ends_with("aligned");
        options.scale = c.config.value("roi_scale", 1.0);
        std::vector<float> got;
        for (const Box& box : boxes_in(c, "roi.boxes")) {
            const Planes one = roi_align(image_planes(c.map.at("roi.map"), 0), box, options);
            got.insert(got.end(), one.values.begin(), one.values.end());
        }
        report.close(name, got, c.values(name), dense_tolerance);
    }
}

/// CLIPSelf's dense features and what boxes and masks take from them.
template <class D>
void check_regions(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    check_boxes(c, report);
    DenseModel<D> model(device, dense_weights(c, c.config.at("model")), nullptr,
                        {"maskclip", 5, PositionFilter::bicubic}, c.shape("images").at(0));
    const Shape& shape = c.shape("images");
    const Buffer<D, T> pixels(device, c.map.at("images").template to<T>());
    const Matrix<const T> features = model.encode(pixels.data(), {shape[2], shape[3]}, shape[0]);
    std::vector<T> host(static_cast<std::size_t>(features.count()));
    device.download(host.data(), features.data, host.size() * sizeof(T));
    const GridSize grid = model.grid({shape[2], shape[3]});
    const Index cells = grid.rows * grid.columns, embed = model.embed();
    std::vector<float> dense, rois, masks;
    for (Index i = 0; i < shape[0]; ++i) {
        Planes map(embed, grid.rows, grid.columns);
        for (Index k = 0; k < cells; ++k)
            for (Index e = 0; e < embed; ++e)
                map.row(e, 0)[k] = static_cast<float>(host[static_cast<std::size_t>((i * cells + k) * embed + e)]);
        dense.insert(dense.end(), map.values.begin(), map.values.end());
        for (const Box& box : boxes_in(c, concat("boxes_of_image_", i))) {
            const std::vector<float> one =
                roi_align(map, box, {1.0 / static_cast<double>(model.patch()), 1, 0, true}).values;
            rois.insert(rois.end(), one.begin(), one.end());
        }
        const std::vector<std::uint8_t> all = c.map.at("patch_masks").template to<std::uint8_t>();
        const Index each = c.shape("patch_masks").at(0) / shape[0];
        for (Index m = i * each; m < (i + 1) * each; ++m) {
            const auto first = all.begin() + m * cells;
            const std::vector<float> one = pool_mask(map, {first, first + cells});
            masks.insert(masks.end(), one.begin(), one.end());
        }
    }
    report.close("clipself.dense", dense, c.values("clipself.dense"), dense_tolerance);
    report.close("clipself.roi_features", rois, c.values("clipself.roi_features"), dense_tolerance);
    report.close("clipself.mask_features", masks, c.values("clipself.mask_features"), dense_tolerance);
}

/// The labelled test images that scenes are made of.
inline Dataset scene_items() {
    const char* root = std::getenv("PROMPTKD_FASHION_MNIST");
    return load_fashion_mnist(root && *root ? root : "/usr/share/datasets/fashion-mnist", Split::test);
}

/// Maps of rendered scenes, of several models.
template <class D>
void check_scene_maps(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    const Dataset items = scene_items();
    SceneSpec spec;
    spec.seed = c.config.at("seed");
    spec.count = items.size();
    spec.width = c.config.at("width");
    spec.height = c.config.at("height");
    spec.least = c.config.at("least");
    spec.most = c.config.at("most");
    const std::vector<Index> scenes = c.config.at("scenes");
    for (const auto& [name, one] : c.config.at("cases").items()) {
        const std::string model_name = name.substr(0, name.find('.'));
        const TensorMap weights = dense_weights(c, c.config.at("models").at(model_name));
        DenseOptions options;
        options.method = one.value("method", "naclip");
        options.sigma = c.config.value("sigma", 5.0);
        const bool student = is_packaged_student(weights);
        BundleParts parts;
        if (student) parts = packaged_student(weights);
        DenseModel<D> model =
            student ? DenseModel<D>(device, parts, options, 4) : DenseModel<D>(device, weights, nullptr, options, 4);
        const HostTensor vectors = student ? parts.class_vectors : c.map.at(model_name + ".class_vectors");
        Segmenter<D> segmenter(model, vectors.template to<T>(),
                               {one.value("window", Index(0)), one.value("stride", Index(0)), OddWindow::stretch});
        for (std::size_t i = 0; i < scenes.size(); ++i) {
            const Scene scene = render_scene(spec, items, scenes[i]);
            Planes image(3, scene.height, scene.width);
            normalize_image(scene.image(), image.values.data(), model.model().preprocessing());
            const auto at = static_cast<Index>(i);
            if (c.has(name + ".similarity"))
                report.close(name + ".similarity", segmenter.patch_cosines(image).values,
                             part_of(c, name + ".similarity", at), student ? packaged_tolerance<T> : dense_tolerance);
            const Planes logits = segmenter.cosines(image);
            if (i == 0 && c.has(name + ".logits_of_scene_0"))
                report.close(name + ".logits_of_scene_0", logits.values, c.values(name + ".logits_of_scene_0"),
                             dense_tolerance);
            check_labels(name + ".argmax", logits, part_of(c, name + ".argmax", at), report);
        }
        if (!student || !c.has(model_name + ".image_probe")) continue;
        const HostTensor& probes = c.map.at(model_name + ".image_probe");
        const ClipModel<D> clip(device, parts.clip);
        Student<D> whole(device, clip, student_config(parts), probes.shape.at(0));
        whole.load(parts.learned);
        const Buffer<D, T> pixels(device, probes.template to<T>());
        const Index n = probes.shape.at(0), classes = vectors.shape.at(0), embed = vectors.shape.at(1);
        Buffer<D, T> features(device, n * embed), logits(device, n * classes);
        const Buffer<D, T> w(device, vectors.template to<T>());
        Arena<D> arena(device);
        arena.plan([&] { whole.forward_inference(arena, nullptr, n, features.data()); });
        whole.forward_inference(arena, pixels.data(), n, features.data());
        cosine_logits(device, features.matrix(n, embed), w.matrix(classes, embed), 1, logits.matrix(n, classes));
        report.close(model_name + ".image_similarity", logits.to_host(), c.values(model_name + ".image_similarity"),
                     dense_tolerance);
    }
}

/// What each patch of a case is taught: logits (patches, classes) of its region, or of the teacher's map, enlarged or
/// reduced to the grid; and its share of the loss.
inline std::pair<std::vector<double>, std::vector<double>> patch_targets(const GoldenCase& c, bool map,
                                                                         const GridSize& grid) {
    const Index batch = c.shape("images").at(0), classes = c.shape("class_vectors").at(0),
                cells = grid.rows * grid.columns;
    std::vector<double> logits(static_cast<std::size_t>(batch * cells * classes)), shares;
    const std::vector<double> regions = c.values("region_logits"), coverage = c.values("coverage"),
                              of_patch = c.values("region_of_patch");
    const Index count = c.shape("region_logits").at(1);
    for (Index b = 0; b < batch; ++b) {
        const Planes enlarged = resize_planes(image_planes(c.map.at("teacher_map"), b), grid.rows, grid.columns);
        for (Index k = 0; k < cells; ++k) {
            const auto patch = static_cast<std::size_t>(b * cells + k);
            shares.push_back(map ? 1.0 : coverage[patch]);
            const Index region = b * count + static_cast<Index>(of_patch[patch]);
            for (Index n = 0; n < classes; ++n)
                logits[patch * static_cast<std::size_t>(classes) + static_cast<std::size_t>(n)] =
                    map ? enlarged.row(n, 0)[k] : regions[static_cast<std::size_t>(region * classes + n)];
        }
    }
    double total = 0;
    for (const double share : shares) total += share;
    for (double& share : shares) share /= total;
    return {logits, shares};
}

/// Gradients, norms of some, and statistics under `prefix`.
template <class D>
void check_dense_gradients(const Student<D>& student, const GoldenCase& c, const std::string& prefix, Report& report) {
    TensorMap state;
    student.save(state);
    for (const auto& [key, tensor] : c.map.tensors) {
        if (!key.starts_with(prefix)) continue;
        const std::string name = key.substr(prefix.size());
        if (name.starts_with("running_"))
            report.close(key, state.at(projector_name(1, name.c_str())).template to<double>(), c.values(key), 1e-3);
        if (!name.starts_with("grad.")) continue;
        std::vector<double> got = gradient_in_file(student.params(), name.substr(5));
        if (tensor.shape.empty()) {
            double square = 0;
            for (const double g : got) square += g * g;
            got = {std::sqrt(square)};
        }
        report.close(key, got, c.values(key), 1e-3);
    }
}

/// One step on patches: loss, logits, gradients, statistics.
template <class D>
void check_dense_distillation(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    const ClipModel<D> model(device, dense_weights(c, c.config.at("model")));
    const std::string initial = c.config.at("initial");  // "init.* of FILE"
    const TensorMap start = dense_weights(c, initial.substr(initial.rfind(' ') + 1));
    BundleParts parts;
    for (const auto& [name, tensor] : start.tensors)
        if (name.starts_with("init.")) parts.learned.tensors[name.substr(5)] = tensor;
    parts.class_vectors = c.map.at("class_vectors");
    StudentConfig shape = student_config(parts);
    shape.training = EncoderTraining::full;
    const Shape& images = c.shape("images");
    const PixelSize size{images.at(2), images.at(3)};
    const Buffer<D, T> pixels(device, c.map.at("images").template to<T>());
    for (const auto& [name, one] : c.config.at("cases").items()) {
        Student<D> student(device, model, shape, images.at(0));
        student.initialize(1);
        student.load(parts.learned);
        student.params().clear_gradients();
        DenseOptions options;
        options.method = one.at("method");
        options.sigma = c.config.at("sigma");
        DenseDistiller<D> distiller(student, c.map.at("class_vectors").template to<T>(), options, one.at("tau"));
        const GridSize grid = distiller.grid(size);
        const auto targets = patch_targets(c, one.at("kind") == "map", grid);
        const Buffer<D, T> logits(device, std::vector<T>(targets.first.begin(), targets.first.end()));
        const Buffer<D, T> shares(device, std::vector<T>(targets.second.begin(), targets.second.end()));
        distiller.accumulate(pixels.data(), size, {logits.data(), shares.data()}, images.at(0));
        report.close(name + ".loss", std::vector<double>{distiller.loss()}, c.values(name + ".loss"), dense_tolerance);
        const Index cells = grid.rows * grid.columns, classes = c.shape("class_vectors").at(0);
        const std::vector<T> rows = distiller.logits().to_host();
        std::vector<double> planes(rows.size());
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const auto at = static_cast<Index>(i), patch = at / classes;
            planes[static_cast<std::size_t>((patch / cells * classes + at % classes) * cells + patch % cells)] =
                rows[i];
        }
        report.close(name + ".student_logits", planes, c.values(name + ".student_logits"), dense_tolerance);
        check_dense_gradients(student, c, name + ".", report);
    }
}

/// From logits to labels.
inline void check_postprocess(const GoldenCase& c, Report& report) {
    const Planes logits = image_planes(c.map.at("logits"), 0);
    const std::vector<Index> classes = c.config.at("query_class");
    for (const auto& [name, one] : c.config.at("cases").items()) {
        PixelDecision decision;
        decision.logit_scale = one.at("logit_scale");
        decision.threshold = one.at("prob_thd");
        if (!one.at("area_thd").is_null()) decision.area = one.at("area_thd").get<double>();
        Planes p = class_probabilities(logits, classes, decision);
        const LabelMap labels = decide(p, decision);
        const std::vector<double> want = c.values(name + ".labels");
        report.check(std::equal(labels.labels.begin(), labels.labels.end(), want.begin(), want.end()),
                     name + ": other labels");
        if (one.at("probabilities").get<std::string>().starts_with("divided")) divide_by_sum(p);
        report.close(name + ".probabilities", p.values, c.values(name + ".probabilities"), dense_tolerance);
    }
}

inline LabelMap label_map(const HostTensor& maps, Index i) {
    LabelMap out(maps.shape.at(1), maps.shape.at(2));
    maps.copy_to(out.labels.data(), i * out.height * out.width, out.height * out.width);
    return out;
}

/// Overlap of label maps: exactly the counts.
inline void check_miou(const GoldenCase& c, Report& report) {
    Overlap overlap(c.config.at("classes"));
    for (Index i = 0; i < c.shape("label").at(0); ++i)
        overlap.add(label_map(c.map.at("prediction"), i), label_map(c.map.at("label"), i));
    const auto same = [&](const char* name, const std::vector<std::int64_t>& got) {
        report.check(got == c.map.at(name).to<std::int64_t>(), concat(name, ": other counts"));
    };
    same("intersection", overlap.intersection());
    same("union", overlap.united());
    same("predicted", overlap.predicted());
    same("labelled", overlap.labelled());
    const std::vector<double> got{100 * overlap.mean_iou(), 100 * overlap.mean_accuracy(),
                                  100 * overlap.pixel_accuracy()};
    report.close("mIoU, mAcc, aAcc", got,
                 std::vector<double>{c.config.at("mIoU"), c.config.at("mAcc"), c.config.at("aAcc")}, 1e-6);
}

inline void check_pamr(const GoldenCase& c, Report& report) {
    const Planes image = image_planes(c.map.at("images"), 0), logits = image_planes(c.map.at("logits"), 0);
    const PamrOptions options{c.config.at("steps"), c.config.at("dilations")};
    report.close("refined", refine_by_pamr(image, logits, options).values, c.values("refined"), dense_tolerance);
    if (c.has("refined_1_step_dilation_1"))
        report.close("refined_1_step_dilation_1", refine_by_pamr(image, logits, {1, {1}}).values,
                     c.values("refined_1_step_dilation_1"), dense_tolerance);
}

/// A check that no device takes part in; null for other kinds.
using PlainCheck = void (*)(const GoldenCase&, Report&);
inline PlainCheck find_plain_check(const std::string& kind) {
    if (kind == "postprocess") return &check_postprocess;
    if (kind == "miou") return &check_miou;
    return kind == "pamr" ? &check_pamr : nullptr;
}

/// A check of dense prediction on a device; null for other kinds.
template <class D>
void (*find_dense_check(const std::string& kind))(D&, const GoldenCase&, Report&) {
    if (kind == "dense_methods") return &check_dense_methods<D>;
    if (kind == "dense_promptkd") return &check_dense_student<D>;
    if (kind == "slide") return &check_slide<D>;
    if (kind == "text_ensemble") return &check_text_ensemble<D>;
    if (kind == "maskclip_original") return &check_maskclip_original<D>;
    if (kind == "regions") return &check_regions<D>;
    if (kind == "dense_distillation") return &check_dense_distillation<D>;
    return kind == "scene_maps" ? &check_scene_maps<D> : nullptr;
}

}  // namespace promptkd::test
