// SPDX-License-Identifier: Apache-2.0
// `promptkd encode`: features of images, texts or given tensors.
#include "commands.hpp"
#include "models.hpp"

#include <promptkd/format/xtensor.hpp>

namespace promptkd::cli {

namespace {

struct Encode {
    Common common;
    std::string tensors, texts, pattern;
    Index batch = 32;
    bool normalize = false;

    int run() const {
        const int inputs = !tensors.empty() + !texts.empty() + !common.data.empty();
        require(inputs == 1, "encode: give one of --tensors, --texts and --data");
        with_device(common, [&](auto& device) { encode(device); });
        return 0;
    }

    template <class D>
    void encode(D& device) const {
        const TensorMap weights = load_weights(common);
        const ClipModel<D> model(device, weights, WeightStorage::packed);
        TensorMap out;
        if (!tensors.empty())
            encode_tensors(device, model, out);
        else if (!texts.empty())
            encode_lines(device, model, out);
        else
            encode_images(device, model, out);
        write(out);
    }

    template <class D>
    void encode_tensors(D& device, const ClipModel<D>& model, TensorMap& out) const {
        using T = typename D::Scalar;
        const TensorMap in = read_safetensors(tensors);
        require(in.contains("images") || in.contains("tokens"), tensors, ": holds neither 'images' nor 'tokens'");
        std::vector<T> image_features, text_features;
        const Index embed = model.vision().embed();
        if (in.contains("images")) {
            const HostTensor& images = in.at("images");
            const Index r = model.vision().resolution();
            require(images.shape.size() == 4 && images.shape[1] == 3 && images.shape[2] == r && images.shape[3] == r,
                    tensors, ": 'images' has shape ", to_string(images.shape), ", expected (n, 3, ", r, ", ", r, ")");
            image_features = encode_pixels(device, model, images);
            out.tensors["image_features"] = make_tensor(image_features, {images.shape[0], embed});
        }
        if (in.contains("tokens")) {
            const HostTensor& ids = in.at("tokens");
            require(ids.shape.size() == 2 && !is_floating(ids.dtype), tensors,
                    ": 'tokens' must be (n, context length) integers, found ", name_of(ids.dtype), " ",
                    to_string(ids.shape));
            const TokenRows rows{ids.to<std::int32_t>(), ids.shape[0], ids.shape[1]};
            text_features = promptkd::encode_texts(device, model, rows);
            out.tensors["text_features"] = make_tensor(text_features, {rows.count, embed});
        }
        if (image_features.empty() || text_features.empty()) return;
        const Index n = static_cast<Index>(image_features.size()) / embed,
                    classes = static_cast<Index>(text_features.size()) / embed;
        normalize_rows(image_features, embed), normalize_rows(text_features, embed);
        Buffer<D, T> u(device, image_features), w(device, text_features), logits(device, n * classes);
        cosine_logits(device, static_cast<const T*>(u.data()), static_cast<const T*>(w.data()), logits.data(), n,
                      classes, embed, model.logit_scale());
        out.tensors["logits"] = make_tensor(logits.to_host(), {n, classes});
    }

    template <class D>
    std::vector<typename D::Scalar> encode_pixels(D& device, const ClipModel<D>& model,
                                                  const HostTensor& images) const {
        using T = typename D::Scalar;
        FrozenImageTower<D> tower(device, model, nullptr, std::min(batch, images.shape[0]));
        const Index n = images.shape[0], size = 3 * tower.resolution() * tower.resolution();
        Buffer<D, T> pixels(device, tower.max_batch() * size);
        std::vector<T> all, host(static_cast<std::size_t>(tower.max_batch() * size));
        for (Index first = 0; first < n; first += tower.max_batch()) {
            const Index rows = std::min(tower.max_batch(), n - first);
            images.copy_to(host.data(), first * size, rows * size);
            device.upload(pixels.data(), host.data(), static_cast<std::size_t>(rows * size) * sizeof(T));
            const T* features = tower.encode_raw(pixels.data(), rows);
            all.resize(static_cast<std::size_t>((first + rows) * tower.embed()));
            device.download(all.data() + first * tower.embed(), features,
                            static_cast<std::size_t>(rows * tower.embed()) * sizeof(T));
        }
        return all;
    }

    template <class D>
    void encode_lines(D& device, const ClipModel<D>& model, TensorMap& out) const {
        const std::vector<std::string> lines = read_class_names(texts);
        const Tokenizer tokenizer = Tokenizer::from_file(vocabulary_path(common));
        const TokenRows rows =
            tokenize_classes(tokenizer, model.text().config(), common.weights, lines, pattern.empty() ? "{}" : pattern);
        auto features = promptkd::encode_texts(device, model, rows);
        if (normalize) normalize_rows(features, model.text().embed());
        out.tensors["text_features"] = make_tensor(std::move(features), {rows.count, model.text().embed()});
        out.metadata["texts"] = nlohmann::json(lines).dump();
    }

    template <class D>
    void encode_images(D& device, const ClipModel<D>& model, TensorMap& out) const {
        const Dataset data = open_dataset(common.data, Split::test, {}, FolderLabels::none);
        FrozenImageTower<D> tower(device, model, nullptr, batch);
        auto set = features_with_progress(
            device, data, tower.resolution(), tower.embed(), batch, "encode",
            [&](const auto* x, Index n) { return normalize ? tower.encode(x, n) : tower.encode_raw(x, n); });
        nlohmann::json files = nlohmann::json::array();
        for (const Index i : set.indices) files.push_back(data.item_name(i));
        out.tensors["image_features"] = make_tensor(std::move(set.values), {set.size(), tower.embed()});
        out.metadata["images"] = files.dump();
    }

    void write(const TensorMap& out) const {
        const bool npy = common.out.size() > 4 && common.out.compare(common.out.size() - 4, 4, ".npy") == 0;
        if (!npy) {
            write_safetensors(common.out, out);
        } else {
            require(out.tensors.size() == 1, "encode: a .npy file holds one array, this result has ",
                    out.tensors.size(), "; write .safetensors");
            write_npy(common.out, out.tensors.begin()->second);
        }
        for (const auto& [name, tensor] : out.tensors)
            common.output.text() << common.out << ": " << name << " " << to_string(tensor.shape) << std::endl;
    }
};

}  // namespace

void add_encode(CLI::App& app, Action& action) {
    auto o = std::make_shared<Encode>();
    CLI::App& c = *app.add_subcommand("encode", "features of images, of texts, or of given tensors");
    c.add_option("--weights", o->common.weights, "CLIP weights")->required();
    add_weights_options(c, o->common.weights_options);
    c.add_option("--tensors", o->tensors,
                 "safetensors with 'images' (n, 3, r, r; normalised) and/or 'tokens' (n, context length)");
    c.add_option("--data", o->common.data, "images: folder:ROOT, list:FILE, fashion-mnist:ROOT");
    c.add_option("--texts", o->texts, "file with one text a line");
    c.add_option("--template", o->pattern, "with --texts: prompt text with {} for the line");
    add_vocabulary(c, o->common);
    c.add_option("--out", o->common.out, "result, .safetensors or .npy")->required();
    c.add_flag("--normalize", o->normalize, "scale features to unit length (--data, --texts)");
    c.add_option("--batch", o->batch, "images at a time")->check(CLI::PositiveNumber)->capture_default_str();
    add_device(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

}  // namespace promptkd::cli
