// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/feature_store.hpp>
#include <promptkd/distill/closed_form/projector_tensors.hpp>
#include <promptkd/distill/closed_form/sums_file.hpp>
#include <promptkd/experiment/closed_form/feature_identity.hpp>
#include <promptkd/experiment/closed_form/features.hpp>
#include <promptkd/experiment/stage.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// The two halves of a student's fit in closed form: encoding each image once, and solving.
template <Device D>
class StudentFit {
public:
    using T = typename D::Scalar;

    /// With the features that are there already. `setup` must outlive this. Throws Error for those of something else.
    explicit StudentFit(DistillationSetup<D>& setup)
        : setup_(setup),
          spec_(setup.spec),
          start_(Clock::now()),
          identity_(feature_identity(setup)),
          store_(options()) {
        require(setup.ranks.alone() || !feature_folder(spec_, spec_.scale.shard).empty(),
                "a fit in closed form by several processes needs an output folder: they share their features there");
        if (!spec_.scale.save_sums.empty() && setup.ranks.is_root()) require_writable(spec_.scale.save_sums);
        if (!spec_.scale.add_to.empty()) read_earlier();
    }

    /// Where the features of `shard` of a run are kept; empty: in memory.
    static std::string feature_folder(const DistillationSpec& spec, const Shard& shard) {
        const std::string part = shard.is_part() ? "/" + shard.name() : "";
        if (!spec.scale.features_cache.empty()) return spec.scale.features_cache + part;
        return spec.loop.out.empty() ? std::string() : spec.loop.out + part + "/features";
    }

    /// Encodes what is missing of the images `range`, divided among the ranks. False: it was interrupted.
    bool encode(const Slice& range) {
        const Slice mine = slice_of(range.count, setup_.ranks.rank(), setup_.ranks.size());
        const std::vector<Slice> missing = store_.missing({range.first + mine.first, mine.count});
        if (!missing.empty() && !encode_missing(missing, mine.count)) return false;
        setup_.ranks.barrier(setup_.device);
        if (!setup_.ranks.alone()) store_.reload();
        require_features(range);
        encoding_seconds_ += lap();
        return true;
    }

    /// Takes the features in these folders. Throws Error unless all images are there.
    void gather(const std::vector<std::string>& folders) {
        for (const std::string& folder : folders) store_.append(folder);
        require_features(whole());
        encoding_seconds_ += lap();
    }

    /// The fit of all images; `geometry` gets the scale of the teacher's logits.
    ClosedFormFit solve(ClassGeometry& geometry) {
        const ScaleSpec& scale = spec_.scale;
        geometry.teacher_scale = teacher_scale(store_.teacher_norm());
        if (scale.save_sums.empty() && scale.add_to.empty()) {
            ClosedFormFit fit = fit_closed_form(setup_.device, spec_.closed_form, store_, geometry, tell());
            fit_seconds_ += lap();
            return fit;
        }
        if (!scale.add_to.empty()) return solve(geometry, added_sums());
        FitSums sums = first_sums(whole());
        ClosedFormSolver<D> solver(setup_.device, spec_.closed_form, geometry);
        solver.begin(sums.moments);
        const std::vector<Index> chosen = chosen_rows();
        add_second_pass(sums, passes(), solver.hidden(), store_, chosen);
        if (setup_.ranks.is_root()) write_sums(scale.save_sums, sums);
        solver.solve_ridge(std::move(*sums.ridge), store_, chosen);
        if (spec_.closed_form.kl_step) solver.step(passes().step(solver.hidden(), solver.ridge(), geometry));
        ClosedFormFit fit = solver.finish();
        fit_seconds_ += lap();
        return fit;
    }

    /// The fit from sums alone, which are kept where that is asked for.
    ClosedFormFit solve(ClassGeometry& geometry, FitSums sums) {
        std::optional<double> norm;
        if (sums.norms > 0) norm = sums.norms / static_cast<double>(sums.moments.images);
        geometry.teacher_scale = teacher_scale(norm);
        if (!spec_.scale.save_sums.empty() && setup_.ranks.is_root()) write_sums(spec_.scale.save_sums, sums);
        ClosedFormFit fit = solve_sums(setup_.device, spec_.closed_form, std::move(sums), geometry);
        fit_seconds_ += lap();
        return fit;
    }

    /// Pass 1 of the images `range`, whose features are the ones there are.
    FitSums first_sums(const Slice& range) {
        FitSums sums;
        sums.source = "this run";
        sums.run = run_identity();
        sums.images = image_sets();
        sums.ranges = {range};
        sums.moments = passes().moments();
        if (const auto norm = store_.teacher_norm()) sums.norms = *norm * static_cast<double>(sums.moments.images);
        return sums;
    }

    /// Adds pass 2, behind a first layer with the statistics of `moments`, or with `fixed` ones.
    void add_second(FitSums& sums, const FeatureMoments& moments, const HiddenStatistics* fixed) {
        HiddenLayer layer = first_layer(spec_.closed_form, store_.student_width());
        Cpu<double> host;
        if (fixed) {
            layer.mean = fixed->mean;
            layer.variance = fixed->variance;
        } else {
            set_statistics(layer, moments, host);
        }
        add_second_pass(sums, passes(), layer, store_, chosen_rows());
    }

    /// What sums of this run have in common with others that can be added.
    nlohmann::json run_identity() const {
        nlohmann::json run = identity_.models;
        run["width"] = spec_.closed_form.width;
        run["seed"] = spec_.closed_form.seed;
        run["storage of the features"] = name_of(storage());
        return as_read(run);
    }
    /// The images of this run, as sums remember them.
    nlohmann::json image_sets() const { return nlohmann::json::array({as_read(identity_.images)}); }

    /// All images.
    Slice whole() const { return {0, setup_.images.train.size()}; }
    /// Images that could not be decoded.
    Index unreadable() const { return store_.unreadable(); }
    /// What the fit found, and how long it took.
    ClosedFormSummary summary(const ClosedFormFit& fit) const {
        return {fit.images, fit.hidden.width, fit.lambda, fit.rho, fit.eta, encoding_seconds_, fit_seconds_};
    }

private:
    using Clock = std::chrono::steady_clock;

    DType storage() const { return spec_.scale.features_cache.empty() ? dtype_of<T> : DType::f16; }

    FeatureStoreOptions options() const {
        FeatureStoreOptions o;
        if (!spec_.scale.merge) o.folder = feature_folder(spec_, spec_.scale.shard);
        o.keep_others = !spec_.scale.features_cache.empty();
        o.identity = identity_.all();
        o.type = storage();
        o.images = setup_.images.train.size();
        o.views = spec_.flip_rows ? 2 : 1;
        o.student_width = setup_.student_model.vision().embed();
        o.teacher_width = static_cast<Index>(setup_.vectors.size()) / setup_.classes();
        o.warn = [this](const std::string& text) { setup_.observer.on_warning(text); };
        return o;
    }

    double lap() {
        const auto now = Clock::now();
        const double seconds = std::chrono::duration<double>(now - start_).count();
        start_ = now;
        return seconds;
    }

    double teacher_scale(std::optional<double> norm) const {
        return norm ? *norm : setup_.teachers.model().logit_scale();
    }

    void require_features(const Slice& range) const {
        for (const Slice& gap : store_.missing(range))
            fail("the features of images ", gap.first, " to ", gap.first + gap.count - 1, " of ", whole().count,
                 " are missing", setup_.ranks.alone() ? "" : "; do all processes see the same output folder?");
    }

    bool encode_missing(const std::vector<Slice>& missing, Index images) {
        std::unique_ptr<LiveTeachers<D>> live;
        const bool logits = setup_.stored || setup_.teachers.size() > 1;
        if (!setup_.stored)
            live = setup_.teachers.live(setup_.device, logits ? TeacherGives::logits : TeacherGives::features,
                                        spec_.evaluation_batch);
        PairEncoder<D> encoder(setup_.device, setup_.student_model, live.get(), spec_.evaluation_batch,
                               spec_.flip_rows);
        RowMaker<D> rows(setup_.stored ? &setup_.stored->table : nullptr, logits, setup_.vectors, setup_.classes());
        Stage stage("encode", "images", images, setup_.observer);
        Index done = images;
        for (const Slice& gap : missing) done -= gap.count;
        stage.resume(done);
        bool interrupted = false;
        const auto keep = [&](const Batch& batch, const std::vector<T>& values) {
            store_.add(rows(batch, values, encoder));
            stage.update(done += batch.size);
            interrupted = setup_.ranks.alone() && setup_.observer.is_interrupted();
            return !interrupted;
        };
        for (const Slice& gap : missing) {
            store_.begin(gap.first);
            visit_features(setup_.device, encoder, setup_.images.train, gap, reading(), keep);
            if (interrupted) break;
            store_.end(gap.first + gap.count);
        }
        store_.save();
        if (!interrupted) stage.end();
        return !interrupted;
    }

    EvaluationOptions reading() const {
        EvaluationOptions options;
        options.batch = spec_.evaluation_batch;
        options.loader_threads = spec_.loop.loader_threads;
        options.warn = [this](const std::string& text) { setup_.observer.on_skipped(text); };
        return options;
    }

    /// Tells the observer of each pass, and divides the sums among the ranks.
    FitRunning<D> tell() {
        auto stage = std::make_shared<std::optional<Stage>>();
        auto name = std::make_shared<std::string>();
        const auto progress = [this, stage, name](const std::string& pass, Index done, Index total) {
            if (pass != *name) stage->emplace(pass, "images", total, setup_.observer);
            *name = pass;
            (*stage)->update(done);
            if (done == total) (*stage)->end();
        };
        return {progress, setup_.ranks};
    }

    ClosedFormPasses<D> passes() { return ClosedFormPasses<D>(setup_.device, store_, spec_.closed_form.block, tell()); }

    std::vector<Index> chosen_rows() const {
        const ClosedFormSpec& how = spec_.closed_form;
        return store_.rows_of(choice_subset(store_.numbered(), how.subset, how.seed));
    }

    /// Before the long part: sums that nothing can be added to are an early error.
    void read_earlier() {
        const std::string& file = spec_.scale.add_to;
        earlier_ = read_sums(file);
        earlier_->require_run(run_identity());
        require(earlier_->ridge.has_value(), file, ": moments alone; images can be added to the sums of a whole fit");
        earlier_->require_new(as_read(identity_.images));
    }

    /// This run's sums added to the earlier ones.
    FitSums added_sums() {
        const Index before = earlier_->moments.images;
        FitSums sums = first_sums(whole());
        add_second(sums, sums.moments, &earlier_->statistics);
        const Index added = sums.moments.images;
        earlier_->merge_further(std::move(sums), spec_.closed_form.subset, spec_.closed_form.seed);
        setup_.observer.on_note(concat(added, " images are added to the ", before, " of ", spec_.scale.add_to,
                                       "; the first layer keeps the statistics of the first fit, and the KL step, "
                                       "which would need the earlier images, is left out"));
        return std::move(*earlier_);
    }

    DistillationSetup<D>& setup_;
    const DistillationSpec& spec_;
    Clock::time_point start_;
    FeatureIdentity identity_;
    FeatureStore<T> store_;
    std::optional<FitSums> earlier_;  ///< to which this run's are added
    double encoding_seconds_ = 0, fit_seconds_ = 0;
};

}  // namespace promptkd
