// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/observer.hpp>
#include <promptkd/experiment/reproduction/stage.hpp>
#include <promptkd/experiment/reproduction/stage_result.hpp>

namespace promptkd {

/// Whom a reproduction tells what happens, beside what every run tells.
class ReproductionObserver : public Observer {
public:
    /// Stage `number` (from 1) of `total` begins; those that are done already are passed over in silence.
    virtual void on_stage(const ReproductionStage&, Index /*number*/, Index /*total*/) {}
    /// A stage's model was tested on a data set.
    virtual void on_test(const ReproductionStage&, const TestSet&, const TestFigures&) {}
};

}  // namespace promptkd
