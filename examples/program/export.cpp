// SPDX-License-Identifier: Apache-2.0
// `promptkd export onnx`: a student bundle, or one encoder of a CLIP model, for other runtimes. No device is involved.
#include "commands.hpp"
#include "models.hpp"

#include <promptkd/deploy/huggingface_folder.hpp>

namespace promptkd::cli {

namespace {

struct ExportOnnx {
    Common common;
    std::string part;
    OnnxOptions options;

    int run() {
        options.elements = common.precision == "fp16" ? DType::f16 : DType::f32;
        const bool one_file = common.out.ends_with(".onnx");
        if (one_file)
            require_writable(common.out);
        else
            require_creatable(common.out);
        const TensorMap map = load_weights(common);
        const WeightsKind kind = classify_weights(map);
        if (kind == WeightsKind::bundle)
            export_student(map, one_file);
        else
            export_encoder(map, kind, one_file);
        common.output.text() << common.out << ": ONNX, opset " << OnnxGraph::opset << ", " << common.precision
                             << std::endl;
        common.output.write({{"file", common.out}, {"opset", int{OnnxGraph::opset}}, {"precision", common.precision}});
        return 0;
    }

    void export_student(const TensorMap& map, bool one_file) const {
        require(part.empty(), map.source, ": a student bundle is exported as a whole, without --part");
        const BundleParts parts = read_bundle(map);
        if (one_file)
            onnx_student(parts, options).write(common.out);
        else
            write_huggingface_onnx(parts, options, common.out);
    }

    void export_encoder(const TensorMap& map, WeightsKind kind, bool one_file) const {
        require(kind == WeightsKind::clip, map.source, ": neither a student bundle nor a CLIP model; there is nothing ",
                "to export: ", describe_tensors(map));
        require(!part.empty(), map.source, ": a CLIP model; say which encoder to export with --part image or --part ",
                "text");
        require(one_file, common.out, ": an encoder is exported to a file; give it a name that ends in .onnx");
        require(part == "image" || !options.raw_pixels, map.source, ": a text encoder has no preprocessing of images");
        if (part == "image")
            onnx_image_encoder(map, TensorMap(), options).write(common.out);
        else
            onnx_text_encoder(map, options).write(common.out);
    }
};

void add_onnx(CLI::App& app, Action& action) {
    auto o = std::make_shared<ExportOnnx>();
    CLI::App& c = *app.add_subcommand("onnx", "write an ONNX model that other runtimes run");
    c.add_option("in,--weights", o->common.weights, "student bundle, or CLIP weights with --part")->required();
    c.add_option("out,--out", o->common.out,
                 "file that ends in .onnx; another name is a folder of Hugging Face's layout: config.json with the "
                 "classes, preprocessor_config.json, onnx/model.onnx")
        ->required();
    c.add_option("--part", o->part, "of CLIP weights: image or text encoder")->check(CLI::IsMember({"image", "text"}));
    c.add_option("--precision", o->common.precision, "fp32 or fp16: of the weights and of the encoder's arithmetic")
        ->check(CLI::IsMember({"fp32", "fp16"}));
    c.add_flag("--with-preprocessing", o->options.raw_pixels,
               "images are bytes (batch, 3, r, r) of the right size; the model normalises them");
    c.add_flag("--features", o->options.features, "a second output: the student's normalised features");
    add_weights_options(c, o->common.weights_options);
    add_json(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
    CLI::App& c = *app.add_subcommand("export", "a student for other runtimes");
    c.require_subcommand(1);
    add_onnx(c, action);
}

}  // namespace promptkd::cli
