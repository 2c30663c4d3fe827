// SPDX-License-Identifier: Apache-2.0
// A CLIP model as it is: class names in, probabilities out.
#include <iostream>
#include <promptkd/promptkd.hpp>

int main(int argc, char** argv) {
    using namespace promptkd;
    if (argc < 3) return 2;  // ASSETS IMAGE…
    const std::string assets = argv[1];
    Cpu<float> device;
    const ClipModel<Cpu<float>> model(device, read_safetensors(assets + "/fashion_clip_teacher.safetensors"));
    const Tokenizer tokenizer = Tokenizer::from_file(assets + "/fashion_bpe.txt.gz");
    const std::vector<std::string> names = {"t-shirt", "trouser", "sneaker", "bag"};
    const auto vectors = class_vectors(device, model, tokenizer, names, {"a photo of a {}.", "a picture of a {}."});
    ZeroShotClassifier<Cpu<float>> clip(device, model, vectors, names);
    for (int i = 2; i < argc; ++i)
        for (const ClassProbability& best : clip.top_k(read_image(argv[i]), 2))
            std::cout << argv[i] << ": " << best.name << " " << best.probability << "\n";
    return 0;
}
