// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "promptkd_case.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/learner/aggregation.hpp>
#include <promptkd/learner/coop.hpp>
#include <promptkd/learner/ivlp.hpp>
#include <promptkd/learner/maple.hpp>
#include <promptkd/learner/trainer.hpp>

namespace promptkd::test {

inline OptimizerConfig optimizer_config(const GoldenCase& c) {
    OptimizerConfig config;
    const nlohmann::json& sgd = c.config.at("sgd");
    config.sgd = {sgd.at("momentum"), sgd.at("weight_decay"), sgd.value("dampening", 0.0),
                  sgd.value("nesterov", false)};
    return config;
}

template <class D>
std::unique_ptr<PromptLearner<D>> make_golden_learner(D& device, const ClipModel<D>& model, const GoldenCase& c,
                                                      const std::string& kind, ContextTexts& texts) {
    texts.tokens = token_rows(c, "tokens");
    const Index classes = texts.tokens.count;
    if (kind == "coop") {
        const Index n = c.config.at("n_ctx");
        const bool specific = c.config.value("csc", false);
        std::vector<Index> lengths(static_cast<std::size_t>(classes), 0);
        if (c.config.contains("name_lens")) lengths = c.config.at("name_lens").get<std::vector<Index>>();
        texts = arrange_context(texts.tokens, n, lengths, parse_context_position(c.config.at("position")), specific);
        return std::make_unique<CoOp<D>>(device, model, n, specific ? classes : 0);
    }
    if (kind == "maple") {
        texts.layout = ContextLayout::after_start(classes, c.config.at("n_ctx"));
        return std::make_unique<MaPLe<D>>(device, model, c.config.at("n_ctx"), c.config.at("depth"));
    }
    const nlohmann::json& d = c.config.at("design");
    const IndependentPrompts sizes{d.value("vision_ctx", 0), d.value("vision_depth", 0), d.value("language_ctx", 0),
                                   d.value("language_depth", 0)};
    if (sizes.text > 0 && sizes.text_depth > 0) texts.layout = ContextLayout::after_start(classes, sizes.text);
    return std::make_unique<Ivlp<D>>(device, model, sizes);
}

/// w_frozen: the raw features averaged over the templates, then normalised.
template <class D>
std::vector<typename D::Scalar> frozen_text(D& device, const ClipModel<D>& model, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    const TokenRows rows = token_rows(c, "template_tokens");
    const Index templates = c.shape("template_tokens")[0], values = rows.count / templates * model.text().embed();
    const std::vector<T> all = encode_texts(device, model, rows);
    std::vector<T> mean = average_rows(all, templates, values);
    report.close("fixed_text_features", mean, c.values("fixed_text_features"), 1e-4);
    normalize_rows(mean, model.text().embed());
    return mean;
}

/// Losses, gradients and parameters of every step, features and logits of the first, aggregated prompts, final logits.
template <class D>
void check_learner(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    const std::string kind = c.map.metadata.at("kind");
    const ClipModel<D> model(device, c.model("model"));
    ContextTexts texts;
    const auto learner = make_golden_learner(device, model, c, kind, texts);
    SelfRegulation<T> regulation;
    if (kind == "promptsrc") {
        regulation.frozen_text = frozen_text(device, model, c, report);
        regulation.text_weight = c.config.at("text_loss_weight");
        regulation.image_weight = c.config.at("image_loss_weight");
    }
    learner->params().load_all(subset(c, "init."));
    const Index steps = c.shape("images")[0], batch = c.shape("images")[1], pixels = c.map.at("images").count() / steps;
    const std::vector<T> images = c.map.at("images").to<T>();
    const std::vector<std::int32_t> labels = c.map.at("labels").to<std::int32_t>();
    Buffer<D, T> input(device, pixels), features(device, batch * model.vision().embed());
    Buffer<D, std::int32_t> target(device, batch);

    for (const bool plain :
         {true, false}) {  // first without the text branch's savings, then with them, from the same start
        Report quiet(report.name(), report.bounds());
        Report& to = plain ? quiet : report;
        learner->params().load_all(subset(c, "init."));
        PromptTrainer<D> trainer(device, model, *learner, texts.tokens, texts.layout, optimizer_config(c), regulation,
                                 batch, plain ? 3 : 0, TextSavings{!plain, !plain});
        std::optional<PromptAggregation<D>> aggregation;
        if (kind == "promptsrc")
            aggregation.emplace(learner->params(),
                                gaussian_weights(steps, c.config.at("gpa_mean"), c.config.at("gpa_std")));
        Buffer<D, T> logits(device, batch * trainer.classes());
        for (Index i = 0; i < steps; ++i) {
            const std::string step = "step" + std::to_string(i) + ".";
            device.upload(input.data(), images.data() + i * pixels, static_cast<std::size_t>(pixels) * sizeof(T));
            device.upload(target.data(), labels.data() + i * batch,
                          static_cast<std::size_t>(batch) * sizeof(std::int32_t));
            device.synchronize();
            if (i == 0 && c.has("step0.logits")) {
                const T* w = trainer.class_features();
                trainer.encode(input.data(), batch, features.data());
                trainer.logits_of(features.data(), w, logits.data(), batch);
                to.close("step0.logits", logits.to_host(), c.values("step0.logits"), 1e-4);
                if (c.has("step0.image_features"))
                    to.close("step0.image_features", features.to_host(), c.values("step0.image_features"), 1e-4);
            }
            trainer.step(input.data(), target.data(), batch, c.values(step + "lr").at(0));
            to.close(step + "loss", std::vector<double>{trainer.loss()}, c.values(step + "loss"), 1e-5);
            check_parameters(learner->params(), c, step + "grad.", true, 1e-4, to);
            if (aggregation) aggregation->add(i);
            if (aggregation && i + 1 == steps) aggregation->apply();
            check_parameters(learner->params(), c, step + "after.", false, 1e-4, to);
        }
        check_parameters(learner->params(), c, "gpa.", false, 1e-4, to);
        if (aggregation && c.has("gpa_weights"))
            to.close("gpa_weights", aggregation->weights(), c.values("gpa_weights"), 1e-5);
        device.upload(input.data(), images.data(), static_cast<std::size_t>(pixels) * sizeof(T));
        const T* w = trainer.class_features();
        trainer.encode(input.data(), batch, features.data());
        trainer.logits_of(features.data(), w, logits.data(), batch);
        to.close("final.logits", logits.to_host(), c.values("final.logits"), 1e-4);
        if (plain) report.check(quiet.failures() == 0, "without the text branch's savings, in class chunks: see above");
    }
}

}  // namespace promptkd::test
