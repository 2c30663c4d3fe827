// SPDX-License-Identifier: Apache-2.0
// `promptkd segment`: label maps of pictures, from a student bundle, or from a CLIP model with class names.
#include "commands.hpp"
#include "dense_options.hpp"
#include "image_answers.hpp"

#include <promptkd/data/image_inputs.hpp>
#include <promptkd/format/image.hpp>
#include <promptkd/format/npy.hpp>

#include <filesystem>
#include <set>
#include <system_error>

namespace promptkd::cli {

namespace {

/// The picture with the colours of its labels over it, half and half.
Image overlay(const Image& picture, const LabelMap& labels) {
    Image out(picture.height, picture.width);
    for (std::size_t i = 0; i < labels.labels.size(); ++i) {
        const auto colour = voc_colour(labels.labels[i]);
        for (std::size_t c = 0; c < 3; ++c)
            out.pixels[3 * i + c] = static_cast<std::uint8_t>((picture.pixels[3 * i + c] + colour[c]) / 2);
    }
    return out;
}

struct Segment {
    Common common;
    DenseFlags flags;
    std::vector<std::string> inputs, pictures;
    bool with_overlay = false, with_logits = false;
    std::set<std::string> taken;

    int run() {
        flags.sort_words(common, inputs);
        const SegmentationSpec spec = flags.finish(common);
        make_directories(common.out);
        int status = 0;
        with_device<CpuPrecisions::fp32>(common, [&](auto& device) {
            using D = std::remove_reference_t<decltype(device)>;
            ProgramObserver observer(common.output);
            ImageSegmenter<D> segmenter(device, spec, observer);
            status = segment_all(segmenter);
        });
        return status;
    }

private:
    template <class S>
    int segment_all(S& segmenter) {
        ImageAnswers answers;
        pictures = image_inputs(inputs);
        for (const std::string& file : pictures) answers.add(file, [&] { return segment(segmenter, file); });
        common.output.write(answers.all());
        return answers.status();
    }

    /// Where the results of a picture go, without an ending; pictures of one name are numbered. Throws Error where a
    /// picture would be written over.
    std::string result_path(const std::string& file) {
        const std::string stem = std::filesystem::path(file).stem().string();
        std::string name = stem;
        for (int n = 2; !taken.insert(name).second; ++n) name = concat(stem, "-", n);
        const std::string path = common.out + "/" + name;
        for (const char* ending : {".png", ".overlay.png"}) {
            std::error_code none;
            for (const std::string& picture : pictures)
                require(!std::filesystem::equivalent(path + ending, picture, none), picture,
                        ": the results would be written over this picture; give another folder for --out");
        }
        return path;
    }

    template <class S>
    nlohmann::json segment(S& segmenter, const std::string& file) {
        const Image picture = read_image(file);
        const Segmentation found = segmenter.segment(picture);
        const std::string path = result_path(file);
        write_labels(path + ".png", found.labels);
        if (with_overlay) write_png(path + ".overlay.png", overlay(picture, found.labels));
        if (with_logits)
            write_npy(path + ".npy", make_tensor(found.cosines.values,
                                                 {found.cosines.count, found.cosines.height, found.cosines.width}));
        nlohmann::json shares = nlohmann::json::array();
        std::ostream& text = common.output.text();
        text << printable(file) << ": " << path << ".png";
        char number[32];
        for (std::size_t c = 0; c < found.shares.size(); ++c) {
            if (found.shares[c] == 0) continue;
            const std::string& name = segmenter.class_names()[c];
            shares.push_back({{"class", name}, {"label", c}, {"share", found.shares[c]}});
            std::snprintf(number, sizeof number, " %.1f%%", 100 * found.shares[c]);
            text << "  " << name << number;
        }
        text << std::endl;
        return {{"file", file}, {"labels", path + ".png"}, {"shares", shares}};
    }
};

}  // namespace

void add_segment(CLI::App& app, Action& action) {
    auto o = std::make_shared<Segment>();
    CLI::App& c = *app.add_subcommand(
        "segment", "a class for each pixel, from a student bundle alone or a CLIP model with class names");
    c.add_option("bundle,--bundle", o->flags.spec.queries.bundle, "student bundle (not with --weights)");
    c.add_option("images", o->inputs, "pictures, folders of pictures, lists (.csv, .tsv, .txt, .json, .jsonl)")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    add_dense_options(c, o->common, o->flags);
    c.add_option("--out", o->common.out, "folder of the label maps: NAME.png, a number of a palette for each pixel")
        ->required();
    c.add_flag("--overlay", o->with_overlay, "also write NAME.overlay.png, the picture under its labels");
    c.add_flag("--logits", o->with_logits, "also write NAME.npy, the cosines (queries, height, width)");
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        if (o->flags.spec.queries.bundle.empty() && o->common.weights.empty()) throw CLI::RequiredError("bundle");
        if (o->inputs.empty() && (o->common.weights.empty() || o->flags.spec.queries.bundle.empty()))
            throw CLI::RequiredError("images");
        refuse_unused(c, unused_dense_options(o->flags, o->common));
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
