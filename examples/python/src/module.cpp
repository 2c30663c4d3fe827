// SPDX-License-Identifier: Apache-2.0
// The Python module promptkd._core: students and CLIP models on Cpu<float>. promptkd/__init__.py makes images of what
// Python has. Every call releases the interpreter's lock while it computes.
#include "runs.hpp"

#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <promptkd/clip/text_ensemble.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/evaluate/classifier_pool.hpp>
#include <promptkd/evaluate/zero_shot_classifier.hpp>
#include <promptkd/experiment/models.hpp>
#include <promptkd/format/image.hpp>

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using namespace promptkd;
using D = Cpu<float>;

/// (height, width, 3) bytes.
using Pixels = nb::ndarray<const std::uint8_t, nb::shape<-1, -1, 3>, nb::c_contig, nb::device::cpu>;
/// A path, the bytes of an image file, or pixels.
using Source = std::variant<nb::str, nb::bytes, Pixels>;
using Answer = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

/// What is decoded without the interpreter's lock.
struct Stored {
    std::string path, file;
    Image pixels;
};

Image of_pixels(const Pixels& from) {
    Image image(static_cast<Index>(from.shape(0)), static_cast<Index>(from.shape(1)));
    std::copy_n(from.data(), image.pixels.size(), image.pixels.data());
    return image;
}

std::vector<Stored> stored(const std::vector<Source>& sources) {
    std::vector<Stored> out;
    for (const Source& source : sources) {
        Stored one;
        if (const auto* path = std::get_if<nb::str>(&source)) one.path = path->c_str();
        if (const auto* file = std::get_if<nb::bytes>(&source)) one.file.assign(file->c_str(), file->size());
        if (const auto* pixels = std::get_if<Pixels>(&source)) one.pixels = of_pixels(*pixels);
        out.push_back(std::move(one));
    }
    return out;
}

std::vector<Image> decoded(std::vector<Stored> sources) {
    std::vector<Image> images;
    for (std::size_t i = 0; i < sources.size(); ++i) {
        Stored& one = sources[i];
        if (!one.path.empty())
            images.push_back(read_image(one.path));
        else if (!one.file.empty())
            images.push_back(decode_image(std::as_bytes(std::span(one.file)), concat("image ", i)));
        else
            images.push_back(std::move(one.pixels));
    }
    return images;
}

/// Rows of `columns` values that numpy owns from now on.
Answer rows(std::vector<float> values, std::size_t columns) {
    auto* const kept = new std::vector<float>(std::move(values));
    const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
    return Answer(kept->data(), {kept->size() / columns, columns}, owner);
}

using Ranked = std::vector<std::pair<std::string, double>>;
Ranked ranked(const std::vector<ClassProbability>& classes) {
    Ranked out;
    for (const ClassProbability& one : classes) out.emplace_back(one.name, one.probability);
    return out;
}

/// A student of a bundle, for any number of threads.
class PythonStudent {
public:
    PythonStudent(const std::variant<nb::str, nb::bytes>& bundle, int threads, int callers, Index max_batch) {
        std::string path;
        std::string file;
        if (const auto* name = std::get_if<nb::str>(&bundle)) path = name->c_str();
        if (const auto* bytes = std::get_if<nb::bytes>(&bundle)) file.assign(bytes->c_str(), bytes->size());
        const nb::gil_scoped_release released;
        const TensorMap map = path.empty() ? read_safetensors(std::as_bytes(std::span(file)), "the bundle in memory")
                                           : load_bundle(path, {}, silent_observer());
        pool_.emplace(map, ClassifierPoolOptions{callers, threads, max_batch, WeightStorage::packed});
    }
    const std::vector<std::string>& class_names() const { return pool_->class_names(); }
    Index resolution() const { return pool_->preprocessing().height; }
    Answer classify(const std::vector<Source>& sources) const {
        std::vector<Stored> in = stored(sources);
        std::vector<float> p;
        {
            const nb::gil_scoped_release released;
            p = pool_->classify(decoded(std::move(in)));
        }
        return rows(std::move(p), class_names().size());
    }
    Ranked top_k(const Source& source, Index k) const {
        std::vector<Stored> in = stored({source});
        const nb::gil_scoped_release released;
        return ranked(pool_->top_k(decoded(std::move(in)).front(), k));
    }

private:
    std::optional<ClassifierPool<D>> pool_;
};

/// A CLIP model. Calls of several threads wait for each other.
class PythonClip {
public:
    PythonClip(const std::string& weights, const std::string& vocabulary, int threads, Index max_batch)
        : device_(threads), model_(device_, load_model({weights, "", ""}, silent_observer())) {
        tower_.emplace(device_, model_, nullptr, max_batch);
        input_.emplace(device_, model_.preprocessing(), max_batch);
        if (model_.has_text()) tokenizer_.emplace(load_tokenizer(vocabulary, weights));
    }
    Index embed() const { return tower_->embed(); }
    double logit_scale() const { return model_.logit_scale(); }
    Index resolution() const { return model_.preprocessing().height; }

    std::vector<float> images(std::vector<Stored> sources, bool normalize) {
        const std::vector<Image> all = decoded(std::move(sources));
        const std::lock_guard lock(mutex_);
        std::vector<float> features;
        detail::in_batches(all, tower_->max_batch(), [&](std::span<const Image> some) {
            const float* const pixels = input_->upload(some);
            const auto n = static_cast<Index>(some.size());
            const float* const u = normalize ? tower_->encode(pixels, n) : tower_->encode_raw(pixels, n);
            features.insert(features.end(), u, u + n * embed());
        });
        return features;
    }
    std::vector<float> texts(const std::vector<std::string>& texts, bool normalize) {
        const std::lock_guard lock(mutex_);
        const TokenRows tokens = tokenize_classes(tokenizer(), model_.text().config(), model_.source(), texts);
        std::vector<float> features = encode_texts(device_, model_, tokens);
        if (normalize) normalize_rows(features, model_.text().embed());
        return features;
    }
    std::vector<float> classes(const std::vector<std::string>& names, const std::vector<std::string>& templates) {
        const std::lock_guard lock(mutex_);
        return class_vectors(device_, model_, tokenizer(), names, templates);
    }

private:
    const Tokenizer& tokenizer() const {
        require(tokenizer_.has_value(), model_.source(), ": this model has no text branch");
        return *tokenizer_;
    }

    D device_;
    ClipModel<D> model_;
    std::optional<FrozenImageTower<D>> tower_;
    std::optional<detail::ImageInput<D>> input_;
    std::optional<Tokenizer> tokenizer_;
    std::mutex mutex_;
};

/// f() without the interpreter's lock, as rows of `columns`.
template <class F>
Answer computed(Index columns, const F& f) {
    std::vector<float> values;
    {
        const nb::gil_scoped_release released;
        values = f();
    }
    return rows(std::move(values), static_cast<std::size_t>(columns));
}

}  // namespace

NB_MODULE(_core, m) {
    m.attr("__version__") = version;
    const auto error = nb::exception<Error>(m, "Error", PyExc_RuntimeError);
    const auto resource = nb::exception<ResourceError>(m, "ResourceError", error.ptr());
    error.attr("__doc__") = "What went wrong, where, and what to do about it, in one line.";
    resource.attr("__doc__") =
        "The machine lacks something for now: memory, open files, threads. No input is to blame.";

    nb::class_<PythonStudent>(m, "Student")
        .def(nb::init<const std::variant<nb::str, nb::bytes>&, int, int, Index>(), "bundle"_a, "threads"_a, "callers"_a,
             "max_batch"_a)
        .def_prop_ro("class_names", &PythonStudent::class_names)
        .def_prop_ro("resolution", &PythonStudent::resolution)
        .def("classify", &PythonStudent::classify)
        .def("top_k", &PythonStudent::top_k);

    nb::class_<PythonClip>(m, "Clip")
        .def(nb::init<const std::string&, const std::string&, int, Index>(), "weights"_a, "vocabulary"_a, "threads"_a,
             "max_batch"_a, nb::call_guard<nb::gil_scoped_release>())
        .def_prop_ro("embed", &PythonClip::embed)
        .def_prop_ro("scale", &PythonClip::logit_scale)
        .def_prop_ro("resolution", &PythonClip::resolution)
        .def("encode_image",
             [](PythonClip& clip, const std::vector<Source>& sources, bool normalize) {
                 std::vector<Stored> in = stored(sources);
                 return computed(clip.embed(), [&] { return clip.images(std::move(in), normalize); });
             })
        .def("encode_text",
             [](PythonClip& clip, const std::vector<std::string>& texts, bool normalize) {
                 return computed(clip.embed(), [&] { return clip.texts(texts, normalize); });
             })
        .def("class_vectors",
             [](PythonClip& clip, const std::vector<std::string>& names, const std::vector<std::string>& templates) {
                 return computed(clip.embed(), [&] { return clip.classes(names, templates); });
             });

    python::add_runs(m);
}
