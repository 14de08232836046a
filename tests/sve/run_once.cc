/* run_once "LINE" [packed]: runs one problem once on one thread with `sve`, for tools/a64fx_model to count what is
 * executed. What comes from a forward op (mean, lse, o) is zero here: the counts do not depend on it. */
#include <cstdio>
#include <cstring>
#include <exception>

#include "tests/ops/runner.h"

using namespace kumiki::test;

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: run_once \"LINE\" [packed]\n");
    return 2;
  }
  TestHost host(1);
  KernelsPlugin kernels(host, "linked/sve");
  Problem p;
  parse_problem(argv[1], p);
  const Evaluate zeros = [](const Problem& problem, const std::vector<Tensor>&) {
    std::vector<Tensor> outputs;
    for (const km_tensor& t : problem.outputs) outputs.push_back(make_tensor(t.dtype, {t.dims, t.dims + t.rank}));
    return outputs;
  };
  RunOptions options;
  options.may_prepack = argc > 2 && std::strcmp(argv[2], "packed") == 0;
  const RunResult result = run_problem(kernels, p, random_inputs(p, 1, zeros), options);
  if (result.supported) return 0;
  std::fprintf(stderr, "%s\n", result.reason.c_str());
  return 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
