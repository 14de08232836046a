/* run_op PLUGIN.so "LINE" [threads] [repeats]: runs one problem (problem.h), prints the error against reference and the
 * time.
 *
 *   bazel run //tests/ops:run_op -- $PWD/bazel-bin/plugins/kernels/generic/generic.so "matmul a=512x768 b=768x768
 * transpose_b=1" 2
 */
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tests/ops/runner.h"

using namespace kumiki::test;

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "run_op PLUGIN.so \"LINE\" [threads] [repeats] [packed 0|1] [check 0|1]\n");
    return 2;
  }
  const auto number = [&](int i, int otherwise) { return argc > i ? std::atoi(argv[i]) : otherwise; };
  const char* root = std::getenv("REFERENCE_PLUGIN");
  TestHost host(static_cast<uint32_t>(number(3, 1)));
  KernelsPlugin reference(host, root ? root : "plugins/kernels/reference/reference.so"), kernels(host, argv[1]);
  if (!kernels.supported()) {
    std::printf("not supported: %s\n", kernels.reason().c_str());
    return 1;
  }
  Problem p;
  parse_problem(argv[2], p);
  const auto evaluate = evaluate_with(reference);
  const auto inputs = random_inputs(p, 1, evaluate);
  RunOptions options;
  options.may_prepack = number(5, 0) != 0;
  double best = 1e30, processor = 1e30;
  RunResult result;
  for (int i = 0; i < number(4, 5); ++i) {
    options.repeats = 2;
    result = run_problem(kernels, p, inputs, options);
    if (!result.supported) {
      std::printf("not supported: %s\n", result.reason.c_str());
      return 1;
    }
    best = std::min(best, result.seconds);
    processor = std::min(processor, result.processor_seconds);
  }
  std::printf("%s: best %.3f ms, %.3f ms of processors, workspace %.1f MiB%s\n", p.line.c_str(), best * 1e3,
              processor * 1e3, static_cast<double>(result.support.workspace_bytes) / 1048576.0,
              options.may_prepack ? ", packed" : "");
  if (!number(6, 1)) return 0;
  const auto expected = evaluate(p, inputs);
  for (size_t o = 0; o < expected.size(); ++o)
    std::printf("  output %zu: relative error %.3g\n", o, relative_error(result.outputs[o], expected[o]));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
