// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/config.hpp>
#include <promptkd/format/image.hpp>

#include <cstdio>
#include <span>
#include <string>

int main() {
    promptkd::Image image(2, 3);
    image.pixels[4] = 200;
    const std::string file = promptkd::encode_png(image);
    const promptkd::Image back = promptkd::decode_image(std::as_bytes(std::span(file)));
    std::printf("promptkd %s\n", promptkd::version);
    return back.pixels == image.pixels ? 0 : 1;
}
