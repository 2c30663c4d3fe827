// SPDX-License-Identifier: Apache-2.0
// The C interface (promptkd.h) on Cpu<float>: the shared library promptkd_c.
#include <promptkd/promptkd.h>
#include <promptkd/device/cpu.hpp>
#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/format/image.hpp>
#include <promptkd/format/safetensors.hpp>

#include <algorithm>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

using promptkd::Index;
using promptkd::require;

/// A student with its device. What does not change after opening is read without the lock.
struct promptkd_student {
    promptkd_student(const promptkd::TensorMap& bundle, int threads, int batch)
        : device(threads), classifier(device, bundle, batch) {}

    promptkd::Cpu<float> device;
    promptkd::Classifier<promptkd::Cpu<float>> classifier;
    std::mutex mutex;
};

namespace {

thread_local std::string last_error;

/// f(), or `failed` with the reason kept for promptkd_last_error().
template <class Result, class F>
Result guarded(Result failed, const F& f) noexcept {
    try {
        last_error.clear();
        return f();
    } catch (const std::bad_alloc&) {
        try {
            last_error = "not enough memory";
        } catch (...) {
        }
    } catch (const std::exception& error) {
        try {
            last_error = error.what();
        } catch (...) {
        }
    } catch (...) {
        try {
            last_error = "an unknown failure";
        } catch (...) {
        }
    }
    return failed;
}

/// A student is never null, and nobody else's.
template <class Student>
Student& checked(Student* student) {
    require(student != nullptr, "the student is null: it was not opened");
    return *student;
}

promptkd_student* open(const promptkd::TensorMap& bundle, int threads, int batch) {
    constexpr int most = 4096;
    require(threads >= 0 && threads <= most, "threads is ", threads, ", expected 0 (all processors) to ", most);
    require(batch >= 1 && batch <= most, "batch is ", batch, ", expected 1 to ", most);
    return std::make_unique<promptkd_student>(bundle, threads, batch).release();
}

/// The pixels of image `i`.
promptkd::Image pixels_of(const promptkd_image& image, int i) {
    const std::string name = promptkd::concat("image ", i);
    require(image.bytes != nullptr, name, ": bytes is null");
    if (image.width == 0) return promptkd::decode_image(static_cast<const std::byte*>(image.bytes), image.size, name);
    constexpr int most = 1 << 20;
    require(image.width > 0 && image.height > 0 && image.width <= most && image.height <= most, name, ": ", image.width,
            " x ", image.height, " pixels, expected 1 to ", most, " a side");
    const std::size_t row = 3 * static_cast<std::size_t>(image.width);
    const std::size_t stride = image.stride == 0 ? row : image.stride;
    require(stride >= row, name, ": rows of ", row, " bytes stand ", stride, " bytes apart");
    const std::size_t rows = static_cast<std::size_t>(image.height);
    require(stride <= (static_cast<std::size_t>(-1) - row) / rows && stride * (rows - 1) + row <= image.size, name,
            ": ", image.size, " bytes are too few for ", image.height, " rows, ", stride, " bytes apart");
    promptkd::Image copy(image.height, image.width);
    const auto* const from = static_cast<const std::uint8_t*>(image.bytes);
    for (std::size_t y = 0; y < rows; ++y) std::copy_n(from + y * stride, row, copy.pixels.data() + y * row);
    return copy;
}

}  // namespace

const char* promptkd_version(void) { return promptkd::version; }

const char* promptkd_last_error(void) { return last_error.c_str(); }

promptkd_student* promptkd_open(const char* path, int threads, int batch) {
    return guarded(static_cast<promptkd_student*>(nullptr), [&] {
        require(path != nullptr, "path is null");
        return open(promptkd::read_safetensors(path), threads, batch);
    });
}

promptkd_student* promptkd_open_bytes(const void* bytes, size_t size, int threads, int batch) {
    return guarded(static_cast<promptkd_student*>(nullptr), [&] {
        require(bytes != nullptr, "bytes is null");
        const std::span<const std::byte> file(static_cast<const std::byte*>(bytes), size);
        return open(promptkd::read_safetensors(file, "the bundle in memory"), threads, batch);
    });
}

void promptkd_close(promptkd_student* student) { delete student; }

int promptkd_classes(const promptkd_student* student) {
    return guarded(-1, [&] { return static_cast<int>(checked(student).classifier.classes()); });
}

const char* promptkd_class_name(const promptkd_student* student, int index) {
    return guarded(static_cast<const char*>(nullptr), [&] {
        const std::vector<std::string>& names = checked(student).classifier.class_names();
        require(index >= 0 && static_cast<std::size_t>(index) < names.size(), "class ", index, " of ", names.size());
        return names[static_cast<std::size_t>(index)].c_str();
    });
}

int promptkd_resolution(const promptkd_student* student) {
    return guarded(-1, [&] { return static_cast<int>(checked(student).classifier.preprocessing().height); });
}

int promptkd_classify(promptkd_student* student, const promptkd_image* images, int count, float* probabilities) {
    return guarded(-1, [&] {
        promptkd_student& s = checked(student);
        require(count >= 0, "count is ", count);
        require(count == 0 || (images != nullptr && probabilities != nullptr), "images or probabilities is null");
        std::vector<promptkd::Image> decoded;
        for (int i = 0; i < count; ++i) decoded.push_back(pixels_of(images[i], i));
        const std::lock_guard<std::mutex> lock(s.mutex);
        const std::vector<float> p = s.classifier.classify(decoded);
        std::copy(p.begin(), p.end(), probabilities);
        return 0;
    });
}
