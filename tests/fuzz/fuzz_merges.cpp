// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <promptkd/text/tokenizer.hpp>

using namespace promptkd;

std::vector<std::string> promptkd::fuzz::seeds() {
    const std::string assets = PROMPTKD_ASSETS;
    const std::string merges = read_text_file(assets + "/fashion_bpe.txt.gz");
    return {read_file(assets + "/fashion_bpe.txt.gz"), merges, "#version\na b</w>\nab c</w>\n",
            "T<p>&amp;amp;It\xE2\x80\x99s 12 caf\xC3\xA9\xEF\xAC\x81 <|endoftext|></p>"};
}

/// "T…": a text for a fixed vocabulary; anything else: a merges file, with which a text is then encoded.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::InputFile file;
    static const Tokenizer fixed = Tokenizer::from_file(std::string(PROMPTKD_ASSETS) + "/fashion_bpe.txt.gz");
    if (size > 0 && data[0] == 'T') {
        fuzz::tolerate_errors([&] { fixed.decode(fixed.encode({reinterpret_cast<const char*>(data) + 1, size - 1})); });
        return 0;
    }
    fuzz::tolerate_errors([&] {
        const Tokenizer tokenizer = Tokenizer::from_file(file.write(data, size));
        tokenizer.decode(tokenizer.encode("a photo of a caf\xC3\xA9, it's 12"));
    });
    return 0;
}
