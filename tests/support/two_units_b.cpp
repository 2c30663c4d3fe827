// SPDX-License-Identifier: Apache-2.0
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

#include <promptkd/promptkd.hpp>

#include <cstdio>

const void* version_address_in_a();
bool reads_png_in_a(const unsigned char* bytes, int size);

/// The link is the test: a function or variable that is not inline is defined twice. The addresses show that an inline
/// variable is one object in the whole program; the pictures, that a host's copies of stb_image are whole.
int main() {
    if (version_address_in_a() != &promptkd::version) {
        std::puts("promptkd::version is a different object in each translation unit");
        return 1;
    }
    const std::string png = promptkd::encode_png(promptkd::Image(3, 5));
    const auto* const bytes = reinterpret_cast<const unsigned char*>(png.data());
    int width = 0;
    int height = 0;
    int channels = 0;
    stbi_uc* const pixels = stbi_load_from_memory(bytes, static_cast<int>(png.size()), &width, &height, &channels, 3);
    const bool whole = pixels != nullptr && width == 5 && reads_png_in_a(bytes, static_cast<int>(png.size()));
    stbi_image_free(pixels);
    if (!whole) std::puts("a host's own stb_image does not read PNG");
    return whole ? 0 : 1;
}
