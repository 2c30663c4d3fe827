// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "learner_case.hpp"

#include <promptkd/learner/conditional_trainer.hpp>

namespace promptkd::test {

/// CoCoOp: losses, gradients of context and meta-net, parameters, final logits.
template <class D>
void check_cocoop(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    const ClipModel<D> model(device, c.model("model"));
    const TokenRows tokens = token_rows(c, "tokens");
    const Index steps = c.shape("images")[0], batch = c.shape("images")[1], pixels = c.map.at("images").count() / steps,
                n = c.config.at("n_ctx");
    CoCoOp<D> learner(device, model, n);
    learner.params().load_all(subset(c, "init."));
    ConditionalTrainer<D> trainer(device, model, learner, tokens, ContextLayout::after_start(tokens.count, n),
                                  optimizer_config(c), batch);
    const std::vector<T> images = c.map.at("images").to<T>();
    const std::vector<std::int32_t> labels = c.map.at("labels").to<std::int32_t>();
    Buffer<D, T> input(device, pixels), logits(device, batch * trainer.classes());
    Buffer<D, std::int32_t> target(device, batch);
    for (Index i = 0; i < steps; ++i) {
        const std::string step = "step" + std::to_string(i) + ".";
        device.upload(input.data(), images.data() + i * pixels, static_cast<std::size_t>(pixels) * sizeof(T));
        device.upload(target.data(), labels.data() + i * batch, static_cast<std::size_t>(batch) * sizeof(std::int32_t));
        device.synchronize();
        trainer.step(input.data(), target.data(), batch, c.values(step + "lr").at(0));
        report.close(step + "loss", std::vector<double>{trainer.loss()}, c.values(step + "loss"), 1e-5);
        check_parameters(learner.params(), c, step + "grad.", true, 1e-4, report);
        check_parameters(learner.params(), c, step + "after.", false, 1e-4, report);
    }
    device.upload(input.data(), images.data(), static_cast<std::size_t>(pixels) * sizeof(T));
    device.synchronize();
    trainer.begin_evaluation();
    trainer.logits(input.data(), batch, logits.data());
    report.close("final.logits", logits.to_host(), c.values("final.logits"), 1e-4);
}

}  // namespace promptkd::test
