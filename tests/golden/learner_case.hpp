// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "promptkd_case.hpp"

#include <promptkd/learner/registry.hpp>

namespace promptkd::test {

inline OptimizerConfig optimizer_config(const GoldenCase& c) {
    OptimizerConfig config;
    const nlohmann::json& sgd = c.config.at("sgd");
    config.sgd = {sgd.at("momentum"), sgd.at("weight_decay"), sgd.value("dampening", 0.0),
                  sgd.value("nesterov", false)};
    return config;
}

/// Sizes and numbers of a case; `steps` count as epochs.
inline Recipe golden_recipe(const GoldenCase& c, Index steps) {
    Recipe recipe;
    recipe.epochs = steps;
    recipe.text = c.config.value("n_ctx", Index{0});
    recipe.depth = c.config.value("depth", Index{1});
    if (c.config.contains("design")) {
        const nlohmann::json& design = c.config.at("design");
        const Index visual = design.value("vision_depth", Index{0}), text = design.value("language_depth", Index{0});
        recipe.visual = design.value("vision_ctx", Index{0});
        recipe.text = text > 0 ? design.value("language_ctx", Index{0}) : 0;
        recipe.depth = visual > 0 ? visual : text;
        recipe.text_depth = text;
    }
    const std::pair<const char*, const char*> numbers[] = {{"text-weight", "text_loss_weight"},
                                                           {"image-weight", "image_loss_weight"},
                                                           {"gaussian-mean", "gpa_mean"},
                                                           {"gaussian-deviation", "gpa_std"},
                                                           {"knowledge-weight", "knowledge_weight"}};
    for (const auto& [option, key] : numbers)
        if (c.config.contains(key)) recipe.options[option] = c.config.at(key);
    return recipe;
}

inline ContextOptions golden_context(const GoldenCase& c) {
    ContextOptions context;
    context.position = parse_context_position(c.config.value("position", "end"));
    context.class_specific = c.config.value("csc", false);
    return context;
}

/// The class prompts with the places of the context.
inline ContextTexts golden_texts(const GoldenCase& c, const Recipe& recipe) {
    ContextTexts texts;
    texts.tokens = token_rows(c, "tokens");
    if (recipe.text == 0) return texts;
    std::vector<Index> lengths(static_cast<std::size_t>(texts.tokens.count), 0);
    if (c.config.contains("name_lens")) lengths = c.config.at("name_lens").get<std::vector<Index>>();
    return arrange_context(texts.tokens, recipe.text, lengths, golden_context(c));
}

/// The frozen class features of a case that has texts for them, normalised; the raw mean is compared.
template <class D>
std::vector<typename D::Scalar> golden_frozen(D& device, const ClipModel<D>& model, const GoldenCase& c,
                                              Report& report) {
    if (!c.has("template_tokens")) return {};
    const TokenRows rows = token_rows(c, "template_tokens");
    const Index templates = c.shape("template_tokens")[0], classes = rows.count / templates;
    std::vector<TokenRows> texts;
    for (Index i = 0; i < templates; ++i) texts.push_back(rows.slice(i * classes, classes));
    std::vector<typename D::Scalar> mean = mean_text_features(device, model, texts);
    report.close("fixed_text_features", mean, c.values("fixed_text_features"), 1e-4);
    normalize_rows(mean, model.text().embed());
    return mean;
}

/// Logits of a batch with the present prompts.
template <class D>
std::vector<typename D::Scalar> golden_logits(D& device, LearnerTrainer<D>& trainer,
                                              const Buffer<D, typename D::Scalar>& images, Index batch) {
    Buffer<D, typename D::Scalar> logits(device, batch * trainer.classes());
    trainer.begin_evaluation();
    trainer.logits(images.data(), batch, logits.data());
    return logits.to_host();
}

/// Losses, gradients and parameters of every step, features and logits of the first, aggregated prompts, final logits.
template <class D>
void check_learner(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    const std::string kind = c.map.metadata.at("kind");
    const ClipModel<D> model(device, c.model("model"));
    const FrozenClip<D> clip{device, model};
    const Index steps = c.shape("images")[0], batch = c.shape("images")[1], pixels = c.map.at("images").count() / steps;
    const Recipe recipe = golden_recipe(c, steps);
    const LearnerTexts<T> texts{golden_texts(c, recipe), golden_frozen(device, model, c, report)};
    const auto learner = make_learner(kind, clip, recipe, golden_context(c), texts.prompts.tokens.count);
    const std::vector<T> images = c.map.at("images").to<T>();
    const std::vector<std::int32_t> labels = c.map.at("labels").to<std::int32_t>();
    Buffer<D, T> input(device, pixels), features(device, batch * model.vision().embed());
    Buffer<D, std::int32_t> label(device, batch);

    constexpr bool single = std::is_same_v<typename D::Activation, T>;
    for (const bool plain :
         {true, false}) {                // first without the text branch's savings, then with them, from the same start
        if (plain && !single) continue;  // what is saved does not depend on the precision
        Report quiet(report.name(), report.bounds());
        Report& to = plain ? quiet : report;
        learner->params().load_all(subset(c, "init."));
        TrainerOptions<D> options;
        options.optimizer = optimizer_config(c);
        options.max_batch = batch;
        options.class_chunk = plain ? 3 : 0;
        options.savings = TextSavings{!plain, !plain};
        const auto trainer = make_trainer(kind, clip, *learner, texts, recipe, options);
        for (Index i = 0; i < steps; ++i) {
            const std::string step = "step" + std::to_string(i) + ".";
            device.upload(input.data(), images.data() + i * pixels, static_cast<std::size_t>(pixels) * sizeof(T));
            device.upload(label.data(), labels.data() + i * batch,
                          static_cast<std::size_t>(batch) * sizeof(std::int32_t));
            device.synchronize();
            if (i == 0 && c.has("step0.logits"))
                to.close("step0.logits", golden_logits(device, *trainer, input, batch), c.values("step0.logits"), 1e-4);
            auto* both = dynamic_cast<PromptTrainer<D>*>(trainer.get());
            if (i == 0 && both && c.has("step0.image_features")) {
                both->encode(input.data(), batch, features.data());
                to.close("step0.image_features", features.to_host(), c.values("step0.image_features"), 1e-4);
            }
            trainer->step(input.data(), label.data(), batch, c.values(step + "lr").at(0));
            to.close(step + "loss", std::vector<double>{trainer->loss()}, c.values(step + "loss"), 1e-5);
            check_parameters(learner->params(), c, step + "grad.", true, 1e-4, to);
            trainer->end_epoch(i);
            if (i + 1 == steps) trainer->finish();
            check_parameters(learner->params(), c, step + "after.", false, 1e-4, to);
        }
        check_parameters(learner->params(), c, "gpa.", false, 1e-4, to);
        if (c.has("gpa_weights"))
            to.close("gpa_weights",
                     gaussian_weights(steps, recipe.option("gaussian-mean"), recipe.option("gaussian-deviation")),
                     c.values("gpa_weights"), 1e-5);
        device.upload(input.data(), images.data(), static_cast<std::size_t>(pixels) * sizeof(T));
        device.synchronize();
        to.close("final.logits", golden_logits(device, *trainer, input, batch), c.values("final.logits"), 1e-4);
        if (plain) report.check(quiet.failures() == 0, "without the text branch's savings, in class chunks: see above");
    }
}

}  // namespace promptkd::test
