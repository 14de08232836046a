// From a configuration, a machine and a number of ranks to a Prediction: opens model, optimizer and strategies, makes one graph
// and a plan for each coordinate of the pipeline. Needs neither data nor kernels nor other ranks. Floor: plan.
#pragma once

#include "core/plan/scale/predict.h"
#include "core/plugin/registry.h"

namespace kumiki {

// Throws Error where the configuration cannot run on so many ranks, as training would.
Prediction plan_run(Registry& registry, const Config& config, const Machine& machine, int64_t ranks, bool spans);

} // namespace kumiki
