// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/closed_form/student_fit.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A fit in closed form of images that are divided into shards, each encoded by a process of its own that knows nothing
/// of the others. Shard i leaves its features and its sums in `<out>/shard-i-of-n`. Merging either runs all passes over
/// the shards' features, in their order and so with the bits of a single run, or, where these are too many to be
/// brought together, adds the shards' sums: of pass 1 first, then, after a second round of the shards, of pass 2.
template <Device D>
class ShardedFit {
public:
    /// Both must outlive this. Throws Error for moments or sums that do not belong to this run.
    ShardedFit(DistillationSetup<D>& setup, StudentFit<D>& fit) : setup_(setup), fit_(fit) {
        if (!setup.spec.scale.moments.empty()) given_ = read_own(setup.spec.scale.moments);
    }

    /// Writes the sums of this shard, whose images are encoded.
    void sum() {
        const ScaleSpec& scale = setup_.spec.scale;
        FitSums sums = fit_.first_sums(scale.shard.of(fit_.whole().count));
        if (given_) fit_.add_second(sums, given_->moments, nullptr);
        write(setup_.spec.folder() + "/sums.safetensors", sums);
        setup_.observer.on_note(
            concat("shard ", scale.shard.number, "/", scale.shard.count, ": ", sums.moments.images,
                   scale.moments.empty() ? " rows summed; merge the shards when all are done"
                                         : " rows summed behind the first layer; merge the shards when all are done"));
    }

    /// The fit of all shards; nothing where their sums need a second round, for which sums() is the file.
    std::optional<ClosedFormFit> merge(ClassGeometry& geometry) {
        if (given_) {
            require(given_->ridge.has_value(), given_->source,
                    ": moments alone; run the second round of each shard with them");
            return solve(geometry, std::move(*given_));
        }
        const std::vector<Shard> shards = find_shards(setup_.spec.loop.out);
        FitSums all = added(shards);
        if (all.ridge) return solve(geometry, std::move(all));
        const std::vector<std::string> folders = feature_folders(shards);
        if (!folders.empty()) {
            fit_.gather(folders);
            return fit_.solve(geometry);
        }
        write(setup_.spec.loop.out + "/moments.safetensors", all);
        setup_.observer.on_note(concat("the moments of all ", shards.size(), " shards: ", sums_,
                                       "; the shards' features are not here, so run the second round of each shard "
                                       "with these moments, and merge again"));
        return std::nullopt;
    }

    /// The file of sums that was written; empty: none.
    const std::string& sums() const { return sums_; }

private:
    std::optional<ClosedFormFit> solve(ClassGeometry& geometry, FitSums all) {
        setup_.observer.on_note(concat(all.moments.images,
                                       " rows known by their sums: the KL step, which needs a pass "
                                       "of its own, is left out"));
        return fit_.solve(geometry, std::move(all));
    }

    void write(const std::string& path, const FitSums& sums) {
        if (setup_.ranks.is_root()) write_sums(path, sums);
        sums_ = path;
    }

    /// Sums of all images of this run.
    FitSums read_own(const std::string& path) const {
        FitSums all = read_sums(path);
        require_own(all);
        all.require_complete(fit_.whole().count);
        return all;
    }

    void require_own(const FitSums& sums) const {
        const nlohmann::json images = fit_.image_sets();
        sums.require_run(fit_.run_identity());
        require(sums.images == images, sums.source,
                ": these sums are of other images: ", detail::identity_difference(sums.images.at(0), images.at(0)));
    }

    FitSums added(const std::vector<Shard>& shards) const {
        std::optional<FitSums> all;
        for (const Shard& shard : shards) {
            FitSums sums = read_sums(setup_.spec.loop.out + "/" + shard.name() + "/sums.safetensors");
            require_own(sums);
            if (all)
                all->merge(sums);
            else
                all = std::move(sums);
        }
        all->require_complete(fit_.whole().count);
        return std::move(*all);
    }

    /// Where the features of the shards are; empty: not all are here.
    std::vector<std::string> feature_folders(const std::vector<Shard>& shards) const {
        std::vector<std::string> folders;
        for (const Shard& shard : shards) {
            folders.push_back(StudentFit<D>::feature_folder(setup_.spec, shard));
            if (!std::filesystem::is_directory(folders.back())) return {};
        }
        return folders;
    }

    DistillationSetup<D>& setup_;
    StudentFit<D>& fit_;
    std::optional<FitSums> given_;  ///< sums of all images, from a file
    std::string sums_;
};

}  // namespace promptkd
