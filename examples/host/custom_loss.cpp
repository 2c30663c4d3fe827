// SPDX-License-Identifier: Apache-2.0
// A loss of one's own (KL divergence with a temperature that falls from 4 to 1), an optimizer of one's own (signs of
// the gradients), and a training loop of one's own.
#include <cmath>
#include <iostream>
#include <promptkd/promptkd.hpp>
#include <random>

namespace host_loss {

using namespace promptkd;
using D = Cpu<float>;

/// 1·τ²·KL(σ(q_t/τ) ‖ σ(q_s/τ)), q_s = exp(s)·u·Wᵀ. While a step is planned the device's operations do nothing, so
/// there is nothing to be asked for; only host code must not follow the pointers then.
class Annealed {
public:
    Annealed(Student<D>& student, const std::vector<float>& vectors)
        : embed_(student.config().embed),
          classes_(static_cast<Index>(vectors.size()) / embed_),
          scale_(student.logit_scale()),
          vectors_(student.device(), vectors),
          temperature_(std::make_shared<double>(4)) {}

    Index target_size() const { return classes_; }
    bool reads_encoded() const { return false; }
    void evaluate(const Workspace<D>& w, const StudentBatch<float>& in, const StudentGradients<float>& out) {
        const WorkspaceScope scope(w);
        const Matrix<float> logits = scratch<float>(w, in.unit.rows, classes_);
        const Matrix<float> d_logits = scratch<float>(w, in.unit.rows, classes_);
        cosine_logits(w.device, in.unit, vectors_.matrix(classes_, embed_), scale_, logits);
        distillation_loss(w, in.target, logits, d_logits, out.loss, {*temperature_, 1.0, Accumulate::no});
        cosine_logits_backward(w.device, d_logits, vectors_.matrix(classes_, embed_), scale_, out.d_unit);
    }
    const std::shared_ptr<double>& temperature() const { return temperature_; }

private:
    Index embed_, classes_;
    double scale_;
    Buffer<D, float> vectors_;
    std::shared_ptr<double> temperature_;
};

/// value[i] −= rate·sign(gradient[i])
struct SignUpdate {
    float* value;
    const float* gradient;
    float rate;
    template <class Lane>
    void operator()(const Lane& lane) const {
        using V = LaneValue<Lane>;
        const V g = lane.load(gradient);
        const V one = lane.fill(rate);
        lane.store(value, lane.value(lane.load(value) - lane.where_positive(g, one) + lane.where_positive(V(-g), one)));
    }
};

class SignDescent final : public Optimizer<D> {
public:
    explicit SignDescent(ParamSet<D>& params) : params_(params) {}
    void step(double rate, const float*) override {
        const SignUpdate update{params_.values(), params_.gradients(), static_cast<float>(rate)};
        params_.device().map(params_.size(), update);
    }
    void replayed() override {}
    void save(TensorMap&) const override {}
    void load(const TensorMap&) override {}

private:
    ParamSet<D>& params_;
};

}  // namespace host_loss

int main(int argc, char** argv) {
    using namespace host_loss;
    if (argc < 2) return 2;  // ASSETS
    const std::string assets = argv[1];
    D device;
    const std::vector<std::string> names = {"t-shirt", "trouser", "sneaker", "bag"};
    const ClipModel<D> teacher_model(device, read_safetensors(assets + "/fashion_clip_teacher.safetensors"));
    const ClipModel<D> student_model(device, read_safetensors(assets + "/fashion_clip_student.safetensors"));
    const auto vectors =
        class_vectors(device, teacher_model, Tokenizer::from_file(assets + "/fashion_bpe.txt.gz"), names);
    LiveTeachers<D> teacher(device, TeacherGives::logits, 8);
    teacher.add(teacher_model, nullptr, vectors);

    Student<D> student(device, student_model, {0, 0, 1, teacher_model.vision().embed()}, 8);
    student.initialize(1);
    Annealed objective(student, vectors);
    const std::shared_ptr<double> temperature = objective.temperature();
    Distiller<D, Annealed> distiller(student, std::move(objective), DistillationConfig{});
    distiller.use_optimizer(std::make_unique<SignDescent>(student.params()));

    const Index side = student_model.vision().resolution();
    Buffer<D, float> images(device, 8 * 3 * side * side);
    std::mt19937 random(1);
    double first = 0;
    double last = 0;
    for (int step = 0; step < 12; ++step) {
        *temperature = 4 - 3 * step / 11.0;
        std::vector<float> pixels(static_cast<std::size_t>(images.size()));
        for (float& p : pixels) p = static_cast<float>(random() % 1000) / 500 - 1;
        device.upload(images.data(), pixels.data(), pixels.size() * sizeof(float));
        distiller.step(images.data(), teacher.targets(images.data(), 8), 8, 1e-3);
        last = distiller.loss();
        if (step == 0) first = last;
    }
    std::cout << "loss " << first << " -> " << last << "\n";
    return std::isfinite(last) ? 0 : 1;
}
