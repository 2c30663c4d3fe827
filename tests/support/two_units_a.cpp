// SPDX-License-Identifier: Apache-2.0
#include <promptkd/promptkd.hpp>

// A host's own copy of stb_image behind the library's (here), and before it (two_units_b.cpp).
#if defined(STBI_INCLUDE_STB_IMAGE_H) || defined(STBI_ONLY_JPEG) || defined(STBI_NO_PNG) || defined(stbi_inline)
#error "the library's copy of stb_image leaves macros behind"
#endif
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

const void* version_address_in_a() { return &promptkd::version; }

bool reads_png_in_a(const unsigned char* bytes, int size) {
    int width = 0;
    int height = 0;
    int channels = 0;
    return stbi_info_from_memory(bytes, size, &width, &height, &channels) == 1;
}
