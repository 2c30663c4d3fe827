// SPDX-License-Identifier: Apache-2.0
// A device of one's own: everything is a template over it. This one counts the floating-point operations of its
// products; and features go to and from xtensor arrays.
#include <iostream>
#include <promptkd/format/xtensor.hpp>
#include <promptkd/promptkd.hpp>

namespace host_device {

using namespace promptkd;

class Counting : public Cpu<float> {
public:
    using Cpu<float>::Cpu;
    void gemm(const Gemm& g) {
        if (!is_planning()) flops += 2.0 * static_cast<double>(g.m * g.n * g.k * g.batch * g.outer);
        Cpu<float>::gemm(g);
    }
    double flops = 0;
};

}  // namespace host_device

int main(int argc, char** argv) {
    using namespace host_device;
    if (argc < 3) return 2;  // ASSETS IMAGE…
    Counting device;
    const ClipModel<Counting> model(device,
                                    read_safetensors(std::string(argv[1]) + "/fashion_clip_student.safetensors"));
    FrozenImageTower<Counting> tower(device, model, nullptr, 1);
    const Index side = tower.resolution();
    std::vector<float> pixels(static_cast<std::size_t>(3 * side * side));
    normalize_image(preprocess_image(read_image(argv[2]), tower.preprocessing()), pixels.data(), tower.preprocessing());
    const Buffer<Counting, float> image(device, pixels);
    const float* u = tower.encode(image.data(), 1);
    const HostTensor feature = make_tensor(std::vector<float>(u, u + tower.embed()), {tower.embed()});
    const xt::xarray<float> array = to_xarray<float>(feature);
    double square = 0;
    for (const float value : array) square += static_cast<double>(value) * static_cast<double>(value);
    std::cout << array.size() << " values, length " << std::sqrt(square) << ", " << device.flops / 1e6 << " MFLOPs\n";
    return std::abs(square - 1) < 1e-3 && device.flops > 0 ? 0 : 1;
}
