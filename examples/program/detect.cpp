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
#include <cstdint>
#include <iostream>

namespace promptkd::cli {

namespace {

struct Detect {
    Common common;
    DenseFlags flags;
    DetectionSpec spec;
    std::vector<std::string> inputs;
    std::string boxes, root, regions = "square", proposals = "components";
    std::vector<std::int64_t> categories;  ///< COCO's ids of the classes; empty: numbers

    /// Throws for options that these boxes make no use of.
    void check_use(const CLI::App& c) const {
        const bool map = boxes.empty() && proposals == "segmentation";
        refuse_unused(
            c, {{boxes.empty(), "goes with --boxes", {"--images"}},
                {!boxes.empty(), "is about boxes that nobody gave", {"--proposals", "--foreground", "--least-pixels"}},
                {map, "--proposals segmentation has the classes of its pixels", {"--regions"}},
                {!map,
                 "goes with --proposals segmentation",
                 {"--window", "--stride", "--odd-windows", "--logit-scale", "--threshold", "--area", "--pamr",
                  "--pamr-dilations"}},
                {!map && regions != "roi",
                 "is about patches, which --regions roi and --proposals segmentation read",
                 {"--method", "--sigma", "--positions", "--short-side"}}});
        refuse_unused(c, unused_dense_options(flags, common));
    }

    int run() {
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
            if (!common.out.empty()) categories = categories_of(file, detector.class_names());
            status = detect_all(detector, file);
        });
        return status;
    }

private:
    /// COCO's results name categories by the ids of the box file. One that has categories must know all classes, or the
    /// number of a class would be taken for the id of another category. Empty: it has none.
    std::vector<std::int64_t> categories_of(const BoxFile& file, const std::vector<std::string>& names) const {
        std::vector<std::int64_t> ids;
        if (is_numbered(names) && file.categories.size() == names.size()) {
            for (const auto& [name, id] : file.categories) ids.push_back(id);
            std::sort(ids.begin(), ids.end());
            std::cerr << "warning: the student's classes have no names: they are the categories of " << printable(boxes)
                      << " in the order of their ids" << std::endl;
            return ids;
        }
        for (const std::string& name : names) {
            if (file.categories.empty()) break;
            const auto known = file.categories.find(name);
            require(known != file.categories.end(), boxes, ": has no category '", name,
                    "', which --out needs an id for; name the classes as it does, or give it without categories");
            ids.push_back(known->second);
        }
        return ids;
    }

    /// Whether these are the names of a student that has none.
    static bool is_numbered(const std::vector<std::string>& names) {
        for (std::size_t c = 0; c < names.size(); ++c)
            if (names[c] != concat("class ", c)) return false;
        return true;
    }

    template <class F>
    int detect_all(F& detector, const BoxFile& file) {
        ImageAnswers answers;
        nlohmann::json results = nlohmann::json::array();
        for (std::size_t i = 0; i < file.images.size(); ++i)
            answers.add(file.images[i], [&] {
                std::vector<std::string> faults;
                const std::vector<Detection> found = detect(detector, file, i, faults);
                for (const Detection& one : found) results.push_back(coco_result(one, file, i, detector.class_names()));
                nlohmann::json told = answer(file.images[i], found, detector.class_names());
                for (const std::string& fault : faults) answers.complain(fault);
                if (!faults.empty()) told["errors"] = faults;
                return told;
            });
        if (!common.out.empty()) write_atomically(common.out, json_text(results) + "\n");
        common.output.write(answers.all());
        return answers.status();
    }

    /// Boxes that cannot be are told in `faults`; the others of the picture are classified.
    template <class F>
    std::vector<Detection> detect(F& detector, const BoxFile& file, std::size_t i,
                                  std::vector<std::string>& faults) const {
        const Image picture = read_image(file.images[i]);
        if (boxes.empty()) return detector.detect(picture, file.images[i]);
        std::vector<Box> given;
        for (const FileBox& one : file.boxes[i]) {
            const Box box{one.edges[0], one.edges[1], one.edges[2], one.edges[3]};
            const std::string fault = box_fault(box, picture.width, picture.height);
            if (fault.empty())
                given.push_back(box);
            else
                faults.push_back(concat(file.images[i], ": ", fault));
        }
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

    /// A record of COCO's results: ids of the box file, else the number of the image from 0 on and that of the class
    /// from 1 on, with the names of both beside.
    nlohmann::json coco_result(const Detection& one, const BoxFile& file, std::size_t i,
                               const std::vector<std::string>& names) const {
        const auto label = static_cast<std::size_t>(one.label);
        const bool known = !categories.empty();
        nlohmann::json record = {{"image_id", file.ids[i]},
                                 {"category_id", known ? categories[label] : one.label + 1},
                                 {"bbox", {one.box.x0, one.box.y0, one.box.x1 - one.box.x0, one.box.y1 - one.box.y0}},
                                 {"score", one.score}};
        if (!file.has_ids) record["file_name"] = file.images[i];
        if (!known) record["category"] = names[label];
        return record;
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
    c.add_option("--out", o->common.out,
                 "COCO's results JSON: image_id, category_id, bbox, score; ids of --boxes where "
                 "that has COCO's, else numbers of images from 0, of classes from 1, and "
                 "their names beside");
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        if (o->flags.spec.queries.bundle.empty() && o->common.weights.empty()) throw CLI::RequiredError("bundle");
        o->flags.sort_words(o->common, o->inputs);
        if (o->inputs.empty() == o->boxes.empty())
            throw CLI::ValidationError(
                "images", "give pictures, whose components are classified, or --boxes FILE, which names them");
        o->check_use(c);
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
