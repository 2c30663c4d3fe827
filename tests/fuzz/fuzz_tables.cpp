// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <promptkd/data/class_names_file.hpp>
#include <promptkd/data/descriptions.hpp>
#include <promptkd/data/image_table.hpp>
#include <promptkd/text/tokenizer_files.hpp>

using namespace promptkd;

std::vector<std::string> promptkd::fuzz::seeds() {
    return {"path,label\na.jpg,\"c\"\"at\"\r\nb.jpg,dog\n",
            "sep=;\nimage;class;split\na.jpg;1;train\n",
            "\xff\xfep\0a\0t\0h\0\n\0",
            "a.jpg 3\nb.jpg 4\n",
            R"([{"file_name": "a.jpg", "label": 1, "box": [1, 2]}, {"file_name": "b.jpg", "label": 2}])",
            R"({"path": {"0": "a.jpg", "1": "b.jpg"}, "label": {"0": "x", "1": "y"}})",
            "{\"path\": \"a.jpg\", \"label\": null}\n{\"path\": \"b.jpg\"}\n",
            "n02000001 trouser, trousers\nn02000003 dress\n",
            R"({"0": ["n02000001", "trouser"], "1": ["n02000003", "dress"]})",
            R"({"trouser": ["two legs.", "x"], "dress": "one."})",
            R"({"model": {"type": "BPE", "end_of_word_suffix": "</w>", "merges": ["a b", ["ab", "c</w>"]],)"
            R"( "vocab": {"ab": 512, "abc</w>": 513, "": 514}}})"};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::InputFile file;
    const std::string& path = file.write(data, size);
    fuzz::tolerate_errors([&] { ImageTable(path, {"x", "y"}).entries(); });
    fuzz::tolerate_errors([&] { read_class_names_file(path); });
    fuzz::tolerate_errors([&] { read_descriptions(path, {"trouser", "dress"}); });
    fuzz::tolerate_errors([&] { Tokenizer::from_merges(detail::merges_of_tokenizer_json(path), path).encode("abc"); });
    return 0;
}
