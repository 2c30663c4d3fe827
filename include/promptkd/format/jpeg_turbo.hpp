// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/jpeg.hpp>

#include <turbojpeg.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// The component promptkd::jpeg_turbo: JPEG files decoded by libjpeg-turbo, the decoder that Pillow uses, behind the
// same checker of markers as stb_image.

namespace promptkd {

namespace detail {

struct CloseTurbo {
    void operator()(void* handle) const { tjDestroy(handle); }
};

/// Adobe's CMYK, whose values are inverted, to RGB as Pillow's convert("RGB"): k·c / 255, rounded as Pillow rounds.
inline void rgb_of_inverted_cmyk(const std::uint8_t* cmyk, std::uint8_t* rgb, std::size_t pixels) {
    for (std::size_t i = 0; i < pixels; ++i) {
        const int k = cmyk[4 * i + 3];
        for (std::size_t c = 0; c < 3; ++c) {
            const int product = (255 - cmyk[4 * i + c]) * k + 128;
            rgb[3 * i + c] = static_cast<std::uint8_t>(k - (((product >> 8) + product) >> 8));
        }
    }
}

/// The accurate inverse DCT and smooth upsampling: libjpeg's default, and so Pillow's. What libjpeg only warns about
/// (bytes between segments) is not an error.
inline void decode_jpeg_turbo(const std::uint8_t* bytes, std::size_t size, const std::string& name, Image& image) {
    const std::unique_ptr<void, CloseTurbo> turbo(tjInitDecompress());
    require(turbo != nullptr, name, ": libjpeg-turbo cannot start: ", tjGetErrorStr());
    const auto bad = [&](int status) { return status != 0 && tjGetErrorCode(turbo.get()) != TJERR_WARNING; };
    const auto length = static_cast<unsigned long>(size);
    int width = 0, height = 0, subsampling = 0, colours = 0;
    require(!bad(tjDecompressHeader3(turbo.get(), bytes, length, &width, &height, &subsampling, &colours)), name,
            ": damaged JPEG: ", tjGetErrorStr2(turbo.get()));
    require(width == image.width && height == image.height, name, ": damaged JPEG: contradictory sizes");
    const bool four = colours == TJCS_CMYK || colours == TJCS_YCCK;
    std::vector<std::uint8_t> cmyk(four ? image.pixels.size() / 3 * 4 : 0);
    require(!bad(tjDecompress2(turbo.get(), bytes, length, four ? cmyk.data() : image.pixels.data(), width, 0, height,
                               four ? TJPF_CMYK : TJPF_RGB, TJFLAG_ACCURATEDCT)),
            name, ": damaged JPEG: ", tjGetErrorStr2(turbo.get()));
    if (four) rgb_of_inverted_cmyk(cmyk.data(), image.pixels.data(), image.pixels.size() / 3);
}

}  // namespace detail

/// JPEG files are decoded by libjpeg-turbo from now on, in every thread of this process.
inline void use_jpeg_turbo() { detail::jpeg_decoder() = &detail::decode_jpeg_turbo; }

}  // namespace promptkd
