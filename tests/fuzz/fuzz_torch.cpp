// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/format/torch_writer.hpp>
#include <promptkd/learner/registry.hpp>

using namespace promptkd;

std::vector<std::string> promptkd::fuzz::seeds() {
    const std::string formats = std::string(PROMPTKD_TEST_DATA) + "/formats/";
    std::vector<std::string> all;
    TensorMap map;
    for (const char* name : {"prompt_learner.ctx", "prompt_learner.proj.weight",
                             "prompt_learner.compound_prompts_text.0", "visual.conv1.weight"})
        map.tensors[name] = make_tensor<float>({1, 2, 3, 4}, {2, 2});
    map.tensors["prompt_learner.proj.bias"] = make_tensor<half>({half(1.0f), half(2.0f)}, {2});
    const std::string name = "/tmp/promptkd-fuzz-" + std::to_string(::getpid());
    write_torch_checkpoint(name, map.tensors, 20, {{"learner", "maple"}});
    all.push_back(read_file(name));
    ::unlink(name.c_str());
    // The pickles of real files, alone (a leading byte says so), and a small real archive.
    for (const char* file : {"openai.pt", "checkpoints/maple.pth.tar"}) {
        const ZipArchive zip(FileBytes::open(formats + file));
        const ZipArchive::Bytes data = zip.read(detail::archive_root(zip) + "data.pkl");
        all.push_back("P" + std::string(reinterpret_cast<const char*>(data.data), data.size));
    }
    const std::string legacy = read_file(formats + "state_dict_legacy.pt");
    all.push_back(legacy.substr(0, 12000));
    all.push_back(read_file(formats + "checkpoints/promptkd_student.pth.tar"));
    return all;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::InputFile file;
    if (size > 0 && data[0] == 'P' &&
        !(size > 1 && data[1] == 'K')) {  // a bare pickle, whose storages have any size that is asked for
        const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
        fuzz::tolerate_errors([&] {
            const Pickle pickle = Pickle::parse(bytes, "fuzz");
            TensorMap map;
            detail::TorchTensors tensors(pickle, "fuzz", [](const detail::TorchStorage& storage) {
                require(storage.count < 100000, "too large for this test");
                const auto zeros = std::make_shared<std::vector<std::byte>>(storage.count * size_of(storage.type));
                return ZipArchive::Bytes{zeros->data(), zeros->size(), zeros, false};
            });
            detail::TorchTree(pickle, tensors, map).collect();
            for (const auto& named : map.tensors) named.second.to<double>();
        });
        return 0;
    }
    fuzz::tolerate_errors([&] {
        WeightsOptions options;
        options.require_activation = false;
        options.warn = [](const std::string&) {};
        options.learner_of = &name_of_learner;
        const TensorMap map = read_weights(file.write(data, size), options);
        for (const auto& named : map.tensors) named.second.to<double>();
        fixed_prompts(map);
    });
    return 0;
}
