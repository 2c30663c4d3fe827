// SPDX-License-Identifier: Apache-2.0
// Writes a student bundle of the published sizes (ViT-B/16, projector to 768, 100 classes) with random weights, for
// timing `promptkd classify` from exec to answer:  bundle FILE [--model ViT-B/16]
#include "support/random_model.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/evaluate/classifier.hpp>

#include <CLI/CLI.hpp>

namespace promptkd::bench {

namespace {

void write(const std::string& file, const std::string& size) {
    constexpr Index embed = 768, classes = 100;
    Cpu<float> device;
    const RandomModel<half> weights(model_size(size), false);
    const ClipModel<Cpu<float>> model(device, weights.map());
    StudentConfig config;
    config.embed = embed;
    Student<Cpu<float>> student(device, model, config, 1);
    student.initialize(1);
    std::vector<float> vectors(static_cast<std::size_t>(classes * embed));
    RandomStream random(1, 2);
    for (float& x : vectors) x = static_cast<float>(random.normal());
    normalize_rows(vectors, embed);
    std::vector<std::string> names;
    for (Index i = 0; i < classes; ++i) names.push_back("class " + std::to_string(i));
    write_bundle(file, student, weights.map(), vectors, names);
}

}  // namespace

}  // namespace promptkd::bench

int main(int argc, char** argv) {
    std::string file, model = "ViT-B/16";
    CLI::App app{"Writes a student bundle with random weights"};
    app.add_option("FILE", file, "where to")->required();
    app.add_option("--model", model, "the student's size")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        promptkd::bench::write(file, model);
    } catch (const std::exception& error) {
        std::cerr << "bundle: " << error.what() << std::endl;
        return 1;
    }
}
