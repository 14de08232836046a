/* runner.h: runs a problem on a kernels component as hard as the ABI allows: outputs and workspace stand between
 * guards, the workspace is full of NaN, inputs must stay as they were. What comes back are the outputs; what the
 * component did wrong is thrown. Stands on problem.h and test_host.h. */
#ifndef KUMIKI_TESTS_OPS_RUNNER_H
#define KUMIKI_TESTS_OPS_RUNNER_H

#include "tests/ops/problem.h"
#include "tests/ops/test_host.h"

namespace kumiki::test {

struct RunOptions {
  bool addends_apart = false; /* else each addend lies in its output */
  bool may_prepack = false;   /* offer every input for packing; it is packed if the component wants */
  int in_place_output = -1;   /* this output lies in the buffer of ... */
  int in_place_input = -1;    /* ... this input */
  bool end_at_page = false;   /* inputs and outputs end to the byte where memory ends: not 256-byte aligned */
  int repeats = 1;            /* the outputs are of the last run, of fresh buffers each time */
};

struct RunResult {
  bool supported = false;
  std::string reason; /* where it is not */
  km_support support{};
  std::vector<Tensor> outputs;
  double seconds = 0, processor_seconds = 0; /* of the last run alone: by the clock, and of all threads together */
};

/* Throws std::runtime_error where a call fails, a guard or an input was overwritten. */
RunResult run_problem(const KernelsPlugin& kernels, const Problem& problem, const std::vector<Tensor>& inputs,
                      const RunOptions& options = {});

/* ‖a − b‖ / ‖b‖ over all elements (numbers below 1e-30 count as zero); infinite where either has a NaN that the other
 * has not. */
double relative_error(const Tensor& a, const Tensor& b);

/* √ of the average of (a − b)². */
double rms_difference(const Tensor& a, const Tensor& b);

/* The reference plugin as Evaluate. */
Evaluate evaluate_with(const KernelsPlugin& kernels);

} // namespace kumiki::test

#endif
