// SPDX-License-Identifier: Apache-2.0
// Whole runs for Cpu<float>, compiled once: see device/compiled.hpp.
#include <promptkd/experiment/class_extension.hpp>
#include <promptkd/experiment/encoding.hpp>
#include <promptkd/experiment/reproduction.hpp>
#include <promptkd/experiment/student_evaluation.hpp>

namespace promptkd {

template DistillationOutcome run(Cpu<float>&, const DistillationSpec&, Observer&, const Ranks<Cpu<float>>&);
template LearnerOutcome run(Cpu<float>&, const TrainingSpec&, Observer&);
template EvaluationResult run(Cpu<float>&, const ZeroShotSpec&, Observer&);
template EvaluationResult run(Cpu<float>&, const StudentEvaluationSpec&, Observer&, const Ranks<Cpu<float>>&);
template void run(Cpu<float>&, const ClassExtensionSpec&, Observer&);
template TensorMap run(Cpu<float>&, const EncodingSpec&, Observer&);
template ReproductionResult run(Cpu<float>&, const ReproductionPlan&, ReproductionObserver&);

}  // namespace promptkd
