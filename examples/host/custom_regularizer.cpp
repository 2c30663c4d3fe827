// SPDX-License-Identifier: Apache-2.0
// A prompt learner with a regularisation of one's own: CoOp's context vectors, whose class features are kept close to
// those of the hand-written texts (KgCoOp's idea, with a mean squared distance).
#include <cmath>
#include <iostream>
#include <random>

#include <promptkd/promptkd.hpp>

namespace host_regularizer {

using namespace promptkd;
using D = Cpu<float>;

/// weight·mean(w − w₀)² over all class features
class StayClose final : public Regularization<D> {
public:
    StayClose(D& device, const std::vector<float>& frozen, double weight) : frozen_(device, frozen), weight_(weight) {}
    void add_feature_terms(const Workspace<D>& w, const LearnerStep<float>& s) override {
        add_squared_difference_loss(w, s.w, frozen_.matrix(s.w.rows, s.w.columns), weight_, s.dw, s.loss);
    }

private:
    Buffer<D, float> frozen_;
    double weight_;
};

}  // namespace host_regularizer

int main(int argc, char** argv) {
    using namespace host_regularizer;
    if (argc < 2) return 2;  // ASSETS
    const std::string assets = argv[1];
    D device;
    const ClipModel<D> model(device, read_safetensors(assets + "/fashion_clip_student.safetensors"));
    const Tokenizer tokenizer = Tokenizer::from_file(assets + "/fashion_bpe.txt.gz");
    const std::vector<std::string> names = {"t-shirt", "trouser", "sneaker", "bag"};
    const FrozenClip<D> clip{device, model, &tokenizer};
    const ContextOptions words;  // "a photo of a"

    CoOp<D> learner(device, model, 4);
    learner.initialize(1, initial_context(clip, 4, words));
    TrainerOptions<D> options;
    options.max_batch = 8;
    PromptTrainer<D> trainer(device, model, learner, context_texts(clip, names, 4, words), options,
                             std::make_unique<StayClose>(device, class_vectors(device, model, tokenizer, names), 8.0));

    std::mt19937 random(1);
    const Index side = model.vision().resolution();
    std::vector<float> pixels(static_cast<std::size_t>(8 * 3 * side * side));
    for (float& p : pixels) p = static_cast<float>(random() % 1000) / 500 - 1;
    const Buffer<D, float> images(device, pixels);
    const Buffer<D, std::int32_t> labels(device, std::vector<std::int32_t>{0, 1, 2, 3, 0, 1, 2, 3});
    double first = 0;
    for (int step = 0; step < 5; ++step) {
        trainer.step(images.data(), labels.data(), 8, 0.002);
        if (step == 0) first = trainer.loss();
    }
    std::cout << "loss " << first << " -> " << trainer.loss() << "\n";
    return std::isfinite(first) && trainer.loss() < first ? 0 : 1;
}
