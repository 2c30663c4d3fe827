// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/config.hpp>
#include <promptkd/format/png.hpp>

#include <cstdio>

int main() {
    promptkd::Image image(2, 3);
    image.pixels[4] = 200;
    const std::string file = promptkd::encode_png(image);
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(file.data());
    const promptkd::Image back = promptkd::decode_png(bytes, file.size(), "a picture in memory", {});
    std::printf("promptkd %s\n", promptkd::version);
    return back.pixels == image.pixels ? 0 : 1;
}
