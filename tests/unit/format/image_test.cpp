// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <promptkd/format/image.hpp>

#include <zlib.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace image_test {

using namespace promptkd;

namespace {

Image decode(const std::string& bytes, const ImageLimits& limits = {}) {
    return decode_image(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), "picture", limits);
}

std::string error_of(const std::string& bytes, const ImageLimits& limits = {}) {
    try {
        decode(bytes, limits);
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string golden(const std::string& name) {
    return read_file_bytes(std::string(PROMPTKD_TEST_DATA) + "/golden/images/" + name);
}

std::string deflated(const std::string& raw) {
    uLongf n = compressBound(static_cast<uLong>(raw.size()));
    std::string out(n, '\0');
    compress(reinterpret_cast<Bytef*>(out.data()), &n, reinterpret_cast<const Bytef*>(raw.data()),
             static_cast<uLong>(raw.size()));
    out.resize(n);
    return out;
}

void append_u32_be(std::string& out, std::size_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift & 0xff));
}

void append_chunk(std::string& out, const char* type, const std::string& body) {
    append_u32_be(out, body.size());
    const std::string typed = type + body;
    out += typed;
    append_u32_be(out, crc32_of(0, typed.data(), typed.size()));
}

std::string png_header(std::size_t width, std::size_t height, int depth, int colour, int interlace = 0) {
    std::string body;
    append_u32_be(body, width);
    append_u32_be(body, height);
    for (const int byte : {depth, colour, 0, 0, interlace}) body.push_back(static_cast<char>(byte));
    return body;
}

/// A PNG of the given header, palette and filtered rows.
std::string png(const std::string& header, const std::string& rows, const std::string& palette = "",
                const std::string& transparency = "") {
    std::string out(reinterpret_cast<const char*>(detail::png_signature), 8);
    append_chunk(out, "IHDR", header);
    if (!palette.empty()) append_chunk(out, "PLTE", palette);
    if (!transparency.empty()) append_chunk(out, "tRNS", transparency);
    append_chunk(out, "IDAT", deflated(rows));
    append_chunk(out, "IEND", "");
    return out;
}

std::string bytes_of(std::initializer_list<int> values) {
    std::string out;
    for (const int value : values) out.push_back(static_cast<char>(value));
    return out;
}

std::vector<std::uint8_t> pixels(std::initializer_list<int> values) {
    std::vector<std::uint8_t> out;
    for (const int value : values) out.push_back(static_cast<std::uint8_t>(value));
    return out;
}

/// The golden JPEG with the segment of `marker` (the first one) replaced by `body`.
std::string with_segment(const std::string& jpeg, int marker, const std::string& body) {
    std::size_t at = 2;
    while (static_cast<unsigned char>(jpeg[at + 1]) != marker)
        at += 2 + (static_cast<unsigned char>(jpeg[at + 2]) << 8 | static_cast<unsigned char>(jpeg[at + 3]));
    const std::size_t length = static_cast<unsigned char>(jpeg[at + 2]) << 8 | static_cast<unsigned char>(jpeg[at + 3]);
    const std::size_t n = body.size() + 2;
    return jpeg.substr(0, at + 2) + bytes_of({static_cast<int>(n >> 8), static_cast<int>(n & 255)}) + body +
           jpeg.substr(at + 2 + length);
}

/// Body of the first segment of `marker`.
std::string segment(const std::string& jpeg, int marker) {
    std::size_t at = 2;
    for (;;) {
        const std::size_t length =
            static_cast<unsigned char>(jpeg[at + 2]) << 8 | static_cast<unsigned char>(jpeg[at + 3]);
        if (static_cast<unsigned char>(jpeg[at + 1]) == marker) return jpeg.substr(at + 4, length - 2);
        at += 2 + length;
    }
}

}  // namespace

TEST_CASE("PNG: colour types become RGB as Pillow converts them") {
    const std::string palette = bytes_of({10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42});
    CHECK(decode(png(png_header(2, 1, 8, 2), bytes_of({0, 1, 2, 3, 4, 5, 6}))).pixels == pixels({1, 2, 3, 4, 5, 6}));
    CHECK(decode(png(png_header(2, 1, 8, 6), bytes_of({0, 1, 2, 3, 0, 4, 5, 6, 255}))).pixels ==
          pixels({1, 2, 3, 4, 5, 6}));  // alpha is dropped, not composited
    CHECK(decode(png(png_header(2, 1, 8, 0), bytes_of({0, 7, 9}))).pixels == pixels({7, 7, 7, 9, 9, 9}));
    CHECK(decode(png(png_header(2, 1, 8, 4), bytes_of({0, 7, 0, 9, 1}))).pixels == pixels({7, 7, 7, 9, 9, 9}));
    CHECK(decode(png(png_header(3, 1, 1, 0), bytes_of({0, 0xa0}))).pixels ==
          pixels({255, 255, 255, 0, 0, 0, 255, 255, 255}));
    CHECK(decode(png(png_header(2, 1, 2, 0), bytes_of({0, 0x60}))).pixels == pixels({85, 85, 85, 170, 170, 170}));
    CHECK(decode(png(png_header(2, 1, 4, 0), bytes_of({0, 0x1f}))).pixels == pixels({17, 17, 17, 255, 255, 255}));
    // Transparent palette entries keep their colour.
    CHECK(decode(png(png_header(2, 1, 2, 3), bytes_of({0, 0xc0}), palette, bytes_of({0, 0, 0, 0}))).pixels ==
          pixels({40, 41, 42, 10, 11, 12}));
}

TEST_CASE("PNG: filters and interlacing") {
    // Rows of a grey image, each with another filter; the expected values follow from the PNG specification.
    const std::string rows = bytes_of({0, 10, 20, 30,   //
                                       1, 5,  1,  1,    // left
                                       2, 1,  2,  3,    // above
                                       3, 10, 10, 10,   // average of left and above
                                       4, 1,  1,  1});  // Paeth
    const Image grey = decode(png(png_header(3, 5, 8, 0), rows));
    const int expected[5][3] = {{10, 20, 30}, {5, 6, 7}, {6, 8, 10}, {13, 20, 25}, {14, 21, 26}};
    for (Index y = 0; y < 5; ++y)
        for (Index x = 0; x < 3; ++x) CHECK(int{grey.row(y)[x * 3]} == expected[y][x]);
    // Adam7 of a 3x2 image: pass 1 has (0,0), pass 4 (2,0), pass 6 (1,0), pass 7 the second row.
    const Image turned = decode(png(png_header(3, 2, 8, 0, 1), bytes_of({0, 1, 0, 3, 0, 2, 0, 4, 5, 6})));
    for (int i = 0; i < 6; ++i) CHECK(int{turned.pixels[static_cast<std::size_t>(i) * 3]} == i + 1);
}

TEST_CASE("PNG: metadata is not looked at, a palette may be longer than its samples need") {
    const std::string rows = bytes_of({0, 0x80});
    std::string file(reinterpret_cast<const char*>(detail::png_signature), 8);
    append_chunk(file, "IHDR", png_header(1, 1, 1, 3));
    append_chunk(file, "iCCP", bytes_of({'x', 0, 0}) + "no compressed data at all");
    append_chunk(file, "zTXt", "neither a keyword nor a text");
    append_chunk(file, "PLTE", bytes_of({1, 2, 3, 4, 5, 6, 7, 8, 9}));
    append_chunk(file, "IDAT", "");
    append_chunk(file, "IDAT", deflated(rows));
    append_chunk(file, "tEXt", "after the image data");
    CHECK(decode(file).pixels == pixels({4, 5, 6}));
    CHECK(contains(error_of(file.substr(0, file.size() - 30)), "truncated PNG"));
}

TEST_CASE("PNG: interlaced, every depth and colour type, equals the same image without interlacing") {
    for (const int colour : {0, 2, 3, 4, 6}) {
        for (const int depth : {1, 2, 4, 8}) {
            if (depth < 8 && colour != 0 && colour != 3) continue;
            CAPTURE(colour);
            CAPTURE(depth);
            const int channels = colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1;
            const auto bits = [&](Index columns) { return columns * channels * depth; };
            const Index width = 11, height = 13;
            // The sample at (x, y, c): any function will do.
            const auto sample = [&](Index x, Index y, Index c) { return (x * 7 + y * 5 + c * 3) & ((1 << depth) - 1); };
            const auto rows_of = [&](Index x0, Index y0, Index step_x, Index step_y) {
                std::string rows;
                for (Index y = y0; y < height && x0 < width; y += step_y) {
                    std::string row(static_cast<std::size_t>((bits((width - x0 + step_x - 1) / step_x) + 7) / 8), '\0');
                    Index bit = 0;
                    for (Index x = x0; x < width; x += step_x) {
                        for (Index c = 0; c < channels; ++c, bit += depth) {
                            char& byte = row[static_cast<std::size_t>(bit / 8)];
                            byte = static_cast<char>(byte | sample(x, y, c) << (8 - depth - bit % 8));
                        }
                    }
                    rows += std::string(1, '\0') + row;
                }
                return rows;
            };
            std::string colours;
            for (int i = 0; colour == 3 && i < 768; ++i) colours.push_back(static_cast<char>(i * 31));
            const std::string turned = rows_of(0, 0, 8, 8) + rows_of(4, 0, 8, 8) + rows_of(0, 4, 4, 8) +
                                       rows_of(2, 0, 4, 4) + rows_of(0, 2, 2, 4) + rows_of(1, 0, 2, 2) +
                                       rows_of(0, 1, 1, 2);
            CHECK(decode(png(png_header(11, 13, depth, colour, 1), turned, colours)).pixels ==
                  decode(png(png_header(11, 13, depth, colour, 0), rows_of(0, 0, 1, 1), colours)).pixels);
        }
    }
}

TEST_CASE("PNG: written and read back") {
    Image image(7, 5);
    for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<std::uint8_t>(i * i * 37 + i);
    const std::string path = "image_test.tmp.png";
    write_png(path, image);
    const Image back = read_image(path);
    CHECK(back.height == 7);
    CHECK(back.width == 5);
    CHECK(back.pixels == image.pixels);
    std::remove(path.c_str());
    CHECK_THROWS_WITH_AS(write_png("/no/such/folder/x.png", image), doctest::Contains("/no/such/folder/x.png"), Error);
    CHECK_THROWS_AS(write_png(path, Image()), Error);
}

TEST_CASE("PNG: bad files") {
    const std::string good = golden("00_RGB_128x96.png");
    REQUIRE(decode(good).width == 128);
    for (const std::size_t n : {9u, 20u, 33u, 40u, 1000u, 28000u}) {
        CAPTURE(n);
        CHECK(contains(error_of(good.substr(0, n)), "truncated PNG"));
    }
    std::string flipped = good;
    flipped[2000] = static_cast<char>(flipped[2000] ^ 4);
    CHECK(contains(error_of(flipped), "checksum"));
    CHECK(decode(png(png_header(2, 1, 16, 2), std::string(13, '\0'))).width == 2);
    CHECK(contains(error_of(png(png_header(2, 1, 16, 2), std::string(12, '\0'))), "ends too early"));
    CHECK(contains(error_of(png(png_header(2, 1, 16, 3), std::string(13, '\0'))), "does not exist"));
    CHECK(contains(error_of(png(png_header(2, 1, 8, 3), bytes_of({0, 0, 0}))), "without palette"));
    CHECK(contains(error_of(png(png_header(2, 1, 8, 3), bytes_of({0, 0, 2}), bytes_of({1, 2, 3, 4, 5, 6}))),
                   "palette of 2"));
    CHECK(contains(error_of(png(png_header(2, 1, 8, 3), bytes_of({0, 0, 0}), "four")), "palette of 4 bytes"));
    CHECK(contains(error_of(png(png_header(2, 1, 4, 2), bytes_of({0, 0, 0}))), "does not exist"));
    CHECK(contains(error_of(png(png_header(2, 1, 3, 0), bytes_of({0, 0, 0}))), "does not exist"));
    CHECK(contains(error_of(png(png_header(2, 1, 8, 5), bytes_of({0, 0, 0}))), "does not exist"));
    CHECK(contains(error_of(png(png_header(2, 1, 8, 200), bytes_of({0, 0, 0}))), "does not exist"));
    CHECK(contains(error_of(png(png_header(2, 1, 8, 0, 2), bytes_of({0, 0, 0}))), "interlace"));
    CHECK(contains(error_of(png(png_header(0, 1, 8, 0), bytes_of({0}))), "empty"));
    CHECK(contains(error_of(png(png_header(2, 1, 8, 0), bytes_of({9, 0, 0}))), "filter"));
    CHECK(contains(error_of(png(png_header(2, 2, 8, 0), bytes_of({0, 0, 0}))),
                   "truncated PNG: the pixel data ends too early"));
    // A file whose checksums are right, but not that of its compressed data.
    std::string spoiled = deflated(bytes_of({0, 7, 9}));
    spoiled.back() = static_cast<char>(spoiled.back() ^ 1);
    std::string sum(reinterpret_cast<const char*>(detail::png_signature), 8);
    append_chunk(sum, "IHDR", png_header(2, 1, 8, 0));
    append_chunk(sum, "IDAT", spoiled);
    append_chunk(sum, "IEND", "");
    CHECK(contains(error_of(sum), "damaged PNG"));
    std::string no_data(reinterpret_cast<const char*>(detail::png_signature), 8);
    append_chunk(no_data, "IHDR", png_header(2, 1, 8, 0));
    append_chunk(no_data, "IEND", "");
    CHECK(contains(error_of(no_data), "no image data"));
}

TEST_CASE("too many pixels are refused from the header, before any memory is taken") {
    CHECK(contains(error_of(png(png_header(0x7fffffff, 0x7fffffff, 8, 2), "")), "limit of 178956970"));
    CHECK(contains(error_of(png(png_header(0xffffffff, 1, 8, 2), "")), "limit of 178956970"));
    ImageLimits small;
    small.max_pixels = 128 * 96 - 1;
    CHECK(contains(error_of(golden("00_RGB_128x96.png"), small), "128x96"));
    CHECK(contains(error_of(golden("06_RGB_160x120.jpg"), small), "160x120"));
    small.max_pixels = 128 * 96;
    CHECK(decode(golden("00_RGB_128x96.png"), small).height == 96);
    // A small image whose data would inflate to much more is read without inflating the rest.
    CHECK(decode(png(png_header(2, 1, 8, 0), std::string(1 << 20, '\0'))).width == 2);
    small.max_file_bytes = 100;
    CHECK_THROWS_WITH_AS(read_image(std::string(PROMPTKD_TEST_DATA) + "/golden/images/02_RGB_40x40.png", small),
                         doctest::Contains("100 bytes"), Error);
}

TEST_CASE("JPEG: a colour and a grey photo") {
    const Image colour = decode(golden("06_RGB_160x120.jpg")), grey = decode(golden("07_L_99x101.jpg"));
    CHECK(colour.width == 160);
    CHECK(colour.height == 120);
    CHECK(grey.width == 99);
    CHECK(grey.height == 101);
    for (std::size_t i = 0; i < grey.pixels.size(); i += 3) REQUIRE(grey.pixels[i] == grey.pixels[i + 2]);
}

TEST_CASE("JPEG: truncated anywhere") {
    const std::string good = golden("06_RGB_160x120.jpg");
    for (std::size_t n = 3; n + 2 < good.size(); n += n < 800 ? 1 : 97) {
        CAPTURE(n);
        REQUIRE(contains(error_of(good.substr(0, n)), "truncated JPEG"));
    }
    CHECK(decode(good + "trailing bytes").width == 160);
}

TEST_CASE("JPEG: Huffman tables that stb_image would index out of bounds") {
    const std::string good = golden("06_RGB_160x120.jpg"), table = segment(good, 0xc4);
    std::string many = table.substr(0, 1) + std::string(16, '\xff');  // 4080 symbols
    CHECK(contains(error_of(with_segment(good, 0xc4, many + std::string(4080, '\0'))), "Huffman"));
    std::string over = bytes_of({0, 3}) + std::string(15, '\0') + bytes_of({1, 2, 3});  // three codes of one bit
    CHECK(contains(error_of(with_segment(good, 0xc4, over)), "more codes than bits allow"));
    std::string late = bytes_of({0, 1, 2}) + bytes_of({1}) + std::string(13, '\0') + bytes_of({1, 2, 3, 4});
    CHECK(contains(error_of(with_segment(good, 0xc4, late)), "more codes than bits allow"));
    CHECK(contains(error_of(with_segment(good, 0xc4, bytes_of({0x20}) + table.substr(1))), "bad header"));
    CHECK(contains(error_of(with_segment(good, 0xc4, bytes_of({0x04}) + table.substr(1))), "bad header"));
    CHECK(contains(error_of(with_segment(good, 0xc4, table.substr(0, 20))), "too many symbols"));
    CHECK(contains(error_of(with_segment(good, 0xc4, "")), "without its Huffman tables"));
}

TEST_CASE("JPEG: other damaged or unsupported headers") {
    const std::string good = golden("06_RGB_160x120.jpg"), frame = segment(good, 0xc0), scan = segment(good, 0xda);
    const auto with_frame = [&](std::size_t at, int value) {
        std::string body = frame;
        body[at] = static_cast<char>(value);
        return error_of(with_segment(good, 0xc0, body));
    };
    CHECK(contains(with_frame(0, 12), "12 bits"));
    CHECK(contains(error_of(with_segment(good, 0xc0, frame.substr(0, 1) + std::string(4, '\0') + frame.substr(5))),
                   "empty"));
    CHECK(contains(with_frame(5, 2), "number of components"));
    CHECK(contains(with_frame(5, 4), "number of components"));
    CHECK(contains(with_frame(7, 0x05), "sampling"));
    CHECK(contains(with_frame(7, 0x51), "sampling"));
    CHECK(contains(with_frame(8, 4), "sampling or table"));
    CHECK(contains(with_frame(8, 3), "quantization table"));
    const auto with_scan = [&](std::size_t at, int value) {
        std::string body = scan;
        body[at] = static_cast<char>(value);
        return error_of(with_segment(good, 0xda, body));
    };
    CHECK(contains(with_scan(0, 2), "scan header"));
    CHECK(contains(with_scan(1, 99), "unknown component"));
    CHECK(contains(with_scan(2, 0x40), "Huffman tables"));
    CHECK(contains(with_scan(2, 0x33), "Huffman tables"));
    CHECK(contains(error_of(with_segment(good, 0xdb, segment(good, 0xdb).substr(0, 30))), "quantization table"));
    std::string kind = good;
    kind[kind.find("\xff\xc0") + 1] = '\xc9';
    CHECK(contains(error_of(kind), "arithmetic"));
    std::string twice = good;
    twice.insert(good.find("\xff\xc4"), good.substr(good.find("\xff\xc0"), frame.size() + 4));
    CHECK(contains(error_of(twice), "second frame header"));
    // Four components, of which the last has no data.
    std::string four = frame + bytes_of({4, 0x11, 0});
    four[5] = 4;
    CHECK(contains(error_of(with_segment(good, 0xc0, four)), "a component without data"));
    CHECK(contains(error_of(bytes_of({0xff, 0xd8, 0xff, 0xd9})), "without image data"));
}

TEST_CASE("JPEG: random damage never crashes the decoder") {
    std::uint32_t state = 1;
    const auto random = [&](std::size_t n) { return (state = state * 1664525u + 1013904223u) / 256 % n; };
    ImageLimits limits;
    limits.max_pixels = 1 << 18;
    int decoded = 0, refused = 0;
    for (const char* name : {"06_RGB_160x120.jpg", "07_L_99x101.jpg", "05_P_97x83.png"}) {
        const std::string good = golden(name);
        for (int trial = 0; trial < 300; ++trial) {
            std::string bad = good;
            for (int change = 0; change < 3; ++change)
                bad[random(change == 0 ? bad.size() : 650)] = static_cast<char>(random(256));
            try {
                decode(bad, limits);
                ++decoded;
            } catch (const Error&) {
                ++refused;
            }
        }
    }
    CHECK(refused > 300);
    CHECK(decoded + refused == 900);
}

TEST_CASE("files that are no images say what they seem to be") {
    CHECK(contains(error_of(""), "the file is empty"));
    CHECK(contains(error_of("abc"), "only 3 bytes"));
    CHECK(contains(error_of("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS pointer"));
    CHECK(contains(error_of("\n <!DOCTYPE html><html>not found</html>"), "HTML"));
    CHECK(contains(error_of("GIF89a......"), "GIF"));
    CHECK(contains(error_of(std::string("RIFF\0\0\0\0WEBPVP8 ", 16)), "WebP"));
    CHECK(contains(error_of(std::string("\0\0\0\x1c"
                                        "ftypheic",
                                        12)),
                   "HEIC"));
    CHECK(contains(error_of("just some text here"), "neither PNG, JPEG"));
    CHECK(contains(error_of("abc"), "picture:"));
    CHECK_THROWS_WITH_AS(read_image("/no/such/image.png"), doctest::Contains("/no/such/image.png"), Error);
    CHECK_THROWS_AS(read_image("/"), Error);
}

}  // namespace image_test
