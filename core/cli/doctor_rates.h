// The part of `kumiki doctor --measure` that times kernels: training steps of small models through the executor, as a run
// has them. In: the plugins of this program, the cores of this rank. Out: seconds by kind of op. Floor: cli.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/run/communicator.h"

namespace kumiki {

// What all calls of one op of one shape took together.
struct RateSample {
  std::string op_class; // of StepCost: "matmul", "attention", …
  double smallest = 0;  // the smallest of M, N, K of a product
  double flops = 0, bytes = 0, seconds = 0;
  double calls = 0;
};

struct Rates {
  std::vector<RateSample> samples; // f32
  double step_overhead = 0;        // seconds of the executor for each op, outside of kernels
};

// Some seconds. Ranks of a communicator do it all at the same time, each on its own cores; null: this process alone, on all
// of its cores. Throws Error. [main]
Rates measure_rates(Communicator* communicator);

} // namespace kumiki
