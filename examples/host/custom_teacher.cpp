// SPDX-License-Identifier: Apache-2.0
// A teacher of one's own (here: an ensemble that adds its logits on the host), images in memory, and a run that the
// host ends early. Writes student.safetensors.
#include <iostream>
#include <promptkd/promptkd.hpp>

namespace host_teacher {

using namespace promptkd;
using D = Cpu<float>;

/// Images that this program has from wherever: 64 grey pictures of 28 × 28.
inline std::vector<Image> pictures() {
    std::vector<Image> images;
    for (Index i = 0; i < 64; ++i) {
        Image image(28, 28);
        for (std::size_t p = 0; p < image.pixels.size(); ++p)
            image.pixels[p] = static_cast<std::uint8_t>((p / 3 * static_cast<std::size_t>(i + 7)) % 251);
        images.push_back(image);
    }
    return images;
}

/// Another opinion added to a CLIP teacher's logits: it leans towards the first class.
class Leaning final : public TeacherSource<D> {
public:
    Leaning(TeacherSource<D>& other, Index most) : other_(other), sum_(static_cast<std::size_t>(most * other.size())) {}
    Index size() const override { return other_.size(); }
    std::vector<Preprocessing> further_inputs(const Preprocessing& shared) override {
        return other_.further_inputs(shared);
    }
    void prepare(const Batch& batch, Index epoch) override { other_.prepare(batch, epoch); }
    const float* targets(const float* images, Index n) override {
        const float* theirs = other_.targets(images, n);  // on a Cpu device memory is host memory
        for (Index i = 0; i < n * size(); ++i)
            sum_[static_cast<std::size_t>(i)] = theirs[i] + (i % size() == 0 ? 0.5f : 0);
        return sum_.data();
    }

private:
    TeacherSource<D>& other_;
    std::vector<float> sum_;
};

}  // namespace host_teacher

int main(int argc, char** argv) {
    using namespace host_teacher;
    if (argc < 2) return 2;  // ASSETS
    const std::string assets = argv[1];
    D device;
    const std::vector<std::string> names = {"t-shirt", "trouser", "sneaker", "bag"};
    const TensorMap student_file = read_safetensors(assets + "/fashion_clip_student.safetensors");
    const ClipModel<D> teacher_model(device, read_safetensors(assets + "/fashion_clip_teacher.safetensors"));
    const ClipModel<D> student_model(device, student_file);
    const Tokenizer tokenizer = Tokenizer::from_file(assets + "/fashion_bpe.txt.gz");
    const auto vectors = class_vectors(device, teacher_model, tokenizer, names);
    LiveTeachers<D> clip(device, TeacherGives::logits, 8);
    clip.add(teacher_model, nullptr, vectors);
    Leaning teacher(clip, 8);

    Student<D> student(device, student_model, {4, 3, 2, teacher_model.vision().embed()}, 8);
    student.initialize(1);
    Distiller<D> distiller(student, {vectors, {}}, DistillationConfig{});
    TrainingLoopConfig run;
    run.schedule.max_epoch = 20;
    run.augmentation = Augmentation::none;
    run.should_stop = [](const Progress& at) { return at.epoch == 2; };
    const TrainingResult result = run_distillation(distiller, teacher, memory_dataset(pictures(), names), run);
    write_bundle("student.safetensors", student, student_file, vectors, names);
    std::cout << "epochs: " << result.progress.epoch << ", loss " << result.progress.first_loss << " -> "
              << result.progress.last_loss << "\n";
    return result.progress.epoch == 2 && result.stopped ? 0 : 1;
}
