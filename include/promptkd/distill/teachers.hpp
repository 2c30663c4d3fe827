// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/data/loader.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/distill/confidence.hpp>
#include <promptkd/distill/objective.hpp>
#include <promptkd/op/cosine.hpp>
#include <promptkd/train/label_feed.hpp>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Where a distillation's targets come from: a teacher's logits, or its normalised features, as the tensor that the
/// student imitates. Live teachers, stored targets, or a function of the user's; the Supervision of a StepPipeline.
template <Device D>
class TeacherSource {
public:
    using T = typename D::Scalar;
    virtual ~TeacherSource() = default;
    /// Values of one image's target.
    virtual Index size() const = 0;
    /// What its models take of an image beside `shared`, the input whose device images targets() gets. Asked once
    /// before the first batch, whose Batch::further then holds these inputs in this order.
    virtual std::vector<Preprocessing> further_inputs(const Preprocessing&) { return {}; }
    /// The host's part for a batch of epoch `epoch` (from 0), before its targets().
    virtual void prepare(const Batch&, Index) {}
    /// Mirrors the prepared batch's further inputs, left to right: targets() then gets mirrored images too.
    virtual void mirror() {}
    /// Targets (n, size()) of the prepared batch, whose `images` are in device memory; valid until the next prepare().
    virtual const T* targets(const T* images, Index n) = 0;
    /// Whether targets() is work of the device alone, which can be recorded and repeated.
    virtual bool recordable() const { return false; }
};

/// What of a teacher the student imitates.
enum class TeacherGives { logits, features };

/// How the answers of several teachers become one: the mean of their logits, or the mean of their probabilities, each
/// weighted by its teacher's confidence in the image, max p.
enum class TeacherWeights { mean, confidence };

/// "mean" or "confidence". Throws Error for any other.
inline TeacherWeights parse_teacher_weights(const std::string& name) {
    if (name == "mean") return TeacherWeights::mean;
    if (name == "confidence") return TeacherWeights::confidence;
    fail("unknown weights of teachers '", name, "'; known: mean, confidence");
}

/// Teachers at work. Logits exp(s_t)·u_t·W_tᵀ, each teacher with class vectors of its own, combined as
/// TeacherWeights says; or the normalised features of a single teacher.
template <Device D>
class LiveTeachers final : public TeacherSource<D> {
public:
    using T = typename D::Scalar;

    /// For batches of at most `max_batch` images.
    LiveTeachers(D& device, TeacherGives gives, Index max_batch, TeacherWeights weights = TeacherWeights::mean)
        : device_(device), gives_(gives), weights_(weights), max_batch_(max_batch) {}

    /// Adds a teacher: a model (which must outlive this), its prompts (may be null) and normalised class vectors
    /// (classes, e_t) on the host. Throws Error for a second teacher of features, or another number of classes.
    void add(const ClipModel<D>& model, const TensorMap* prompts, const std::vector<T>& class_vectors);
    void add(const ClipModel<D>&& model, const TensorMap* prompts, const std::vector<T>& class_vectors) = delete;

    bool recordable() const override { return true; }
    std::vector<Preprocessing> further_inputs(const Preprocessing& shared) override;
    void prepare(const Batch& batch, Index) override;
    void mirror() override;
    Index size() const override {
        return gives_ == TeacherGives::features ? teachers_.at(0).tower->embed() : teachers_.at(0).classes;
    }

    const T* targets(const T* images, Index n) override;

private:
    struct Teacher {
        std::unique_ptr<FrozenImageTower<D>> tower;
        Buffer<D, T> vectors;
        Index classes = 0;
        std::size_t input = 0;  ///< 0: the shared one, k: Batch::further[k − 1]
    };

    /// Images of an input of its own, always in the same place: a recorded step reads them there.
    struct Input {
        Index width;   ///< pixels of a row
        Index values;  ///< of an image
        StagedUpload<D, T> images;
        const float* prepared = nullptr;  ///< those of the batch, on the host
        Index count = 0;                  ///< their values
    };

    const T* images_of(const Teacher& t, const T* shared) const {
        return t.input == 0 ? shared : inputs_[t.input - 1].images.data();
    }

    const T* logits(Teacher& t, const T* images, Index n, T* out) {
        const T* u = t.tower->encode(images_of(t, images), n);
        const Index embed = t.tower->embed();
        cosine_logits(device_, Matrix<const T>(u, n, embed), t.vectors.matrix(t.classes, embed), t.tower->logit_scale(),
                      Matrix<T>(out, n, t.classes));
        return out;
    }

    D& device_;
    TeacherGives gives_;
    TeacherWeights weights_;
    Index max_batch_;
    std::vector<Teacher> teachers_;
    std::vector<Input> inputs_;
    Buffer<D, T> mean_, one_, confidence_;
};

template <Device D>
void LiveTeachers<D>::add(const ClipModel<D>& model, const TensorMap* prompts, const std::vector<T>& class_vectors) {
    Teacher t;
    t.tower = std::make_unique<FrozenImageTower<D>>(device_, model, prompts, max_batch_);
    t.classes = static_cast<Index>(class_vectors.size()) / t.tower->embed();
    require(t.classes > 0 && t.classes * t.tower->embed() == static_cast<Index>(class_vectors.size()),
            "class vectors: ", class_vectors.size(), " values are not rows of ", t.tower->embed());
    require(teachers_.empty() || gives_ == TeacherGives::logits,
            "features cannot be averaged over several teachers; give one teacher, or distil logits");
    require(teachers_.empty() || teachers_[0].classes == t.classes, "a teacher of ", t.classes,
            " classes beside one of ", teachers_.empty() ? 0 : teachers_[0].classes);
    t.vectors = Buffer<D, T>(device_, class_vectors);
    teachers_.push_back(std::move(t));
    if (gives_ == TeacherGives::features) return;
    mean_ = Buffer<D, T>(device_, max_batch_ * teachers_[0].classes);
    if (teachers_.size() < 2) return;
    one_ = Buffer<D, T>(device_, max_batch_ * teachers_[0].classes);
    confidence_ = Buffer<D, T>(device_, 2 * max_batch_);
}

template <Device D>
std::vector<Preprocessing> LiveTeachers<D>::further_inputs(const Preprocessing& shared) {
    inputs_.clear();
    std::vector<Preprocessing> further;
    for (Teacher& t : teachers_) {
        const Preprocessing& own = t.tower->preprocessing();
        const auto known = std::find(further.begin(), further.end(), own);
        t.input = own == shared ? 0 : static_cast<std::size_t>(known - further.begin()) + 1;
        if (t.input == 0 || known != further.end()) continue;
        further.push_back(own);
        const Index values = 3 * own.height * own.width;
        inputs_.push_back({own.width, values, StagedUpload<D, T>(device_, max_batch_ * values)});
    }
    return further;
}

template <Device D>
void LiveTeachers<D>::prepare(const Batch& batch, Index) {
    for (std::size_t k = 0; k < inputs_.size(); ++k) {
        Input& input = inputs_[k];
        input.prepared = batch.further.at(k).data();
        input.count = input.values * batch.size;
        std::copy_n(input.prepared, input.count, input.images.next());
        input.images.upload(input.count);
    }
}

template <Device D>
void LiveTeachers<D>::mirror() {
    for (Input& input : inputs_) {
        T* const to = input.images.next();
        for (Index row = 0; row < input.count; row += input.width)
            std::reverse_copy(input.prepared + row, input.prepared + row + input.width, to + row);
        input.images.upload(input.count);
    }
}

template <Device D>
const typename LiveTeachers<D>::T* LiveTeachers<D>::targets(const T* images, Index n) {
    if (gives_ == TeacherGives::features) return teachers_.at(0).tower->encode(images_of(teachers_.at(0), images), n);
    if (teachers_.size() == 1) return logits(teachers_[0], images, n, mean_.data());
    device_.zero(mean_.data(), static_cast<std::size_t>(n * size()) * sizeof(T));
    if (weights_ == TeacherWeights::confidence) {
        device_.zero(confidence_.data(), static_cast<std::size_t>(2 * max_batch_) * sizeof(T));
        const ConfidenceSums<T> sums{mean_.matrix(n, size()), confidence_.data(), confidence_.data() + max_batch_};
        for (Teacher& t : teachers_)
            add_confident(device_, Matrix<const T>(logits(t, images, n, one_.data()), n, size()), sums);
        confident_logits(device_, sums);
        return mean_.data();
    }
    for (Teacher& t : teachers_)
        add_scaled(device_, 1.0 / static_cast<double>(teachers_.size()), logits(t, images, n, one_.data()),
                   mean_.data(), n * size());
    return mean_.data();
}

/// What teachers have to give for a distillation loss.
inline TeacherGives given_by_teachers(KdLoss kd) {
    return kd == KdLoss::logits ? TeacherGives::logits : TeacherGives::features;
}

/// A teacher of the user's own: f(images, n) returns the targets (n, size) of n device images (n, 3, r, r), in device
/// memory, valid until it is called again.
template <Device D>
class FunctionTeacher final : public TeacherSource<D> {
public:
    using T = typename D::Scalar;
    /// f(images, n), see the class.
    using Function = std::function<const T*(const T* images, Index n)>;

    /// `size` values for each image. Throws Error without a function.
    FunctionTeacher(Index size, Function f) : size_(size), f_(std::move(f)) {
        require(size > 0 && f_, "a teacher needs a function and the number of values that it gives for an image");
    }

    Index size() const override { return size_; }
    const T* targets(const T* images, Index n) override { return f_(images, n); }

private:
    Index size_;
    Function f_;
};

PROMPTKD_COMPILED_CLASS(LiveTeachers);

}  // namespace promptkd
