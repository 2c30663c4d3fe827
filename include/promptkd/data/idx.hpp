// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/checksum.hpp>
#include <promptkd/data/dataset.hpp>
#include <promptkd/format/file.hpp>

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// An array of unsigned bytes in the IDX format of LeCun's MNIST page.
struct IdxArray {
    std::vector<Index> shape;         ///< extents, the outermost first
    std::vector<std::uint8_t> bytes;  ///< one a value
};

namespace detail {

inline constexpr Index idx_limit = Index{1} << 32;  // bytes of one array

/// A gzip or plain file, decompressed while it is read.
class GzipReader {
public:
    explicit GzipReader(const std::string& path) : path_(path) {
        struct stat status {};
        open_for_reading(path, status);  // for its clear messages: gzopen says nothing
        file_ = gzopen(path.c_str(), "rb");
        require(file_ != nullptr, "cannot open '", path, "'");
        gzbuffer(file_, 1 << 18);
    }
    GzipReader(const GzipReader&) = delete;
    GzipReader& operator=(const GzipReader&) = delete;
    ~GzipReader() { gzclose(file_); }

    /// Up to `size` bytes; fewer at the end of the file.
    std::size_t read(void* out, std::size_t size) {
        std::size_t done = 0;
        while (done < size) {
            const auto step = static_cast<unsigned>(std::min<std::size_t>(size - done, 1u << 24));
            const int got = gzread(file_, static_cast<std::uint8_t*>(out) + done, step);
            int code = Z_OK;
            const char* message = gzerror(file_, &code);
            require(got >= 0 && code != Z_BUF_ERROR, path_, ": damaged or truncated (", message, ")");
            if (got == 0) break;
            done += static_cast<std::size_t>(got);
        }
        return done;
    }

private:
    std::string path_;
    gzFile file_ = nullptr;
};

inline Index read_big_endian(GzipReader& reader, const std::string& path) {
    std::uint8_t b[4];
    require(reader.read(b, 4) == 4, path, ": truncated in the header");
    return Index{b[0]} << 24 | Index{b[1]} << 16 | Index{b[2]} << 8 | Index{b[3]};
}

}  // namespace detail

/// Reads an IDX file of unsigned bytes with `rank` dimensions, plain or .gz. Format: magic 0x00000800 + rank, the
/// extents as big-endian 32-bit numbers, the bytes. Throws Error naming file and numbers when they disagree.
inline IdxArray read_idx(const std::string& path, Index rank) {
    detail::GzipReader reader(path);
    const Index magic = detail::read_big_endian(reader, path);
    require(magic == 0x800 + rank, path, ": magic number ", magic, ", expected ", 0x800 + rank,
            " (IDX of unsigned bytes with ", rank, rank == 1 ? " dimension)" : " dimensions)");
    IdxArray array;
    Index total = 1;
    for (Index i = 0; i < rank; ++i) {
        const Index extent = detail::read_big_endian(reader, path);
        require(extent >= 1 && extent <= detail::idx_limit / total, path, ": dimension ", i, " of ", extent,
                " is zero or too large (limit ", detail::idx_limit, " bytes in all)");
        array.shape.push_back(extent);
        total *= extent;
    }
    // The header may lie about the size, so memory grows with what is really there.
    for (Index done = 0; done < total;) {
        const Index step = std::min<Index>(total - done, Index{1} << 26);
        array.bytes.resize(static_cast<std::size_t>(done + step));
        const auto got = static_cast<Index>(reader.read(array.bytes.data() + done, static_cast<std::size_t>(step)));
        done += got;
        require(got == step, path, ": truncated: ", done, " bytes of data, the header promises ", total);
    }
    std::uint8_t extra = 0;
    require(reader.read(&extra, 1) == 0, path, ": more data than the ", total, " bytes that the header promises");
    return array;
}

/// Grey images (count, rows, columns) in memory, given out as RGB.
class IdxImages final : public ImageSource {
public:
    /// Images (n, height, width) of one byte a pixel; `name` is that of their file. Throws Error for another shape.
    IdxImages(IdxArray array, std::string name) : array_(std::move(array)), name_(std::move(name)) {
        require(array_.shape.size() == 3, name_, ": images need 3 dimensions");
    }

    Index size() const override { return array_.shape[0]; }
    std::string name(Index i) const override { return name_ + "#" + std::to_string(i); }

    /// The pixels are in memory: their checksum stands for the time.
    ImageVersion version(Index i) const override {
        const Index n = array_.shape[1] * array_.shape[2];
        Checksum sum;
        sum.add(array_.bytes.data() + i * n, static_cast<std::size_t>(n));
        return {n, static_cast<std::int64_t>(sum.value())};
    }

    void load(Index i, Image& out) const override {
        require(i >= 0 && i < size(), name_, ": image ", i, " does not exist, there are ", size());
        out.height = array_.shape[1];
        out.width = array_.shape[2];
        const auto n = static_cast<std::size_t>(out.height * out.width);
        out.pixels.resize(3 * n);
        const std::uint8_t* grey = array_.bytes.data() + static_cast<std::size_t>(i) * n;
        for (std::size_t p = 0; p < n; ++p) out.pixels[3 * p] = out.pixels[3 * p + 1] = out.pixels[3 * p + 2] = grey[p];
    }

private:
    IdxArray array_;
    std::string name_;
};

/// A labelled data set from an IDX file of images and one of labels.
/// Throws Error when they disagree in number or a label has no class name.
inline Dataset load_idx(const std::string& images_path, const std::string& labels_path,
                        std::vector<std::string> class_names, std::string name) {
    IdxArray images = read_idx(images_path, 3);
    const IdxArray labels = read_idx(labels_path, 1);
    require(images.shape[0] == labels.shape[0], images_path, " holds ", images.shape[0], " images but ", labels_path,
            " ", labels.shape[0], " labels");
    Dataset data;
    data.name = std::move(name);
    data.class_names = std::move(class_names);
    data.items.resize(labels.bytes.size());
    for (std::size_t i = 0; i < labels.bytes.size(); ++i) {
        require(labels.bytes[i] < data.class_names.size(), labels_path, ": label ", int{labels.bytes[i]}, " of image ",
                i, " is outside 0 … ", data.class_names.size() - 1);
        data.items[i] = {static_cast<Index>(i), labels.bytes[i]};
    }
    data.source = std::make_shared<IdxImages>(std::move(images), images_path);
    return data;
}

/// Fashion-MNIST from its four original files (.gz or unpacked) in `root`; Debian's package dataset-fashion-mnist puts
/// them in /usr/share/datasets/fashion-mnist. Classes in label order. Throws Error naming a file that is missing.
inline Dataset load_fashion_mnist(const std::string& root, Split split) {
    const std::string stem = split == Split::train ? "train" : "t10k";
    const auto find = [&](const std::string& suffix) {
        const std::string plain = root + "/" + stem + suffix, packed = plain + ".gz";
        if (std::filesystem::exists(packed)) return packed;
        require(std::filesystem::exists(plain), "fashion-mnist: neither '", packed, "' nor '", plain, "' exists");
        return plain;
    };
    const std::string images = find("-images-idx3-ubyte"), labels = find("-labels-idx1-ubyte");
    return load_idx(
        images, labels,
        {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"},
        "fashion-mnist");
}

}  // namespace promptkd
