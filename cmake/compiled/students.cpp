// SPDX-License-Identifier: Apache-2.0
// Distillation and classification for Cpu<float>, compiled once: see device/compiled.hpp.
#include <promptkd/distill/run.hpp>
#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/evaluate/dense/dense_model.hpp>

namespace promptkd {

template class Student<Cpu<float>>;
template class Distiller<Cpu<float>>;
template class LiveTeachers<Cpu<float>>;
template class ClassifierWeights<Cpu<float>>;
template class Classifier<Cpu<float>>;
template class DenseModel<Cpu<float>>;
template TrainingResult run_distillation(Distiller<Cpu<float>>&, TeacherSource<Cpu<float>>&, const Dataset&,
                                         TrainingLoopConfig, StepOptions);
template void write_bundle(const std::string&, const Student<Cpu<float>>&, const TensorMap&, const std::vector<float>&,
                           const std::vector<std::string>&, const nlohmann::json&);

}  // namespace promptkd
