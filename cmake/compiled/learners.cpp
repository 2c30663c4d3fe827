// SPDX-License-Identifier: Apache-2.0
// Every learner of the registry for Cpu<float>, compiled once: see device/compiled.hpp.
#include <promptkd/evaluate/learner.hpp>
#include <promptkd/learner/registry.hpp>

namespace promptkd {

template std::unique_ptr<PromptLearner<Cpu<float>>> make_learner(const std::string&, const FrozenClip<Cpu<float>>&,
                                                                 const Recipe&, const ContextOptions&, Index);
template std::unique_ptr<LearnerTrainer<Cpu<float>>> make_trainer(const std::string&, const FrozenClip<Cpu<float>>&,
                                                                  PromptLearner<Cpu<float>>&,
                                                                  const LearnerTexts<float>&, const Recipe&,
                                                                  const TrainerOptions<Cpu<float>>&);
template Metrics evaluate_learner(Cpu<float>&, LearnerTrainer<Cpu<float>>&, const Dataset&, const Preprocessing&,
                                  Index);

}  // namespace promptkd
