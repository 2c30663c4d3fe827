// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/coop.hpp>
#include <promptkd/op/reduce.hpp>

/// KgCoOp (Yao et al., Visual-Language Prompt Tuning with Knowledge-guided Context Optimization, CVPR 2023): CoOp's
/// context vectors, with the loss of a batch
///
///     L = CE(p, y) + λ·(1 − mean_c cos(w_c, w₀_c)),    λ = 8
///
/// w_c: the class features with the learned context; w₀_c: those of the frozen model with the data set's hand-written
/// text. The paper (section 3.2) writes the mean squared distance of the normalised features, which is twice the mean
/// of 1 − cos; the published trainer computes the latter with this λ, and so does this file.

namespace promptkd {

namespace detail {

/// Of a row: row_loss = 1 − x·target, dx ← dx − scale·target.
template <class T>
struct CosineDistance {
    const T *x, *target;
    T *row_loss, *dx;
    Index d;
    T scale;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T *a = x + row * d, *b = target + row * d;
        T* out = dx + row * d;
        const T share = scale;
        const T cosine = team.sum(d, [=](const auto& lane) {
            using V = LaneValue<decltype(lane)>;
            const V t = lane.load(b);
            lane.store(out, lane.value(lane.load(out) - t * share));
            return lane.value(lane.load(a) * t);
        });
        team.once([this, row, cosine] { row_loss[row] = T(1) - cosine; });
    }
};

}  // namespace detail

/// λ·(1 − mean_c cos(w_c, w₀_c)).
template <Device D>
class KnowledgeGuidance final : public Regularization<D> {
public:
    using T = typename D::Scalar;

    /// `frozen` are w₀ (classes, embed), normalised. Throws Error for another number of classes.
    KnowledgeGuidance(D& device, const std::vector<T>& frozen, Index values, double weight)
        : frozen_(device, frozen), weight_(weight) {
        require(frozen_.size() == values, "KgCoOp: ", frozen_.size(), " frozen text values, expected ", values);
    }

    /// See Regularization.
    void add_feature_terms(const Workspace<D>& w, const LearnerStep<T>& s) override {
        const Index classes = s.w.rows, embed = s.w.columns;
        const double share = weight_ / static_cast<double>(classes);
        const WorkspaceScope scope(w);
        T* row_loss = scratch<T>(w, classes);
        w.device.rows(
            classes, 3 * embed,
            detail::CosineDistance<T>{s.w.data, frozen_.data(), row_loss, s.dw.data, embed, static_cast<T>(share)});
        sum(w.device, row_loss, s.loss, classes, share, Accumulate::yes);
    }

private:
    Buffer<D, T> frozen_;
    double weight_;
};

/// Its line in the registry. Published (the authors' configuration files for ViT-B/16 and base-to-novel): 100 epochs of
/// batches of 128, SGD 0.002, 4 context vectors that start from "a photo of a". Their checkpoints hold CoOp's `ctx`
/// beside `bias_vectors` and a `meta_net` that are never trained.
struct KgCoOpMethod : CoOpMethod {
    /// See LearnerInfo.
    static Recipe published(Index) { return {0.002, 100, 128, 0, 4, 1, {}}; }

    /// See LearnerInfo.
    static bool recognises(const TensorMap& map) { return detail::has_learner_tensor(map, "bias_vectors"); }

    /// The context alone.
    static TensorMap fixed_prompts(const TensorMap& map) {
        TensorMap out;
        out.metadata = map.metadata;
        out.source = map.source;
        out.tensors[context_name] = map.at(context_name);
        return out;
    }

    /// The registry's entry.
    static LearnerInfo info() {
        LearnerInfo info;
        info.name = "kgcoop";
        info.title = "KgCoOp";
        info.paper = "Yao et al., Visual-Language Prompt Tuning with Knowledge-guided Context Optimization, CVPR 2023";
        info.summary = "context vectors whose class features stay close to those of the hand-written text";
        info.options = {{"knowledge-weight", 8, "weight of the distance to the hand-written text's features"}};
        info.takes_position = true;
        info.published = &published;
        info.recognises = &recognises;
        info.fixed_prompts = &fixed_prompts;
        return info;
    }

    /// See training_texts().
    template <Device D>
    static std::vector<typename D::Scalar> frozen_features(const FrozenClip<D>& clip,
                                                           const std::vector<std::string>& names,
                                                           const ContextOptions& options) {
        const std::string& given = options.hand_written;
        return frozen_class_features(clip, names, std::vector<std::string>{given.empty() ? "a photo of a {}." : given});
    }

    /// See make_trainer().
    template <Device D>
    static std::unique_ptr<LearnerTrainer<D>> make_trainer(D& device, const ClipModel<D>& model,
                                                           PromptLearner<D>& learner,
                                                           const LearnerTexts<typename D::Scalar>& texts,
                                                           const Recipe& recipe, const TrainerOptions<D>& options) {
        std::unique_ptr<Regularization<D>> guidance;
        if (!texts.frozen.empty())
            guidance = std::make_unique<KnowledgeGuidance<D>>(device, texts.frozen,
                                                              texts.prompts.tokens.count * model.text().embed(),
                                                              recipe.option("knowledge-weight", 8));
        return std::make_unique<PromptTrainer<D>>(device, model, learner, texts.prompts, options, std::move(guidance));
    }
};

}  // namespace promptkd
