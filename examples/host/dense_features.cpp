// SPDX-License-Identifier: Apache-2.0
// Where in an image a CLIP model sees what: the class of each patch, by its first letters. DenseModel has the features.
#include <iostream>
#include <promptkd/evaluate/dense/segmenter.hpp>
#include <promptkd/promptkd.hpp>

int main(int argc, char** argv) {
    using namespace promptkd;
    if (argc < 3) return 2;  // ASSETS IMAGE…
    const std::string assets = argv[1];
    const TensorMap weights = read_safetensors(assets + "/fashion_clip_teacher.safetensors");
    Cpu<float> device;
    DenseModel<Cpu<float>> dense(device, weights, nullptr, DenseOptions(), 1);
    const Tokenizer tokenizer = Tokenizer::from_file(assets + "/fashion_bpe.txt.gz");
    const std::vector<std::string> names = {"t-shirt", "trouser", "sneaker", "bag"};
    const auto vectors = class_vectors(device, dense.model(), tokenizer, names, {"a photo of a {}."});
    Segmenter<Cpu<float>> segmenter(dense, vectors, WindowOptions());
    const Preprocessing& input = dense.model().preprocessing();
    for (int i = 2; i < argc; ++i) {
        Planes pixels(3, input.height, input.width);
        normalize_image(preprocess_image(read_image(argv[i]), input), pixels.values.data(), input);
        const Planes cosines = segmenter.patch_cosines(pixels);  // (names, rows, columns)
        for (Index y = 0; y < cosines.height; ++y) {
            for (Index x = 0; x < cosines.width; ++x) {
                std::size_t best = 0;
                for (std::size_t k = 1; k < names.size(); ++k)
                    if (cosines.row(static_cast<Index>(k), y)[x] > cosines.row(static_cast<Index>(best), y)[x])
                        best = k;
                std::cout << names[best].substr(0, 2) << " ";
            }
            std::cout << "\n";
        }
    }
    return 0;
}
