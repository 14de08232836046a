// From a configuration, a machine and a number of ranks to a Prediction: opens model, optimizer and strategies, makes
// one graph and a plan for each coordinate of the pipeline. Needs neither data nor kernels nor other ranks. Floor:
// plan.
#pragma once

#include "core/plan/scale/predict.h"
#include "core/plugin/registry.h"

namespace kumiki {

// The facts of a model that an estimate needs, read off its forward graph.
struct ModelShape {
  int64_t layers = 1, width = 1, heads = 1, key_heads = 1, vocabulary = 1;
  int64_t sequence = 1, sequences = 1; // tokens of a sequence, sequences of a step
  double parameters = 0;
  double flops = 0; // of one sequence, forward and backward
  bool bf16 = false;
};
ModelShape model_shape(Registry& registry, const Config& config);

// Throws Error where the configuration cannot run on so many ranks, as training would.
Prediction plan_run(Registry& registry, const Config& config, const Machine& machine, int64_t ranks, bool spans);

} // namespace kumiki
