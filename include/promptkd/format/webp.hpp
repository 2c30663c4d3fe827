// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/format/image_limits.hpp>

#if defined(PROMPTKD_WITH_WEBP)
#include <webp/decode.h>
#include <webp/demux.h>
#endif

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace promptkd::detail {

#if defined(PROMPTKD_WITH_WEBP)

/// Colours and opacity of (height, width, 4) bytes.
inline void take_rgba(const std::uint8_t* rgba, Image& image) {
    image.stored = StoredColours::with_alpha;
    image.alpha.resize(image.pixels.size() / 3);
    for (std::size_t i = 0; i < image.alpha.size(); ++i) {
        for (std::size_t c = 0; c < 3; ++c) image.pixels[3 * i + c] = rgba[4 * i + c];
        image.alpha[i] = rgba[4 * i + 3];
    }
}

/// The first picture of an animation, over its canvas.
inline void decode_webp_animation(const std::uint8_t* bytes, std::size_t size, const std::string& name, Image& image) {
    WebPAnimDecoderOptions options;
    require(WebPAnimDecoderOptionsInit(&options) != 0, name, ": libwebp is of another version than its headers");
    options.color_mode = MODE_RGBA;
    options.use_threads = 0;
    const WebPData data{bytes, size};
    const std::unique_ptr<WebPAnimDecoder, void (*)(WebPAnimDecoder*)> decoder(WebPAnimDecoderNew(&data, &options),
                                                                               &WebPAnimDecoderDelete);
    std::uint8_t* rgba = nullptr;
    int time = 0;
    require(decoder != nullptr && WebPAnimDecoderGetNext(decoder.get(), &rgba, &time) != 0, name,
            ": damaged or truncated WebP animation");
    take_rgba(rgba, image);
}

/// A WebP file in memory, its pixels as Pillow's `convert("RGB")`: alpha dropped, of an animation the first picture.
inline Image decode_webp(const std::uint8_t* bytes, std::size_t size, const std::string& name,
                         const ImageLimits& limits) {
    WebPBitstreamFeatures features;
    const VP8StatusCode status = WebPGetFeatures(bytes, size, &features);
    require(status != VP8_STATUS_NOT_ENOUGH_DATA, name, ": truncated WebP");
    require(status == VP8_STATUS_OK, name, ": damaged WebP header");
    check_dimensions(features.height, features.width, limits, name);
    Image image(features.height, features.width);
    if (features.has_animation != 0) {
        decode_webp_animation(bytes, size, name, image);
        return image;
    }
    if (features.has_alpha != 0) {
        std::vector<std::uint8_t> rgba(image.pixels.size() / 3 * 4);
        require(WebPDecodeRGBAInto(bytes, size, rgba.data(), rgba.size(), static_cast<int>(image.width * 4)) != nullptr,
                name, ": damaged or truncated WebP");
        take_rgba(rgba.data(), image);
        return image;
    }
    const std::uint8_t* const done =
        WebPDecodeRGBInto(bytes, size, image.pixels.data(), image.pixels.size(), static_cast<int>(image.width * 3));
    require(done != nullptr, name, ": damaged or truncated WebP");
    return image;
}

#else

inline Image decode_webp(const std::uint8_t*, std::size_t, const std::string& name, const ImageLimits&) {
    fail(name, ": a WebP image; this program was built without libwebp, convert the image to PNG");
}

#endif

}  // namespace promptkd::detail
