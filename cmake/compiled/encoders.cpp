// SPDX-License-Identifier: Apache-2.0
// CLIP's encoders for Cpu<float>, compiled once: see device/compiled.hpp.
#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/clip/image_tower.hpp>

namespace promptkd {

template class ClipModel<Cpu<float>>;
template class FrozenImageTower<Cpu<float>>;
template std::vector<float> encode_texts(Cpu<float>&, const ClipModel<Cpu<float>>&, const TokenRows&, const TensorMap*,
                                         Index, TextSavings);

namespace detail {
template <int sets>
void compiled_for_other_instruction_sets() {}
template void compiled_for_other_instruction_sets<instruction_sets()>();
}  // namespace detail

}  // namespace promptkd
