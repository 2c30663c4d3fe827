// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tiny_clip.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/distill/student.hpp>

#include <string>
#include <vector>

namespace promptkd::test {

/// A student on tiny_clip() with random prompts, projector and statistics, and class vectors of `embed` values: what a
/// bundle is made of.
template <class D>
struct TinyStudent {
    using T = typename D::Scalar;
    static constexpr Index embed = 7, classes = 4;

    D device = make_device<D>();
    TensorMap model_map = tiny_clip();
    ClipModel<D> model{device, model_map};
    Student<D> student;
    std::vector<T> class_vectors = as<T>(numbers(classes * embed, 31));
    std::vector<std::string> class_names{"cat", "dog", "car", "fire truck"};

    static StudentConfig shape(Index prompts, Index depth, Index layers) {
        StudentConfig config;
        config.prompts = prompts;
        config.depth = depth;
        config.projector_layers = layers;
        config.embed = embed;
        return config;
    }

    explicit TinyStudent(const StudentConfig& config = shape(2, 2, 2)) : student(device, model, config, 3) {
        student.initialize(1);
        TensorMap state;
        student.save(state);
        unsigned seed = 100;
        for (auto& [name, tensor] : state.tensors) {  // prompts of 0.02 would hardly show, nor fresh statistics
            if (name.rfind("image_encoder.", 0) == 0)
                tensor = make_tensor(numbers(tensor.count(), ++seed), tensor.shape);
            if (name.find("running_var") == std::string::npos) continue;
            std::vector<double> variances = numbers(tensor.count(), ++seed);
            for (double& v : variances) v = 0.5 + v * v;
            tensor = make_tensor(variances, tensor.shape);
        }
        student.load(state);
        normalize_rows(class_vectors, embed);
    }

    /// Normalised features of `n` ≤ 3 host images, one plain inference pass.
    std::vector<T> features(const std::vector<T>& images, Index n) {
        Buffer<D, T> x(device, images);
        Buffer<D, T> u(device, n * embed);
        Arena<D> arena(device);
        {
            PlanningScope<D> planning(device);
            student.forward_inference(arena, x.data(), n, u.data());
        }
        arena.bind();
        arena.reset();
        student.forward_inference(arena, x.data(), n, u.data());
        return u.to_host();
    }
};

}  // namespace promptkd::test
