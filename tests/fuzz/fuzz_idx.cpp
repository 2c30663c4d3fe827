// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <promptkd/data/idx.hpp>

using namespace promptkd;

std::vector<std::string> promptkd::fuzz::seeds() {
    const std::string labels(
        "\0\0\x08\x01\0\0\0\x04"
        "abcd",
        12),
        images(
            "\0\0\x08\x03\0\0\0\x01\0\0\0\x02\0\0\0\x02"
            "wxyz",
            20);
    std::string packed(128, '\0');
    z_stream z{};
    if (deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) std::abort();
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(images.data()));
    z.avail_in = static_cast<uInt>(images.size());
    z.next_out = reinterpret_cast<Bytef*>(packed.data());
    z.avail_out = static_cast<uInt>(packed.size());
    if (deflate(&z, Z_FINISH) != Z_STREAM_END) std::abort();
    packed.resize(z.total_out);
    deflateEnd(&z);
    return {labels, images, packed};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::InputFile file;
    const std::string& path = file.write(data, size);
    for (const Index rank : {1, 3}) fuzz::tolerate_errors([&] { read_idx(path, rank); });
    return 0;
}
