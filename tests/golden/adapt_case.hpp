// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "promptkd_case.hpp"

#include <promptkd/distill/adapted_recipe.hpp>
#include <promptkd/evaluate/bundle.hpp>
#include <promptkd/optim/adam.hpp>
#include <promptkd/optim/gradient_norm.hpp>

#include <filesystem>

namespace promptkd::test {

/// Largest |got − want| as a share of max|want|, without the `share` of the entries that are worst.
inline double difference_but(const std::vector<double>& got, const std::vector<double>& want, double share) {
    if (got.size() != want.size()) return INFINITY;
    double magnitude = 0;
    std::vector<double> off;
    for (std::size_t i = 0; i < want.size(); ++i) {
        magnitude = std::max(magnitude, std::abs(want[i]));
        off.push_back(std::isfinite(got[i]) ? std::abs(got[i] - want[i]) : INFINITY);
    }
    std::sort(off.begin(), off.end());
    const auto left_out = static_cast<std::size_t>(share * static_cast<double>(off.size()) + 0.999);
    const double worst = off.size() > left_out ? off[off.size() - 1 - (share > 0 ? left_out : 0)] : 0;
    return magnitude > 0 ? worst / magnitude : worst;
}

/// A gradient, in the form of files.
template <class D>
std::vector<double> gradient_in_file(const ParamSet<D>& params, const std::string& name) {
    const HostTensor tensor = make_tensor(params.gradients_of(name), params.shape_of(name));
    return schema::transposed_in_files(name, tensor).template to<double>();
}

/// The gradients of the first step: 1e-4 of a tensor's largest entry. Those that BatchNorm removes are zero up to
/// rounding.
template <class D>
void check_adapted_gradients(const ParamSet<D>& params, const GoldenCase& c, Report& report) {
    const auto largest = [](const std::vector<double>& values) {
        double most = 0;
        for (const double v : values) most = std::max(most, std::abs(v));
        return most;
    };
    const double scale = largest(c.values("step1.grad." + projector_name(0, "weight")));
    for (const auto& [key, tensor] : c.map.tensors) {
        if (key.rfind("step1.grad.", 0) != 0) continue;
        const std::string name = key.substr(11);
        const std::vector<double> got = gradient_in_file(params, name);
        if (name == projector_name(0, "bias") || name == "visual.ln_post.bias")
            report.check(largest(got) <= 1e-4 * scale, concat(key, ": ", largest(got), " is not zero up to rounding"));
        else
            report.close(key, got, c.values(key), 1e-4);
    }
}

/// Three steps of an adapted student (LoRA or the whole encoder): logits, losses, gradients, norms, and what is learned
/// and counted in the end.
template <class D>
void check_adapt(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    const std::string file = std::filesystem::path(c.config.at("model").get<std::string>()).filename();
    const ClipModel<D> model(device, read_safetensors(c.directory + "/" + file + ".safetensors"));
    BundleParts parts;
    parts.learned = subset(c, "init.");
    parts.class_vectors = c.map.at("class_vectors");
    StudentConfig shape = student_config(parts);
    shape.training = parse_encoder_training(c.config.at("train"));
    const Index steps = c.shape("images")[0], batch = c.shape("images")[1], pixels = c.map.at("images").count() / steps;
    const Index classes = c.shape("class_vectors")[0];
    Student<D> student(device, model, shape, batch);
    student.initialize(1);
    student.load(parts.learned);
    DistillationConfig settings;
    settings.kd_weight = static_cast<double>(classes);  // KL as a mean over the batch alone
    Distiller<D> distiller(student, {c.map.at("class_vectors").to<T>(), {}}, settings);
    ParamSet<D>& params = student.params();
    const std::vector<RateGroup> groups = rate_groups(params, body_rates(c.config.at("body_factor").get<double>()));
    AdamConfig rule;
    rule.beta_1 = c.config.at("betas").at(0);
    rule.beta_2 = c.config.at("betas").at(1);
    rule.epsilon = c.config.at("eps");
    rule.weight_decay = c.config.at("weight_decay");
    rule.decoupled = true;
    Adam<D> optimizer(params, rule, groups);

    const std::vector<T> images = c.map.at("images").to<T>(), targets = c.map.at("teacher_logits").to<T>();
    Buffer<D, T> input(device, pixels), target(device, batch * classes), logits(device, batch * classes);
    const Buffer<D, T> vectors(device, c.map.at("class_vectors").to<T>());
    std::vector<double> losses, norms;
    for (Index i = 0; i < steps; ++i) {
        device.upload(input.data(), images.data() + i * pixels, static_cast<std::size_t>(pixels) * sizeof(T));
        device.upload(target.data(), targets.data() + i * batch * classes,
                      static_cast<std::size_t>(batch * classes) * sizeof(T));
        device.synchronize();
        params.clear_gradients();
        distiller.accumulate(input.data(), target.data(), batch);
        losses.push_back(distiller.loss());
        if (i == 0) {
            cosine_logits(device, distiller.student_features(), vectors.matrix(classes, shape.embed),
                          student.logit_scale(), logits.matrix(batch, classes));
            report.close("step1.student_logits", logits.to_host(), c.values("step1.student_logits"), 1e-4);
            check_adapted_gradients(params, c, report);
        }
        const nlohmann::json& clip = c.config.at("clip").at(static_cast<std::size_t>(i));
        GradientNorm<D> norm(params, groups, clip.is_null() ? 1e30 : clip.template get<double>());
        norm.clip();
        norms.push_back(norm.value());
        const double factor = c.config.at("rate_factors").at(static_cast<std::size_t>(i));
        optimizer.step(c.config.at("learning_rate").template get<double>() * factor);
    }
    const bool wide = std::is_same_v<T, double>;
    report.close("losses", losses, c.values("losses"), wide ? 1e-6 : 1e-5);
    report.close("gradient_norms", norms, c.values("gradient_norms"), wide ? 1e-6 : 1e-4);
    TensorMap state;
    student.save(state);
    for (const auto& [key, tensor] : c.map.tensors) {
        if (key.rfind("final.", 0) != 0) continue;
        const double off = difference_but(state.at(key.substr(6)).template to<double>(), tensor.template to<double>(),
                                          wide ? 0 : 0.001);
        report.check(off <= (wide ? 1e-6 : 5e-4), concat(key, ": ", off, " of its largest entry off"));
    }
}

}  // namespace promptkd::test
