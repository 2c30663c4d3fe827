// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/projector_tensors.hpp>
#include <promptkd/experiment/closed_form/features.hpp>
#include <promptkd/experiment/distillation_spec.hpp>
#include <promptkd/experiment/stage.hpp>

#include <unistd.h>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace promptkd {

/// Throws Error when the sums and the eigenvectors of a fit of this width are larger than the memory of the machine:
/// five matrices (h, h) in double at the same time.
inline void require_memory(Index width) {
    const double need = 5.0 * 8.0 * static_cast<double>(width) * static_cast<double>(width);
    const double have = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
    require(need < have, "a fit of width ", width, " needs ", std::llround(need / 1e9),
            " GB of memory, this machine has ", std::llround(have / 1e9), "; a width of ",
            static_cast<Index>(std::sqrt(have / 80)), " would fit");
}

/// The student and the images of a fit in closed form: no prompts, a wide projector, each image as it is; features of
/// e_s values.
inline void complete_closed_form(DistillationSpec& spec, Index student_width) {
    ClosedFormSpec& how = spec.closed_form;
    if (how.width == 0) how.width = default_hidden_width(student_width);
    require_memory(how.width);
    how.seed = spec.loop.seed;
    how.mix = spec.mixes();
    how.guard = spec.guards();
    spec.shape.prompts = 0;
    spec.shape.depth = 0;
    spec.shape.projector_layers = 2;
    spec.shape.hidden = how.width;
    spec.loop.augmentation = Augmentation::none;
    spec.loop.fixed_views = true;
}

/// The two halves of a student's fit in closed form: encoding each image once, and solving.
template <Device D>
class StudentFit {
public:
    using T = typename D::Scalar;

    /// All references must outlive this.
    StudentFit(D& device, const DistillationSpec& spec, Observer& observer, const Ranks<D>& ranks)
        : device_(device), spec_(spec), observer_(observer), ranks_(ranks), start_(Clock::now()) {}

    /// Encodes the images, divided among the ranks, by the student and the teachers; with `stored` the teachers' logits
    /// come from there. Several teachers, and stored ones, stand for one with the class vectors `vectors`.
    void encode(const ClipModel<D>& student, const Dataset& data, const TeacherSet<D>& teachers,
                const TargetTable* stored, const std::vector<T>& vectors) {
        const Index classes = data.classes();
        std::unique_ptr<LiveTeachers<D>> live;
        if (!stored) {
            const TeacherGives gives = teachers.size() == 1 ? TeacherGives::features : TeacherGives::logits;
            live = teachers.live(device_, gives, spec_.evaluation_batch);
        }
        PairEncoder<D> encoder(device_, student, live.get(), spec_.evaluation_batch, spec_.flip_rows);
        const EncodingStage how{"encode", spec_.evaluation_batch, observer_};
        FeatureSet<T> set = encode_images(device_, encoder, data, how, ranks_);
        PairRows<T> rows(set, encoder);
        if (stored) rows.teacher = table_rows<T>(*stored, set.indices);
        teacher_scale_ = stored ? 1 : teachers.model().logit_scale();
        if (stored || teachers.size() > 1)
            std::tie(rows.teacher, teacher_scale_) = features_of_logits(rows.teacher, vectors, classes);
        const Index e_t = static_cast<Index>(vectors.size()) / classes;
        features_.emplace(std::move(rows.student), encoder.student_width(), std::move(rows.teacher), e_t);
        unreadable_ = set.unreadable;
        encoding_seconds_ = lap();
    }

    /// The fit; `geometry` gets the scale of the teacher's logits.
    ClosedFormFit solve(ClassGeometry& geometry) {
        geometry.teacher_scale = teacher_scale_;
        std::optional<Stage> stage;
        std::string name;
        const auto progress = [&](const std::string& pass, Index done, Index total) {
            if (pass != name) stage.emplace(pass, "images", total, observer_);
            name = pass;
            stage->update(done);
            if (done == total) stage->end();
        };
        ClosedFormFit fit = fit_closed_form(device_, spec_.closed_form, *features_, geometry, progress);
        fit_seconds_ = lap();
        return fit;
    }

    /// Images that could not be decoded.
    Index unreadable() const { return unreadable_; }
    /// What the fit found, and how long it took.
    ClosedFormSummary summary(const ClosedFormFit& fit) const {
        return {fit.images, fit.hidden.width, fit.lambda, fit.rho, fit.eta, encoding_seconds_, fit_seconds_};
    }

private:
    using Clock = std::chrono::steady_clock;

    double lap() {
        const auto now = Clock::now();
        const double seconds = std::chrono::duration<double>(now - start_).count();
        start_ = now;
        return seconds;
    }

    D& device_;
    const DistillationSpec& spec_;
    Observer& observer_;
    const Ranks<D>& ranks_;
    Clock::time_point start_;
    std::optional<FeaturesInMemory<T>> features_;
    double teacher_scale_ = 1, encoding_seconds_ = 0, fit_seconds_ = 0;
    Index unreadable_ = 0;
};

}  // namespace promptkd
