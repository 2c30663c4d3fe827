// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/format/exif.hpp>
#include <promptkd/format/image_limits.hpp>

#if defined(PROMPTKD_WITH_TIFF)
#include <tiffio.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace promptkd::detail {

#if defined(PROMPTKD_WITH_TIFF)

/// A TIFF file in memory as libtiff reads it, and what it last complained about.
struct TiffMemory {
    const std::uint8_t* bytes;
    std::size_t size;
    std::size_t at = 0;
    std::string complaint;

    static TiffMemory& of(thandle_t handle) { return *static_cast<TiffMemory*>(handle); }

    static tmsize_t read(thandle_t handle, void* to, tmsize_t n) {
        TiffMemory& file = of(handle);
        const std::size_t left = file.at < file.size ? file.size - file.at : 0;
        const std::size_t count = std::min(static_cast<std::size_t>(n), left);
        if (count > 0) std::memcpy(to, file.bytes + file.at, count);
        file.at += count;
        return static_cast<tmsize_t>(count);
    }
    static tmsize_t write(thandle_t, void*, tmsize_t) { return 0; }
    static toff_t seek(thandle_t handle, toff_t offset, int whence) {
        TiffMemory& file = of(handle);
        const std::size_t base = whence == SEEK_CUR ? file.at : whence == SEEK_END ? file.size : 0;
        file.at = base + static_cast<std::size_t>(offset);
        return file.at;
    }
    static int close(thandle_t) { return 0; }
    static toff_t length(thandle_t handle) { return of(handle).size; }

    static int on_error(TIFF*, void* user, const char*, const char* format, va_list arguments) {
        char text[200];
        std::vsnprintf(text, sizeof text, format, arguments);
        static_cast<TiffMemory*>(user)->complaint = text;
        return 1;
    }
    static int on_warning(TIFF*, void*, const char*, const char*, va_list) { return 1; }
};

/// Colours are taken as they are stored: alpha that was not multiplied in is declared as one that was, which libtiff
/// leaves alone.
inline void keep_tiff_colours(TIFF* file) {
    std::uint16_t count = 0;
    const std::uint16_t* kinds = nullptr;
    if (TIFFGetField(file, TIFFTAG_EXTRASAMPLES, &count, &kinds) == 0 || count == 0) return;
    std::vector<std::uint16_t> changed(kinds, kinds + count);
    for (std::uint16_t& kind : changed)
        if (kind == EXTRASAMPLE_UNASSALPHA) kind = EXTRASAMPLE_ASSOCALPHA;
    TIFFSetField(file, TIFFTAG_EXTRASAMPLES, count, changed.data());
}

inline std::uint16_t tiff_tag(TIFF* file, std::uint32_t tag) {
    std::uint16_t value = 0;
    TIFFGetFieldDefaulted(file, tag, &value);
    return value;
}

/// Grey of 16 bits: the value itself, 255 where it is more. Pillow does so: its mode for 16-bit grey knows no scale.
inline void read_grey_16(TIFF* file, const TiffMemory& memory, const ImageLimits& limits, Image& image,
                         const std::string& name) {
    const bool tiled = TIFFIsTiled(file) != 0;
    std::uint32_t width = static_cast<std::uint32_t>(image.width), height = 1;
    if (tiled) TIFFGetField(file, TIFFTAG_TILEWIDTH, &width);
    if (tiled) TIFFGetField(file, TIFFTAG_TILELENGTH, &height);
    const std::size_t bytes = static_cast<std::size_t>(tiled ? TIFFTileSize(file) : TIFFScanlineSize(file));
    require(width > 0 && height > 0 && bytes / 2 / width >= height && bytes <= limits.max_file_bytes, name,
            ": damaged TIFF: its tiles are too large or too small");
    std::vector<std::uint16_t> block(bytes / 2);
    for (Index top = 0; top < image.height; top += height)
        for (Index left = 0; left < image.width; left += width) {
            const auto x = static_cast<std::uint32_t>(left), y = static_cast<std::uint32_t>(top);
            const tmsize_t read = tiled ? TIFFReadTile(file, block.data(), x, y, 0, 0)  //
                                        : TIFFReadScanline(file, block.data(), y, 0);
            require(read >= 0, name, ": damaged or truncated TIFF: ", memory.complaint);
            for (Index row = 0; row < std::min<Index>(height, image.height - top); ++row)
                for (Index column = 0; column < std::min<Index>(width, image.width - left); ++column) {
                    const std::uint16_t value = block[static_cast<std::size_t>(row * width + column)];
                    const auto grey = static_cast<std::uint8_t>(std::min<std::uint16_t>(value, 255));
                    std::fill_n(image.row(top + row) + 3 * (left + column), 3, grey);
                }
        }
}

/// The pixels as libtiff shows them, of 16 bits the high byte; with the opacity where the file tells of one.
inline void show_tiff(TIFF* file, const TiffMemory& memory, Image& image, const std::string& name) {
    char why[1024] = "";
    require(TIFFRGBAImageOK(file, why) != 0, name, ": this kind of TIFF is not supported (", why,
            "); convert it to PNG");
    TIFFRGBAImage picture;
    require(TIFFRGBAImageBegin(&picture, file, 1, why) != 0, name, ": damaged TIFF: ", why);
    const std::unique_ptr<TIFFRGBAImage, void (*)(TIFFRGBAImage*)> end(&picture, &TIFFRGBAImageEnd);
    picture.orientation = ORIENTATION_TOPLEFT;
    picture.req_orientation = ORIENTATION_TOPLEFT;
    if (picture.Bitdepth16To8 != nullptr)
        for (std::size_t i = 0; i < 65536; ++i) picture.Bitdepth16To8[i] = static_cast<std::uint8_t>(i >> 8);
    std::vector<std::uint32_t> raster(image.pixels.size() / 3);
    const int done = TIFFRGBAImageGet(&picture, raster.data(), static_cast<std::uint32_t>(image.width),
                                      static_cast<std::uint32_t>(image.height));
    require(done != 0, name, ": damaged or truncated TIFF: ", memory.complaint);
    if (picture.alpha != 0) {
        image.alpha.resize(raster.size());
        image.stored = StoredColours::with_alpha;
    }
    for (std::size_t i = 0; i < raster.size(); ++i) {
        image.pixels[3 * i] = static_cast<std::uint8_t>(TIFFGetR(raster[i]));
        image.pixels[3 * i + 1] = static_cast<std::uint8_t>(TIFFGetG(raster[i]));
        image.pixels[3 * i + 2] = static_cast<std::uint8_t>(TIFFGetB(raster[i]));
        if (!image.alpha.empty()) image.alpha[i] = static_cast<std::uint8_t>(TIFFGetA(raster[i]));
    }
}

/// The first picture of a TIFF file in memory as 8-bit RGB: what libtiff shows, alpha not applied, but its orientation,
/// as in Pillow.
inline Image decode_tiff(const std::uint8_t* bytes, std::size_t size, const std::string& name,
                         const ImageLimits& limits) {
    TiffMemory memory{bytes, size, 0, ""};
    const std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> options(TIFFOpenOptionsAlloc(),
                                                                               &TIFFOpenOptionsFree);
    require(options != nullptr, name, ": not enough memory for this TIFF");
    TIFFOpenOptionsSetErrorHandlerExtR(options.get(), &TiffMemory::on_error, &memory);
    TIFFOpenOptionsSetWarningHandlerExtR(options.get(), &TiffMemory::on_warning, &memory);
    TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), static_cast<tmsize_t>(limits.max_file_bytes));
    const std::unique_ptr<TIFF, void (*)(TIFF*)> file(
        TIFFClientOpenExt(name.c_str(), "rm", &memory, &TiffMemory::read, &TiffMemory::write, &TiffMemory::seek,
                          &TiffMemory::close, &TiffMemory::length, nullptr, nullptr, options.get()),
        &TIFFClose);
    require(file != nullptr, name, ": damaged TIFF: ", memory.complaint);
    std::uint32_t width = 0, height = 0;
    TIFFGetField(file.get(), TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(file.get(), TIFFTAG_IMAGELENGTH, &height);
    check_dimensions(height, width, limits, name);
    const std::uint16_t kind = tiff_tag(file.get(), TIFFTAG_PHOTOMETRIC);
    const bool lab = kind == PHOTOMETRIC_CIELAB || kind == PHOTOMETRIC_ICCLAB || kind == PHOTOMETRIC_ITULAB;
    require(!lab, name, ": a TIFF with L*a*b* colours, which are not read; convert it to PNG");
    keep_tiff_colours(file.get());
    Image image(height, width);
    const std::uint16_t bits = tiff_tag(file.get(), TIFFTAG_BITSPERSAMPLE);
    const std::uint16_t samples = tiff_tag(file.get(), TIFFTAG_SAMPLESPERPIXEL);
    if (bits == 16 && samples == 1)
        read_grey_16(file.get(), memory, limits, image, name);
    else
        show_tiff(file.get(), memory, image, name);
    if (kind == PHOTOMETRIC_PALETTE || (bits == 1 && samples == 1)) image.stored = StoredColours::indexed;
    return oriented(image, tiff_tag(file.get(), TIFFTAG_ORIENTATION));
}

#else

inline Image decode_tiff(const std::uint8_t*, std::size_t, const std::string& name, const ImageLimits&) {
    fail(name, ": a TIFF image; this program was built without libtiff, convert the image to PNG");
}

#endif

}  // namespace promptkd::detail
