// SPDX-License-Identifier: Apache-2.0
// What is in these pictures? A distilled student needs its bundle alone.
#include <iostream>
#include <promptkd/promptkd.hpp>
using namespace promptkd;

int main(int argc, char** argv) {
    if (argc < 3) return 2;  // BUNDLE IMAGE…
    Cpu<float> device;
    Classifier<Cpu<float>> student(device, read_safetensors(argv[1]), 8);
    std::vector<Image> images;
    for (int i = 2; i < argc; ++i) images.push_back(read_image(argv[i]));  // in memory: decode_image(bytes)
    const std::vector<float> p = student.classify(images);                 // (images, classes)
    for (std::size_t i = 0; i < images.size(); ++i) {
        std::cout << argv[i + 2] << ": probability of " << student.class_names()[0] << " "
                  << p[i * static_cast<std::size_t>(student.classes())] << "; likeliest:";
        for (const ClassProbability& best : student.top_k(images[i], 3))
            std::cout << " " << best.name << " " << best.probability;
        std::cout << "\n";
    }
    return 0;
}
