// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model_case.hpp"

#include <promptkd/distill/closed_form/predictor.hpp>

namespace promptkd::test {

/// A closed-form fit of given features (`in.*`) and what it predicts for other ones (`out.*`). Double: 1e-9 relative,
/// the temperature and what follows from it 1e-6; fp32: 2e-3, with the same λ, η and weight.
template <class D>
void check_closed_form(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    const auto in = [&](const char* name) { return c.map.at(concat("in.", name)).template to<double>(); };
    const auto rows = [&](const char* name) { return c.map.at(concat("in.", name)).template to<T>(); };
    const auto width = [&](const char* name) { return c.map.at(concat("in.", name)).shape.at(1); };
    ClassGeometry geometry;
    geometry.classes = c.map.at("in.class_vectors").shape.at(0);
    geometry.class_vectors = in("class_vectors");
    geometry.student_text = in("student_text");
    geometry.teacher_scale = in("scales").at(0);
    geometry.student_scale = in("scales").at(1);
    const Index e_s = width("student_features"), h = c.map.at("in.first_bias").count();
    // The file holds Rᵀ (h, e_s), as a Linear's weight is stored.
    const std::vector<double> stored = in("first_weight");
    ClosedFormSpec spec;
    spec.first = HiddenLayer{e_s, h, std::vector<double>(stored.size()), in("first_bias"), {}, {}};
    for (Index k = 0; k < h; ++k)
        for (Index j = 0; j < e_s; ++j)
            spec.first->weight[static_cast<std::size_t>(j * h + k)] = stored[static_cast<std::size_t>(k * e_s + j)];
    const FeaturesInMemory<T> features(rows("student_features"), e_s, rows("teacher_features_normalised"),
                                       width("teacher_features_normalised"));
    const ClosedFormFit fit = fit_closed_form(device, spec, features, geometry);

    const bool wide = std::is_same_v<T, double>;
    const auto close = [&](const char* name, const std::vector<double>& got, double tolerance) {
        report.close(concat("out.", name), got, c.map.at(concat("out.", name)).template to<double>(), tolerance);
    };
    const double fine = wide ? 1e-9 : 2e-3, same = wide ? 1e-9 : 1e-6, later = wide ? 1e-6 : 2e-3;
    close("mu", fit.hidden.mean, fine);
    close("var", fit.hidden.variance, fine);
    close("loo_kl", fit.divergences, fine);
    close("lambda_rel", {fit.rho}, same);
    close("lambda", {fit.lambda}, fine);
    close("B0", fit.ridge.weight, fine);
    close("c0", fit.ridge.bias, fine);
    close("eta", {fit.eta}, same);
    close("B", fit.output.weight, fine);
    close("c", fit.output.bias, fine);
    close("tz", {fit.temperature}, later);
    close("a_min", {fit.weight.least}, same);
    close("a", {fit.weight.chosen}, same);
    close("m", fit.guard->mean, fine);
    close("Ginv", fit.guard->precision, fine);
    close("cut", {fit.guard->cutoff}, fine);

    const std::vector<T> test = rows("test_features");
    const Index n = static_cast<Index>(test.size()) / e_s;
    const Buffer<D, T> x(device, test);
    ClosedFormPredictor<D> predictor(device, fit, geometry, n);
    const MixturePrediction p = predictor.predict(x.data(), n);
    close("p_kd", p.student, fine);
    close("p_zero_shot", p.zero_shot, later);
    close("weight", p.weight, later);
    close("p", p.probabilities, later);
}

}  // namespace promptkd::test
