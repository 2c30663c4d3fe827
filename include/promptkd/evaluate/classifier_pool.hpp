// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/classifier.hpp>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace promptkd {

/// How a ClassifierPool is made.
struct ClassifierPoolOptions {
    int callers = 0;                                ///< calls at the same time; 0: as many as the machine has cores
    int threads = 1;                                ///< of each call's device
    Index max_batch = 1;                            ///< images that are computed together
    WeightStorage storage = WeightStorage::packed;  ///< of the image encoder
};

/// A student that any number of threads may ask at the same time: one copy of the weights, and for each call that runs
/// a classifier with a device and an arena of its own. Calls beyond the number of classifiers wait.
template <Device D>
class ClassifierPool {
public:
    using T = typename D::Scalar;

    /// A device for each caller, made of options.threads. Throws Error when `bundle` is not a student bundle.
    ClassifierPool(const TensorMap& bundle,
                   const ClassifierPoolOptions& options) requires std::constructible_from<D, int>
        : ClassifierPool(make_devices(options), bundle, options) {}

    /// The same with devices that see the memory of the first one, one for each caller. Throws Error for none.
    ClassifierPool(std::vector<std::unique_ptr<D>> devices, const TensorMap& bundle,
                   const ClassifierPoolOptions& options)
        : devices_(std::move(devices)) {
        require(!devices_.empty(), "a ClassifierPool needs a device at least");
        for (const std::unique_ptr<D>& device : devices_) require(device != nullptr, "a device of a pool is null");
        weights_ = std::make_shared<const ClassifierWeights<D>>(*devices_.front(), read_bundle(bundle),
                                                                options.max_batch, options.storage);
        for (const std::unique_ptr<D>& device : devices_)
            classifiers_.push_back(std::make_unique<Classifier<D>>(*device, weights_));
        for (const auto& classifier : classifiers_) free_.push_back(classifier.get());
    }
    ClassifierPool(const ClassifierPool&) = delete;
    ClassifierPool& operator=(const ClassifierPool&) = delete;

    /// The classes, in label order, equal names told apart.
    const std::vector<std::string>& class_names() const { return weights_->class_names(); }
    /// What the images go through.
    const Preprocessing& preprocessing() const { return weights_->model().preprocessing(); }
    /// Calls at the same time.
    int callers() const { return static_cast<int>(classifiers_.size()); }

    /// Probabilities (n, N) of n images, see Classifier::classify().
    std::vector<T> classify(std::span<const Image> images) const { return Lease(*this)->classify(images); }
    /// The `k` most likely classes of an image, see Classifier::top_k().
    std::vector<ClassProbability> top_k(const Image& image, Index k) const { return Lease(*this)->top_k(image, k); }
    /// The same with what a mixture thinks of the image.
    Classification judge(const Image& image, Index k) const { return Lease(*this)->judge(image, k); }

private:
    /// A free classifier, as long as this lives.
    class Lease {
    public:
        explicit Lease(const ClassifierPool& pool) : pool_(pool) {
            std::unique_lock lock(pool.mutex_);
            pool.freed_.wait(lock, [&] { return !pool.free_.empty(); });
            classifier_ = pool.free_.back();
            pool.free_.pop_back();
        }
        ~Lease() {
            {
                const std::lock_guard lock(pool_.mutex_);
                pool_.free_.push_back(classifier_);  // has room: it was taken from there
            }
            pool_.freed_.notify_one();
        }
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;
        Classifier<D>* operator->() const { return classifier_; }

    private:
        const ClassifierPool& pool_;
        Classifier<D>* classifier_ = nullptr;
    };

    static std::vector<std::unique_ptr<D>> make_devices(const ClassifierPoolOptions& options) {
        constexpr int most = 4096;
        require(options.callers >= 0 && options.callers <= most, "a pool for ", options.callers,
                " callers, expected 0 (as many as cores) to ", most);
        const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
        std::vector<std::unique_ptr<D>> devices;
        for (int i = 0; i < (options.callers > 0 ? options.callers : cores); ++i)
            devices.push_back(std::make_unique<D>(options.threads));
        return devices;
    }

    std::vector<std::unique_ptr<D>> devices_;
    std::shared_ptr<const ClassifierWeights<D>> weights_;
    std::vector<std::unique_ptr<Classifier<D>>> classifiers_;
    mutable std::mutex mutex_;
    mutable std::condition_variable freed_;
    mutable std::vector<Classifier<D>*> free_;
};

}  // namespace promptkd
