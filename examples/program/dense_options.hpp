// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "progress.hpp"
#include "text_options.hpp"
#include "unused.hpp"

#include <promptkd/experiment/segmentation.hpp>

// How pictures become label maps, as users say it: what `segment`, `detect` and `evaluate --masks` share.
namespace promptkd::cli {

/// The model, the classes and how patches are read.
struct DenseFlags {
    std::string class_names, background, positions = "shifted", odd = "stretch", dilations;
    TextFlags texts;
    double area = 0;
    Index pamr = 0;
    SegmentationSpec spec;

    /// The specification. Throws Error for what does not go together.
    SegmentationSpec finish(const Common& common) {
        DenseQuerySpec& queries = spec.queries;
        if (!class_names.empty()) queries.lines = names_of_option("--class-names", class_names, &read_text_lines);
        queries.model.images = common.weights_options.images;
        if (!common.weights.empty()) {
            require(!class_names.empty(), "a CLIP model needs --class-names");
            nlohmann::json unused;
            texts.apply("folder:.", queries.pattern, queries.text, unused);
            queries.model = model_file(common);
            queries.vocabulary = vocabulary_path(common, common.weights);
        }
        if (!background.empty()) queries.background = comma_separated(background);
        queries.dense.positions = parse_position_rule(positions);
        spec.windows.odd = parse_odd_window(odd);
        if (area > 0) spec.decision.area = area;
        if (pamr > 0) {
            spec.pamr = PamrOptions{};
            spec.pamr->steps = pamr;
            if (!dilations.empty()) spec.pamr->dilations = numbers_of(dilations);
        }
        return spec;
    }

    /// With --weights the first word is a picture and no bundle: puts it before the others.
    void sort_words(const Common& common, std::vector<std::string>& pictures) {
        std::string& bundle = spec.queries.bundle;
        if (common.weights.empty() || bundle.empty()) return;
        pictures.insert(pictures.begin(), bundle);
        bundle.clear();
    }

private:
    static std::vector<Index> numbers_of(const std::string& text) {
        std::vector<Index> out;
        for (const std::string& word : comma_separated(text)) {
            char* end = nullptr;
            const long value = std::strtol(word.c_str(), &end, 10);
            require(!word.empty() && *end == '\0' && value > 0 && value < 10000, "--pamr-dilations: '", word,
                    "' is no distance in pixels");
            out.push_back(value);
        }
        return out;
    }
};

/// How patches are read.
inline void add_patch_options(CLI::App& c, DenseOptions& dense, std::string& positions) {
    c.add_option("--method", dense.method, "what the last block is: " + dense_method_names())
        ->check(parsed_by(&dense_method))
        ->capture_default_str();
    c.add_option("--sigma", dense.sigma, "of naclip's Gaussian, in patches")->check(positive())->capture_default_str();
    c.add_option("--positions", positions,
                 "positions at another size: shifted (SCLIP, ClearCLIP, NACLIP) or size (MaskCLIP, CLIPSelf)")
        ->check(CLI::IsMember({"shifted", "size"}))
        ->capture_default_str();
}

inline void add_dense_options(CLI::App& c, Common& common, DenseFlags& o) {
    c.add_option("--weights", common.weights, "instead of a bundle: CLIP weights");
    c.add_option("--prompts", o.spec.queries.prompts, "with --weights: learned prompts: " + prompt_files());
    c.add_option("--class-names", o.class_names,
                 "with --weights: file with a class a line, synonyms separated by commas; with a bundle: other names");
    c.add_option("--background", o.background, "with --weights: words of a class 0, background, separated by commas");
    add_weights_options(c, common.weights_options);
    add_exif_rotate(c);
    add_vocabulary(c, common);
    add_text_options(c, o.texts);
    add_patch_options(c, o.spec.queries.dense, o.positions);
    c.add_option("--window", o.spec.windows.window, "side of sliding windows in pixels; 0: the whole picture")
        ->check(whole_from(0, most_pixels))
        ->capture_default_str();
    c.add_option("--stride", o.spec.windows.stride, "pixels from a window to the next; 0: half a window")
        ->check(whole_from(0, most_pixels))
        ->capture_default_str();
    c.add_option("--odd-windows", o.odd,
                 "windows whose side is no multiple of the patch: stretch (SCLIP, NACLIP) or pad (ClearCLIP)")
        ->check(CLI::IsMember({"stretch", "pad"}))
        ->capture_default_str();
    c.add_option("--short-side", o.spec.short_side, "pictures are resized to it first; 0: as they are")
        ->check(whole_from(0, most_pixels))
        ->capture_default_str();
    c.add_option("--logit-scale", o.spec.decision.logit_scale, "factor of the cosines in front of the softmax")
        ->check(positive())
        ->capture_default_str();
    c.add_option("--threshold", o.spec.decision.threshold, "a pixel less sure than that becomes class 0")
        ->check(fraction())
        ->capture_default_str();
    c.add_option("--area", o.area, "classes from 1 on with no larger share of the foreground are left out; 0: none")
        ->check(fraction())
        ->capture_default_str();
    c.add_option("--pamr", o.pamr, "steps of refinement by the picture's colours; 0: none")
        ->check(whole_from(0, 1000))
        ->capture_default_str();
    c.add_option("--pamr-dilations", o.dilations, "distances of its neighbours, separated by commas (default: 8,16)");
    c.add_option("--batch", o.spec.queries.batch, "windows or regions a pass")
        ->check(whole_from(1))
        ->capture_default_str();
}

/// That `sigma` goes with methods that have one.
inline Unused unused_sigma(const std::vector<std::string>& methods, const char* sigma = "--sigma") {
    bool near = false;
    std::string which;
    for (const std::string& name : methods) near = near || dense_method(name).near;
    for (const DenseMethod& method : dense_methods)
        if (method.near) which += (which.empty() ? "--method " : " or ") + std::string(method.name);
    return {!near, "goes with " + which, {sigma}};
}

/// Options of which the segmentation makes no use that the others ask for.
inline std::vector<Unused> unused_dense_options(const DenseFlags& o, const Common& common) {
    return {{common.weights.empty(),
             "goes with --weights; a student bundle has its classes and their texts",
             {"--prompts", "--background", "--template", "--templates", "--descriptions", "--truncate", "--vocab"}},
            {common.weights.empty(),
             "goes with --weights; a student bundle says it itself",
             {"--activation", "--model-config"}},
            {o.spec.windows.window == 0, "goes with --window", {"--stride"}},
            {o.pamr == 0, "goes with --pamr", {"--pamr-dilations"}},
            unused_sigma({o.spec.queries.dense.method})};
}

}  // namespace promptkd::cli
