// SPDX-License-Identifier: Apache-2.0
#include "support/hostile_files.hpp"
#include "support/tiny_clip.hpp"

#include <promptkd/clip/checkpoint/inventory.hpp>
#include <promptkd/clip/checkpoint/layouts.hpp>

#include <doctest/doctest.h>

#include <set>

namespace schema_test {

namespace {

using namespace promptkd;
using schema::Layout;
using schema::Part;
using schema::Role;
using test::error_of;
using test::tiny_clip;

/// Those that hold all of CLIP's own tensors, and all.
constexpr Layout all_layouts[] = {Layout::openai, Layout::open_clip, Layout::huggingface};
constexpr Layout every_layout[] = {Layout::openai, Layout::open_clip, Layout::huggingface, Layout::siglip,
                                   Layout::timm};

/// Every tensor of an architecture of two blocks (two in each stage), the parts of a split one by one.
std::vector<schema::Weight> expand(const schema::Architecture& architecture, Layout layout) {
    std::vector<schema::Weight> all;
    for (const schema::Group& group : architecture.groups) {
        std::vector<schema::Numbers> numbers = {{0, 0}};
        if (schema::is_repeated(group)) numbers = {{0, 0}, {11, 0}};
        if (group.stages > 0) numbers = {{1, 0}, {1, 3}, {4, 0}, {4, 12}};
        for (const schema::Numbers& n : numbers)
            for (const schema::Row& row : group.rows) {
                schema::Weight w{&architecture, &group, &row, n, -1};
                if (schema::name_of(w, layout).empty()) continue;
                const bool split = schema::is_thirds(schema::cell_of(w, layout).form);
                for (w.third = split ? 0 : -1; w.third < (split ? 3 : 0); ++w.third) all.push_back(w);
            }
    }
    return all;
}

/// Tensors of ones for every row, with the rows' shapes.
void add_tensors(TensorMap& map, const schema::Architecture& architecture, const schema::Group& group,
                 const schema::Numbers& numbers, const schema::Sizes& sizes) {
    for (const schema::Row& row : group.rows) {
        const std::string name = schema::name_of({&architecture, &group, &row, numbers, -1});
        if (name.empty() || row.presence == schema::Presence::dropped) continue;
        if (row.role == Role::shortcut && numbers[1] > 0) continue;
        const Shape shape = schema::stored_shape(sizes.shape(row), schema::cell_of(group, row, Layout::openai).form);
        map.tensors[name] =
            make_tensor<float>(std::vector<float>(static_cast<std::size_t>(count_of(shape)), 1.0f), shape);
    }
}

/// A small ModifiedResNet (width 4, stages of 1, 1, 1 and 2 bottlenecks, images of 32 pixels) without a text branch.
TensorMap tiny_resnet() {
    TensorMap map;
    map.source = "tiny ResNet";
    map.tensors["logit_scale"] = make_tensor<float>({1}, {});
    ResNetConfig c;
    c.width = 4;
    c.grid = 1;
    c.embed = 6;
    schema::Sizes sizes = sizes_of(c);
    const auto& groups = schema::modified_resnet.groups;
    add_tensors(map, schema::modified_resnet, groups[0], {}, sizes);
    add_tensors(map, schema::modified_resnet, groups[2], {}, sizes);
    Index channels = 4;
    for (const schema::Numbers numbers : {schema::Numbers{1, 0}, {2, 0}, {3, 0}, {4, 0}, {4, 1}}) {
        const Index planes = Index{4} << (numbers[0] - 1);
        sizes.set(schema::Size::planes, planes).set(schema::Size::input, channels);
        add_tensors(map, schema::modified_resnet, groups[1], numbers, sizes);
        channels = 4 * planes;
    }
    return map;
}

/// What a ClipModel says of `map`; empty where it takes it.
std::string refusal(const TensorMap& map) {
    Cpu<float> device(1);
    std::string message;
    try {
        ClipModel<Cpu<float>> model(device, map);
    } catch (const Error& error) {
        message = error.what();
    }
    return message;
}

bool says(const std::string& message, const std::string& words) { return message.find(words) != std::string::npos; }

/// `map` as if it had been read from a file of `layout`.
TensorMap read_from(const TensorMap& map, Layout layout) {
    TensorMap out = to_openai(from_openai(map, layout), layout);
    out.metadata["naming"] = schema::name_of(layout);
    return out;
}

}  // namespace

TEST_CASE("schema: names are unique in every layout, and each is recognised as what it is") {
    for (const Layout layout : every_layout)
        for (const schema::Architecture* architecture : schema::architectures) {
            std::set<std::string> seen;
            for (const schema::Weight& w : expand(*architecture, layout)) {
                const std::string name = schema::name_of(w, layout);
                CAPTURE(name);
                CHECK(seen.insert(name).second);
                const auto back = schema::parse(*architecture, name, layout);
                REQUIRE(back.has_value());
                CHECK(back->row == w.row);
                CHECK(back->numbers == w.numbers);
                CHECK(back->third == w.third);
                CHECK_FALSE(schema::parse(*architecture, name + "x", layout));
                CHECK_FALSE(schema::parse(*architecture, "x" + name, layout));
                CHECK_FALSE(schema::parse(*architecture, name.substr(0, name.size() - 1), layout));
            }
        }
}

TEST_CASE("schema: architectures that share a name store it in the same form") {
    for (const schema::Weight& w : expand(schema::modified_resnet, Layout::openai)) {
        const auto other = schema::parse(schema::name_of(w));
        CHECK(schema::name_of(*other) == schema::name_of(w));
        CHECK(schema::cell_of(*other, Layout::openai).form == schema::cell_of(w, Layout::openai).form);
    }
}

TEST_CASE("schema: roles of a layer are found once") {
    for (const schema::Architecture* architecture : schema::architectures)
        for (const schema::Group& group : architecture->groups) {
            std::set<std::pair<Role, Part>> seen;
            for (const schema::Row& row : group.rows)
                if (row.role != Role::buffer)
                    CHECK(seen.insert({row.role, row.part}).second == (row.presence != schema::Presence::alternative));
        }
}

TEST_CASE("schema: numbers are those of blocks") {
    CHECK(schema::parse("visual.transformer.resblocks.11.ln_1.bias")->numbers[0] == 11);
    CHECK(schema::parse("visual.layer3.5.conv2.weight")->numbers == schema::Numbers{3, 5});
    for (const char* name :
         {"visual.transformer.resblocks.01.ln_1.bias", "visual.transformer.resblocks.1000.ln_1.bias",
          "visual.transformer.resblocks..ln_1.bias", "visual.transformer.resblocks.-1.ln_1.bias",
          "visual.layer5.0.conv1.weight", "visual.layer0.0.conv1.weight", "visual.layer1.conv1.weight", ""})
        CHECK_FALSE(schema::parse(name));
}

TEST_CASE("schema: a model goes into every layout and back, its values unchanged") {
    const TensorMap model = tiny_clip();
    for (const Layout layout : all_layouts) {
        const TensorMap there = from_openai(model, layout);
        CHECK(schema::layout_of(there) == layout);
        const TensorMap back = to_openai(there, layout);
        REQUIRE(back.tensors.size() == model.tensors.size());
        for (const auto& named : model.tensors) {
            CAPTURE(named.first);
            CHECK(back.at(named.first, named.second.shape).to<double>() == named.second.to<double>());
        }
    }
    CHECK(from_openai(model, Layout::huggingface).at("visual_projection.weight").shape == Shape{6, 12});
    CHECK(from_openai(model, Layout::huggingface).tensors.size() == model.tensors.size() + 5 * 4);
    CHECK(from_openai(model, Layout::open_clip).contains("text.text_projection"));
    CHECK(says(error_of([&] { from_openai(tiny_resnet(), Layout::huggingface); }), "Hugging Face's CLIP has no place"));
}

TEST_CASE("schema: buffers are left out, numbers beside the weights too") {
    const auto kept = [](const char* name, Layout layout) {
        TensorMap map;
        map.tensors[name] = make_tensor<std::int64_t>({0}, {1});
        return !to_openai(map, layout).tensors.empty();
    };
    CHECK_FALSE(kept("vocab_size", Layout::openai));
    CHECK_FALSE(kept("attn_mask", Layout::openai));
    CHECK_FALSE(kept("text.attn_mask", Layout::open_clip));
    CHECK_FALSE(kept("vision_model.embeddings.position_ids", Layout::huggingface));
    CHECK(kept("stranger", Layout::huggingface));
}

TEST_CASE("schema: sizes are read from the weights") {
    const VisionConfig v = vision_config(tiny_clip());
    CHECK(v.width == 12);
    CHECK(v.layers == 3);
    CHECK(v.heads == 3);
    CHECK(v.patch == 4);
    CHECK(v.resolution() == 8);
    CHECK(v.embed == 6);
    const TextConfig t = text_config(tiny_clip());
    CHECK(t.width == 10);
    CHECK(t.layers == 2);
    CHECK(t.vocabulary == 20);
    CHECK(t.context_length == 8);
    CHECK(t.embed == 6);
    const ResNetConfig r = resnet_config(tiny_resnet());
    CHECK(r.width == 4);
    CHECK(r.layers == std::vector<Index>{1, 1, 1, 2});
    CHECK(r.resolution() == 32);
    CHECK(r.heads == 2);
    CHECK(r.embed == 6);
    CHECK(schema::hidden_width(tiny_clip(), schema::vision_transformer) == 48);
    CHECK(schema::hidden_width(tiny_resnet(), schema::modified_resnet) == 0);
}

TEST_CASE("schema: architectures and branches are told apart") {
    CHECK(schema::has_vision_transformer(tiny_clip()));
    CHECK(schema::has_text_branch(tiny_clip()));
    CHECK(schema::image_architecture(tiny_resnet()) == &schema::modified_resnet);
    CHECK_FALSE(schema::has_text_branch(tiny_resnet()));
    CHECK(schema::image_architecture(TensorMap{}) == nullptr);
    CHECK(schema::is_image_weight("visual.attnpool.q_proj.bias"));
    CHECK(schema::is_image_weight("visual.transformer.resblocks.0.mlp.c_fc.bias"));
    CHECK_FALSE(schema::is_image_weight("transformer.resblocks.0.mlp.c_fc.bias"));
    CHECK_FALSE(schema::is_image_weight("logit_scale"));
    CHECK(schema::is_student_weight("logit_scale"));
    CHECK_FALSE(schema::is_student_weight("positional_embedding"));
    TensorMap prefixed;
    prefixed.tensors["params/visual.proj"] = make_tensor<float>({1}, {1});
    CHECK(schema::has_image_weights(prefixed, "params/"));
    CHECK_FALSE(schema::has_image_weights(prefixed));
}

TEST_CASE("schema: a complete model lacks nothing and is taken") {
    for (const TensorMap& map : {tiny_clip(), tiny_resnet()}) {
        CHECK(clip_inventory(map).missing.empty());
        CHECK(clip_inventory(map).unknown.empty());
        CHECK(refusal(map).empty());
    }
}

TEST_CASE("schema: every missing, misshapen or integer tensor is named") {
    for (const TensorMap& whole : {tiny_clip(), tiny_resnet()})
        for (const auto& named : whole.tensors) {
            const std::string& name = named.first;
            CAPTURE(name);
            const auto w = schema::parse(name);
            if (w->row->part == Part::norm_batches) continue;  // not read
            const bool marks_text = w->row->role == Role::token_table;
            TensorMap map = whole;
            map.tensors.erase(name);
            if (!marks_text) {
                const bool shortcut = w->row->role == Role::shortcut;
                CHECK(clip_inventory(map).missing ==
                      (shortcut ? std::vector<std::string>{} : std::vector<std::string>{name}));
                CHECK(says(refusal(map), ": tensor '" + name + "' is missing"));
            }
            Shape shape = named.second.shape;
            shape.push_back(2);
            map.tensors[name] =
                make_tensor<float>(std::vector<float>(static_cast<std::size_t>(count_of(shape)), 1.0f), shape);
            CHECK(says(refusal(map), ": tensor '" + name + "' has shape " + to_string(shape) + ", expected "));
            shape = named.second.shape;
            map.tensors[name] = make_tensor<std::int32_t>(
                std::vector<std::int32_t>(static_cast<std::size_t>(count_of(shape)), 1), shape);
            CHECK(says(refusal(map), "'" + name + "' has dtype i32, expected a floating-point type"));
            map = whole;
            map.tensors[name + ".extra"] = named.second;
            CHECK(clip_inventory(map).unknown == std::vector<std::string>{name + ".extra"});
            CHECK(refusal(map).empty());
        }
}

TEST_CASE("schema: every extent is checked against the model's sizes") {
    for (const TensorMap& whole : {tiny_clip(), tiny_resnet()})
        for (const auto& named : whole.tensors)
            for (std::size_t axis = 0; axis < named.second.shape.size(); ++axis) {
                if (schema::parse(named.first)->row->part == Part::norm_batches) continue;
                CAPTURE(named.first);
                CAPTURE(axis);
                TensorMap map = whole;
                Shape shape = named.second.shape;
                shape[axis] += 64;
                map.tensors[named.first] =
                    make_tensor<float>(std::vector<float>(static_cast<std::size_t>(count_of(shape)), 1.0f), shape);
                const auto row = schema::parse(named.first)->row;
                // The vocabulary and the length of texts are what they are.
                const bool free =
                    axis == 0 && (row->role == Role::token_table || named.first == "positional_embedding");
                CHECK(refusal(map).empty() == free);
            }
}

TEST_CASE("schema: missing and unknown tensors are listed") {
    const HostTensor one = make_tensor<float>({1}, {1});
    TensorMap map;
    map.tensors["visual.class_embedding"] = one;
    map.tensors["visual.transformer.resblocks.1.ln_1.bias"] = one;
    map.tensors["stranger"] = one;
    const Inventory inventory = clip_inventory(map);
    CHECK(inventory.unknown == std::vector<std::string>{"stranger"});
    CHECK(inventory.missing.size() == 8 + 24 + 1 - 2);
    CHECK(std::find(inventory.missing.begin(), inventory.missing.end(), "visual.transformer.resblocks.0.ln_1.bias") !=
          inventory.missing.end());
}

TEST_CASE("schema: a gap in the blocks is named") {
    TensorMap map = tiny_clip();
    for (const auto& named : tiny_clip().tensors)
        if (named.first.starts_with("visual.transformer.resblocks.1.")) map.tensors.erase(named.first);
    CHECK(says(refusal(map), "'visual.transformer.resblocks.1.ln_1.weight' is missing"));
    CHECK(clip_inventory(map).missing.size() == 12);
    for (const auto& named : tiny_clip().tensors)
        if (named.first.starts_with("visual.transformer.")) map.tensors.erase(named.first);
    CHECK(says(refusal(map), "no transformer blocks found under 'visual.transformer.resblocks.'"));
}

TEST_CASE("schema: errors use the names of the file") {
    const TensorMap whole = read_from(tiny_clip(), Layout::huggingface);
    TensorMap map = whole;
    map.tensors.erase("visual.ln_pre.bias");
    CHECK(says(refusal(map), "tensor 'vision_model.pre_layrnorm.bias' is missing"));
    map.tensors.erase("transformer.resblocks.1.attn.in_proj_bias");
    CHECK(clip_inventory(map).missing == std::vector<std::string>{"text_model.encoder.layers.1.self_attn.k_proj.bias",
                                                                  "text_model.encoder.layers.1.self_attn.q_proj.bias",
                                                                  "text_model.encoder.layers.1.self_attn.v_proj.bias",
                                                                  "vision_model.pre_layrnorm.bias"});
    map = whole;
    map.tensors["visual.proj"] = make_tensor<float>(std::vector<float>(66), {11, 6});
    CHECK(says(refusal(map), "tensor 'visual_projection.weight' has shape (6, 11), expected (6, 12)"));
    map = whole;
    map.tensors["visual.transformer.resblocks.0.attn.in_proj_weight"] =
        make_tensor<float>(std::vector<float>(396), {36, 11});
    CHECK(says(refusal(map),
               "tensor 'vision_model.encoder.layers.0.self_attn.{q,k,v}_proj.weight' has shape (12, 11), "
               "expected (12, 12)"));
    map = read_from(tiny_clip(), Layout::open_clip);
    map.tensors.erase("ln_final.bias");
    CHECK(says(refusal(map), "tensor 'text.ln_final.bias' is missing"));
}

TEST_CASE("schema: a trainable encoder's parameters are the weights of the image branch") {
    Cpu<double> device(1);
    const TensorMap map = tiny_clip();
    const ClipModel<Cpu<double>> model(device, map);
    VisionTransformer<Cpu<double>> encoder = model.vision().transformer();
    std::set<std::string> visited, expected;
    encoder.visit_weights([&](const std::string& name, const auto&, const double* gradient, const Shape& shape) {
        CHECK(gradient == nullptr);
        CAPTURE(name);
        CHECK(visited.insert(name).second);
        const HostTensor& file = map.at(name);
        CHECK(shape == (name == "visual.proj" ? Shape{6, 12} : file.shape));
        const HostTensor turned = schema::transposed_in_files(name, file);
        CHECK(turned.shape == shape);
        CHECK(schema::transposed_in_files(name, turned).to<double>() == file.to<double>());
    });
    for (const auto& named : map.tensors)
        if (schema::is_image_weight(named.first)) expected.insert(named.first);
    CHECK(visited == expected);
}

}  // namespace schema_test
