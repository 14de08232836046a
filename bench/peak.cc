// What this machine can do at most (core/base/peak.h), on all cores of the process at once. Prints one line of JSON. The
// roof that bench/train divides by.
//
//   bazel run //bench:peak            (or: bench/train, which builds and runs it)
#include "core/base/peak.h"

#include <cstdio>

#include "core/base/cores.h"

int main() {
  const std::vector<int>& cores = kumiki::process_cores();
  std::printf("{\"threads\": %zu, \"f32_gflops\": %.1f, \"bf16_gflops\": %.1f, \"triad_gb_per_second\": %.1f}\n",
              cores.size(), kumiki::f32_peak(cores) * 1e-9, kumiki::bf16_peak(cores) * 1e-9,
              kumiki::memory_peak(cores) * 1e-9);
}
