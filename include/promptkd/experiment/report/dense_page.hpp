// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/label_map.hpp>
#include <promptkd/evaluate/dense/components.hpp>
#include <promptkd/evaluate/dense/overlap.hpp>
#include <promptkd/experiment/report/html.hpp>
#include <promptkd/experiment/report/pictures.hpp>
#include <promptkd/format/label_png.hpp>
#include <promptkd/format/png.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A model on pictures with masks: what it found on all of them, and its label maps of those that are shown.
struct DensePageModel {
    std::string name;              ///< for people
    Overlap overlap{0};            ///< over all pictures
    std::vector<LabelMap> labels;  ///< of the pictures that are shown
    std::optional<double> images;  ///< accuracy on whole images in percent, where it is known
};

/// Pictures before and after a dense distillation, on one page.
struct DensePage {
    std::string title, summary;          ///< above
    std::vector<std::string> classes;    ///< in label order
    std::vector<DensePageModel> models;  ///< in the order of the columns
    std::vector<Image> pictures;         ///< that are shown
    std::vector<LabelMap> truth;         ///< their masks; 255: not labelled
    int foreground = 16;                 ///< labels of darker pixels are not drawn
    Curve loss;                          ///< of the training
};

namespace detail {

/// A colour that tells a class from the others.
inline std::string class_colour(std::size_t c) {
    const auto rgb = voc_colour(static_cast<unsigned>(c + 1));
    return svg::format("#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
}

/// A picture under the colours of its labels, black where it is dark or the label is 255.
inline Image coloured(const Image& picture, const LabelMap& labels, int foreground) {
    Image out(picture.height, picture.width);
    const std::vector<std::uint8_t> shown = foreground_of(picture, foreground);
    for (std::size_t i = 0; i < shown.size(); ++i) {
        if (shown[i] == 0 || labels.labels[i] == ignored_label) continue;
        const auto rgb = voc_colour(labels.labels[i] + 1U);
        for (std::size_t c = 0; c < 3; ++c)
            out.pixels[3 * i + c] = static_cast<std::uint8_t>((picture.pixels[3 * i + c] + 2 * rgb[c]) / 3);
    }
    return out;
}

/// The columns of the pictures: the picture, each model's labels, the truth.
inline std::vector<std::string> page_columns(const DensePage& page) {
    std::vector<std::string> names{"picture"};
    for (const DensePageModel& model : page.models) names.push_back(model.name);
    names.emplace_back("mask");
    return names;
}

/// PNG files of a picture's row.
inline std::vector<std::string> page_row(const DensePage& page, std::size_t i) {
    std::vector<std::string> cells{encode_png(page.pictures[i])};
    for (const DensePageModel& model : page.models)
        cells.push_back(encode_png(coloured(page.pictures[i], model.labels.at(i), page.foreground)));
    cells.push_back(encode_png(coloured(page.pictures[i], page.truth.at(i), page.foreground)));
    return cells;
}

inline std::string percent(const std::optional<double>& value) {
    return value ? svg::format("%.1f", 100 * *value) : "–";
}

/// mIoU and accuracies of each model, IoU of each class.
inline std::string dense_table(const DensePage& page) {
    std::vector<std::string> head{"%"};
    for (const DensePageModel& model : page.models) head.push_back(model.name);
    std::string out = "<table class='figures'>\n" + html_head(head);
    const auto row = [&](const std::string& name, const auto& value) {
        std::vector<std::string> cells{name};
        for (const DensePageModel& model : page.models) cells.push_back(value(model));
        out += html_row(cells);
    };
    row("mIoU", [](const DensePageModel& m) { return percent(m.overlap.mean_iou()); });
    row("pixel accuracy", [](const DensePageModel& m) { return percent(m.overlap.pixel_accuracy()); });
    row("accuracy on images",
        [](const DensePageModel& m) { return m.images ? svg::format("%.1f", *m.images) : std::string("–"); });
    for (std::size_t c = 0; c < page.classes.size(); ++c)
        row("IoU of " + page.classes[c],
            [c](const DensePageModel& m) { return percent(m.overlap.iou(static_cast<Index>(c))); });
    return out + "</table>\n";
}

}  // namespace detail

/// The first `rows` pictures with their labels by each model and the truth, the classes' colours below, as one SVG.
inline std::string dense_picture(const DensePage& page, std::size_t rows) {
    constexpr double cell = 124, side = 112, top = 26;
    const std::vector<std::string> names = detail::page_columns(page);
    rows = std::min(rows, page.pictures.size());
    const double width = cell * static_cast<double>(names.size()) + 12;
    const double legend = top + cell * static_cast<double>(rows) + 12;
    const std::size_t in_row = 5;
    std::string out = svg::open(width, legend + 18 * static_cast<double>((page.classes.size() + in_row - 1) / in_row)) +
                      "<rect width='100%' height='100%' fill='white'/>\n";
    for (std::size_t k = 0; k < names.size(); ++k)
        out += svg::label(12 + cell * static_cast<double>(k), 17, names[k], "start");
    for (std::size_t i = 0; i < rows; ++i) {
        const std::vector<std::string> cells = detail::page_row(page, i);
        for (std::size_t k = 0; k < cells.size(); ++k)
            out += svg::format(
                       "<image x='%.0f' y='%.0f' width='%.0f' height='%.0f' "
                       "style='image-rendering:pixelated' href='data:image/png;base64,",
                       12 + cell * static_cast<double>(k), top + cell * static_cast<double>(i), side, side) +
                   base64(cells[k]) + "'/>\n";
    }
    const double step = (width - 12) / static_cast<double>(in_row);
    for (std::size_t c = 0; c < page.classes.size(); ++c) {
        const double x = 12 + step * static_cast<double>(c % in_row), y = legend + 18 * static_cast<double>(c / in_row);
        out += svg::rectangle({x, y - 9, 10, 10}, detail::class_colour(c)) +
               svg::label(x + 15, y, page.classes[c], "start");
    }
    return out + "</svg>\n";
}

/// The whole page, without links to anything and without scripts.
inline std::string to_html(const DensePage& page) {
    const std::string title = escape_markup(page.title);
    return "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n<title>" + title +
           "</title>\n<style>\n" + detail::page_style + "</style>\n</head>\n<body>\n<h1>" + title + "</h1>\n<p>" +
           escape_markup(page.summary) + "</p>\n" + detail::html_heading("Before and after") +
           dense_picture(page, page.pictures.size()) + detail::html_heading("Pixels") + detail::dense_table(page) +
           detail::html_heading("Training") + svg::open(470, 250) +
           svg::panel({page.loss}, "loss of the patches and the images", {60, 28, 395, 180}, AxisScale::logarithmic) +
           svg::label(257, 234, "training progress", "middle", detail::grey_text) + "</svg>\n</body>\n</html>\n";
}

}  // namespace promptkd
