// SPDX-License-Identifier: Apache-2.0
// `promptkd detect`: boxes with classes in pictures: of given boxes, or of components that it finds.
#include "commands.hpp"
#include "dense_options.hpp"
#include "image_answers.hpp"

#include <promptkd/data/box_files.hpp>
#include <promptkd/data/image_inputs.hpp>
#include <promptkd/experiment/detection.hpp>
#include <promptkd/format/image.hpp>

#include <algorithm>

namespace promptkd::cli {

namespace {

struct Detect {
    Common common;
    DenseFlags flags;
    DetectionSpec spec;
    std::vector<std::string> inputs;
    std::string boxes, root, regions = "square", proposals = "components";

    int run() {
        flags.sort_words(common, inputs);
        require(inputs.empty() != boxes.empty(),
                "detect: give pictures, whose components are classified, or --boxes FILE, which names them");
        spec.segmentation = flags.finish(common);
        spec.regions = parse_region_source(regions);
        spec.proposals.segmentation = proposals == "segmentation";
        if (!common.out.empty()) require_writable(common.out);
        BoxFile file;
        if (!boxes.empty()) {
            file = read_boxes(boxes, root);
        } else {
            file.images = image_inputs(inputs);
            for (std::size_t i = 0; i < file.images.size(); ++i) file.ids.push_back(static_cast<std::int64_t>(i));
        }
        int status = 0;
        with_device<CpuPrecisions::fp32>(common, [&](auto& device) {
            using D = std::remove_reference_t<decltype(device)>;
            ProgramObserver observer(common.output);
            Detector<D> detector(device, spec, observer);
            if (!common.out.empty()) require_categories(file, detector.class_names());
            status = detect_all(detector, file);
        });
        return status;
    }

private:
    /// COCO's results name categories by the ids of the box file. Where that knows some of the classes it must know
    /// all, or the number of a class would be taken for the id of another category.
    void require_categories(const BoxFile& file, const std::vector<std::string>& names) const {
        const auto unknown = [&](const std::string& name) { return !file.categories.contains(name); };
        const auto first = std::find_if(names.begin(), names.end(), unknown);
        if (first == names.end() || std::all_of(names.begin(), names.end(), unknown)) return;
        fail(boxes, ": has no category '", *first, "', which --out needs an id for; name the classes as it does");
    }

    template <class F>
    int detect_all(F& detector, const BoxFile& file) {
        ImageAnswers answers;
        nlohmann::json results = nlohmann::json::array();
        for (std::size_t i = 0; i < file.images.size(); ++i)
            answers.add(file.images[i], [&] {
                const std::vector<Detection> found = detect(detector, file, i);
                for (const Detection& one : found) results.push_back(coco_result(one, file, i, detector.class_names()));
                return answer(file.images[i], found, detector.class_names());
            });
        if (!common.out.empty()) write_atomically(common.out, json_text(results) + "\n");
        common.output.write(answers.all());
        return answers.status();
    }

    template <class F>
    std::vector<Detection> detect(F& detector, const BoxFile& file, std::size_t i) const {
        const Image picture = read_image(file.images[i]);
        if (boxes.empty()) return detector.detect(picture, file.images[i]);
        std::vector<Box> given;
        for (const FileBox& box : file.boxes[i])
            given.push_back({box.edges[0], box.edges[1], box.edges[2], box.edges[3]});
        return detector.classify(picture, given, file.images[i]);
    }

    nlohmann::json answer(const std::string& file, const std::vector<Detection>& found,
                          const std::vector<std::string>& names) const {
        std::ostream& text = common.output.text();
        nlohmann::json list = nlohmann::json::array();
        char line[128];
        for (const Detection& one : found) {
            const std::string& name = names[static_cast<std::size_t>(one.label)];
            list.push_back(
                {{"class", name}, {"score", one.score}, {"box", {one.box.x0, one.box.y0, one.box.x1, one.box.y1}}});
            std::snprintf(line, sizeof line, " %.1f%%  %g %g %g %g", 100 * one.score, one.box.x0, one.box.y0,
                          one.box.x1, one.box.y1);
            text << printable(file) << ": " << name << line << std::endl;
        }
        if (found.empty()) text << printable(file) << ": nothing found" << std::endl;
        return {{"file", file}, {"boxes", list}};
    }

    /// A record of COCO's results: category ids of the box file by name, else the number of the class from 1 on.
    static nlohmann::json coco_result(const Detection& one, const BoxFile& file, std::size_t i,
                                      const std::vector<std::string>& names) {
        const auto category = file.categories.find(names[static_cast<std::size_t>(one.label)]);
        return {{"image_id", file.ids[i]},
                {"category_id", category == file.categories.end() ? one.label + 1 : category->second},
                {"bbox", {one.box.x0, one.box.y0, one.box.x1 - one.box.x0, one.box.y1 - one.box.y0}},
                {"score", one.score}};
    }
};

}  // namespace

void add_detect(CLI::App& app, Action& action) {
    auto o = std::make_shared<Detect>();
    CLI::App& c = *app.add_subcommand(
        "detect", "boxes with classes, from a student bundle alone or a CLIP model with class names");
    c.add_option("bundle,--bundle", o->flags.spec.queries.bundle, "student bundle (not with --weights)");
    c.add_option("images", o->inputs, "pictures, folders of pictures, lists: their components are classified")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    c.add_option("--boxes", o->boxes,
                 "instead of pictures: boxes to classify, COCO's JSON, records {\"file\", \"boxes\": [[left, top, "
                 "right, bottom]]}, or a table file,x0,y0,x1,y1");
    c.add_option("--images", o->root, "with --boxes: folder of the pictures (default: that of the file)");
    c.add_option("--regions", o->regions,
                 "what of a box is classified: square (a crop of its longer side), centered (its pixels in the middle "
                 "of the model's image), roi (RoIAlign on the patches: for densely distilled students)")
        ->check(CLI::IsMember({"square", "centered", "roi"}))
        ->capture_default_str();
    c.add_option("--proposals", o->proposals,
                 "boxes that nobody gave: components of the foreground, or of the segmentation inside it")
        ->check(CLI::IsMember({"components", "segmentation"}))
        ->capture_default_str();
    c.add_option("--foreground", o->spec.proposals.foreground, "a pixel with a channel above it is foreground")
        ->check(whole_from(0, 255))
        ->capture_default_str();
    c.add_option("--least-pixels", o->spec.proposals.least, "smaller components are left out")
        ->check(whole_from(1))
        ->capture_default_str();
    c.add_option("--nms", o->spec.suppression, "boxes of a class that overlap a surer one more are left out; 1: none")
        ->check(fraction())
        ->capture_default_str();
    c.add_option("--least-score", o->spec.least_score, "boxes that are less sure are left out")
        ->check(fraction())
        ->capture_default_str();
    add_dense_options(c, o->common, o->flags);
    c.add_option("--out", o->common.out, "COCO's results JSON: image_id, category_id, bbox, score");
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &action] {
        if (o->flags.spec.queries.bundle.empty() && o->common.weights.empty()) throw CLI::RequiredError("bundle");
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
