// SPDX-License-Identifier: Apache-2.0
// `promptkd encode`: features of images, texts or given tensors.
#include "commands.hpp"
#include "dense_options.hpp"
#include "progress.hpp"

#include <promptkd/data/class_names_file.hpp>
#include <promptkd/experiment/encoding.hpp>
#include <promptkd/experiment/patch_encoding.hpp>
#include <promptkd/format/xtensor.hpp>

#include <filesystem>
#include <system_error>

namespace promptkd::cli {

namespace {

struct Encode {
    Common common;
    EncodingSpec spec;
    std::string texts, positions = "shifted";
    PatchEncodingSpec patch;
    bool patches = false;

    int run() {
        if (patches) return run_patches();
        const int inputs = !spec.tensors.empty() + !texts.empty() + !common.data.empty();
        require(inputs == 1, "encode: give one of --tensors, --texts and --data");
        spec.model = model_file(common);
        spec.data = common.data;
        spec.storage = common.storage();
        if (!texts.empty()) {
            spec.texts = names_of_option("--texts", texts, &read_text_lines);
            spec.vocabulary = vocabulary_path(common, common.weights);
        }
        require_writable(common.out);
        if (is_npy()) require_writable(common.out + ".names");
        ProgramObserver observer(common.output);
        TensorMap features;
        with_device<CpuPrecisions::encoders>(common,
                                             [&](auto& device) { features = promptkd::run(device, spec, observer); });
        write(features);
        return 0;
    }

    int run_patches() {
        require(!common.data.empty() && texts.empty() && spec.tensors.empty(),
                "encode: --patches encodes the images of --data");
        require(common.weights.empty() != patch.bundle.empty(),
                "encode: --patches needs --weights or a student's --bundle, one of the two");
        patch.dense.positions = parse_position_rule(positions);
        patch.model = model_file(common);
        patch.data = common.data;
        patch.normalize = spec.normalize;
        patch.batch = spec.batch;
        require_writable(common.out);
        ProgramObserver observer(common.output);
        TensorMap features;
        with_device<CpuPrecisions::fp32>(common,
                                         [&](auto& device) { features = promptkd::run(device, patch, observer); });
        write(features);
        return 0;
    }

    bool is_npy() const { return common.out.size() > 4 && common.out.compare(common.out.size() - 4, 4, ".npy") == 0; }

    /// What an array cannot hold: the name of each row, one a line, beside it.
    void write_names(const TensorMap& out) const {
        const std::string path = common.out + ".names";
        for (const char* key : {"images", "texts"}) {
            const auto list = out.metadata.find(key);
            if (list == out.metadata.end()) continue;
            std::string lines;
            for (const auto& name : nlohmann::json::parse(list->second))
                lines += printable(name.get<std::string>()) + "\n";
            return write_atomically(path, lines);
        }
        std::error_code code;
        std::filesystem::remove(path, code);  // of another result under this name
    }

    void write(const TensorMap& out) const {
        const bool npy = is_npy();
        if (!npy) {
            write_safetensors(common.out, out);
        } else {
            require(out.tensors.size() == 1, "encode: a .npy file holds one array, this result has ",
                    out.tensors.size(), "; write .safetensors");
            write_npy(common.out, out.tensors.begin()->second);
            write_names(out);
        }
        for (const auto& [name, tensor] : out.tensors)
            common.output.text() << common.out << ": " << name << " " << to_string(tensor.shape) << std::endl;
    }
};

}  // namespace

void add_encode(CLI::App& app, Action& action) {
    auto o = std::make_shared<Encode>();
    CLI::App& c = *app.add_subcommand("encode", "features of images, of texts, or of given tensors");
    c.add_option("--weights", o->common.weights, "CLIP weights");
    add_weights_options(c, o->common.weights_options);
    c.add_option("--tensors", o->spec.tensors,
                 "safetensors with 'images' (n, 3, r, r; normalised) and/or 'tokens' (n, context length)");
    c.add_option("--data", o->common.data, "images: folder:ROOT, list:FILE, fashion-mnist:ROOT");
    c.add_option("--texts", o->texts, "file with one text a line");
    c.add_option("--template", o->spec.pattern, "with --texts: prompt text with {} for the line");
    add_exif_rotate(c);
    c.add_flag("--truncate", o->spec.truncate, "with --texts: cut those that are longer than the model's context");
    add_vocabulary(c, o->common);
    c.add_option("--out", o->common.out, "result, .safetensors or .npy")->required();
    c.add_flag("--patches", o->patches, "with --data: features of each patch (n, rows, columns, e)");
    c.add_option("--bundle", o->patch.bundle, "with --patches, instead of --weights: a student bundle");
    add_patch_options(c, o->patch.dense, o->positions);
    c.add_flag("--normalize", o->spec.normalize, "scale features to unit length (--data, --texts)");
    c.add_option("--batch", o->spec.batch, "images at a time")->check(whole_from(1))->capture_default_str();
    add_device(c, o->common);
    c.callback([o, &c, &action] {
        if (o->common.weights.empty() && o->patch.bundle.empty()) throw CLI::RequiredError("--weights");
        refuse_unused(c, {{!o->patches, "goes with --patches", {"--bundle", "--method", "--sigma", "--positions"}},
                          {o->texts.empty(), "goes with --texts", {"--template", "--truncate"}},
                          {!o->patch.bundle.empty(),
                           "goes with --weights; a student bundle says it itself",
                           {"--activation", "--model-config"}},
                          unused_sigma({o->patch.dense.method})});
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
