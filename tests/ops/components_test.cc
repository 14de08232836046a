/* Every kernels component of the tree against `reference`, on every line of cases.h. */
#include <catch2/catch.hpp>
#include <filesystem>
#include <iostream>
#include <set>

#include "tests/ops/cases.h"
#include "tests/ops/contract.h"
#include "tests/ops/runner.h"

namespace kumiki::test {
namespace {

const char* const kReference = "plugins/kernels/reference/reference.so";

/* Relative to the norm of an output. Sums in f32 lose about 1e-7 · √terms; a bf16 keeps 2⁻⁹; the bf16 loss also rounds
 * d_logits to bf16 before the last two products. */
double tolerance(const Problem& p, size_t output) {
  const bool bf16 = p.inputs[0].dtype == KM_BF16;
  if (p.op_name == "cast" || p.op_name == "embedding" || p.op_name == "copy") return 0;
  if (p.op_name == "dropout") return 1e-7; /* a product with 1 / (1 - probability) is one rounding off */
  /* A component may make y from the u that it stores: u has been rounded then. */
  const bool activated = p.op_name == "matmul_bias" && p.outputs.size() == 2;
  if (p.outputs[output].dtype == KM_BF16) return activated ? 4e-3 : 1e-3;
  if (bf16 && p.op_name == "projection_cross_entropy_train" && output >= 2) return 5e-3;
  if (p.op_name.starts_with("attention") && p.outputs.size() == 3) return 2e-5;
  return 5e-6;
}

/* The first element whose bits differ, or -1. */
int64_t first_difference(const Tensor& a, const Tensor& b) {
  const size_t size = km_dtype_bytes(b.type.dtype);
  for (size_t i = 0; i < b.bytes.size(); ++i)
    if (a.bytes[i] != b.bytes[i]) return static_cast<int64_t>(i / size);
  return -1;
}

void compare(const Problem& p, const std::vector<Tensor>& outputs, const std::vector<Tensor>& expected) {
  for (size_t o = 0; o < expected.size(); ++o) {
    INFO("output " << o << " of " << p.line);
    /* Where a token sees only itself the gradient is a difference of equal numbers of order 1: rounding is all there
     * is. */
    if (p.op_name.starts_with("attention") && p.outputs.size() == 3 && rms_difference(outputs[o], expected[o]) <= 3e-7)
      continue;
    CHECK(relative_error(outputs[o], expected[o]) <= tolerance(p, o));
  }
}

/* All ways in which the ABI allows to call it give the same bits as the plain one. */
void check_variants(const KernelsPlugin& kernels, const Problem& p, const std::vector<Tensor>& inputs,
                    const RunResult& plain) {
  const auto same_bits = [&](const RunOptions& options, const std::string& how) {
    INFO(how << ": " << p.line);
    const RunResult result = run_problem(kernels, p, inputs, options);
    if (result.outputs.empty()) return;
    for (size_t o = 0; o < plain.outputs.size(); ++o)
      CHECK(first_difference(result.outputs[o], plain.outputs[o]) == -1);
  };
  RunOptions again;
  again.repeats = 2;
  same_bits(again, "the same kernel a second time");
  if (p.addends) {
    RunOptions apart;
    apart.addends_apart = true;
    same_bits(apart, "addends apart");
  }
  const size_t first_addend = p.inputs.size() - p.addends;
  for (size_t o = 0; o < p.outputs.size(); ++o)
    for (size_t i = 0; i < first_addend; ++i) {
      if (!(plain.support.in_place[o] >> i & 1)) continue;
      if (km_bytes(&p.inputs[i]) != km_bytes(&p.outputs[o])) continue;
      RunOptions in_place;
      in_place.in_place_output = static_cast<int>(o);
      in_place.in_place_input = static_cast<int>(i);
      in_place.addends_apart = (plain.support.flags & KM_SUPPORT_ADDEND_APART) != 0;
      if (p.addends && !in_place.addends_apart) continue;
      same_bits(in_place, numbered("output ", o) + numbered(" in input ", i));
    }
}

/* Gives the ops that the component took at least once. */
std::set<std::string> check_component(const std::string& path) {
  TestHost one_host(1), three_hosts(3);
  KernelsPlugin reference(one_host, kReference), single(one_host, path), triple(three_hosts, path);
  std::set<std::string> taken;
  if (!single.supported()) {
    WARN("skipped: " << path << ": " << single.reason());
    return taken;
  }
  const Evaluate evaluate = evaluate_with(reference);
  uint64_t seed = 1;
  int lines = 0, packed_lines = 0;
  for (const char* line : kCases) {
    Problem p;
    parse_problem(line, p);
    const std::vector<Tensor> inputs = random_inputs(p, seed++, evaluate);
    const RunResult plain = run_problem(single, p, inputs);
    RunOptions prepack;
    prepack.may_prepack = true;
    const RunResult packed = run_problem(single, p, inputs, prepack);
    if (!plain.supported && !packed.supported) continue;
    taken.insert(p.op_name);
    ++lines;
    const std::vector<Tensor> expected = evaluate(p, inputs);
    if (plain.supported) {
      compare(p, plain.outputs, expected);
      check_variants(single, p, inputs, plain);
      const RunResult wide = run_problem(triple, p, inputs);
      for (size_t o = 0; o < plain.outputs.size(); ++o) {
        INFO("three threads: " << p.line);
        CHECK(first_difference(wide.outputs[o], plain.outputs[o]) == -1);
      }
    }
    bool is_packed = false;
    for (uint64_t bytes : packed.support.prepack_bytes) is_packed |= bytes > 0;
    if (!packed.supported || !is_packed) continue;
    ++packed_lines;
    compare(p, packed.outputs, expected);
    const RunResult wide = run_problem(triple, p, inputs, prepack);
    for (size_t o = 0; o < packed.outputs.size(); ++o) {
      INFO("three threads, packed: " << p.line);
      CHECK(first_difference(wide.outputs[o], packed.outputs[o]) == -1);
    }
  }
  std::cout << single.name() << ": " << lines << " of " << std::size(kCases) << " lines, " << packed_lines
            << " also packed, " << taken.size() << " of " << vocabulary().size() << " ops\n";
  return taken;
}

TEST_CASE("reference runs every op of the vocabulary, and its variants give the same bits") {
  const std::set<std::string> taken = check_component(kReference);
  for (const std::string& op : vocabulary()) {
    INFO(op);
    CHECK(taken.count(op) == 1);
  }
}

TEST_CASE("generic agrees with reference on every op of the vocabulary") {
  const std::set<std::string> taken = check_component("plugins/kernels/generic/generic.so");
  for (const std::string& op : vocabulary()) {
    INFO(op);
    CHECK(taken.count(op) == 1);
  }
}

TEST_CASE("generic refuses an accumulate that the op does not take") {
  check_refuses_addends("plugins/kernels/generic/generic.so", kReference);
}
TEST_CASE("onednn refuses an accumulate that the op does not take") {
  check_refuses_addends("plugins/kernels/onednn/onednn.so", kReference);
}

TEST_CASE("generic gives packings of other bytes other names") {
  check_packing_names("plugins/kernels/generic/generic.so");
}
TEST_CASE("onednn gives packings of other bytes other names") {
  check_packing_names("plugins/kernels/onednn/onednn.so");
}

/* Threads of this process, by the kernel's count. */
int64_t threads_now() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(std::filesystem::begin(tasks), std::filesystem::end(tasks));
}

/* Whatever a component runs, it runs on the host's pool. */
void check_makes_no_threads(const std::string& path) {
  TestHost host(2);
  KernelsPlugin kernels(host, path), reference(host, kReference);
  if (!kernels.supported()) return;
  const int64_t before = threads_now();
  for (const char* line : {"matmul a=512x256 b=384x256 transpose_b=1", "matmul a=512x256 b=512x384 transpose_a=1",
                           "matmul a=512x256:bf16 b=384x256:bf16 transpose_b=1", "cast x=1000x1000 dtype=bf16",
                           "projection_cross_entropy_train x=1100x64:bf16 w=4100x64:bf16"}) {
    Problem p;
    parse_problem(line, p);
    RunOptions prepack;
    prepack.may_prepack = true;
    run_problem(kernels, p, random_inputs(p, 5, evaluate_with(reference)), prepack);
    INFO(line);
    CHECK(threads_now() == before);
  }
}

TEST_CASE("reference makes no threads of its own") { check_makes_no_threads(kReference); }
TEST_CASE("generic makes no threads of its own") { check_makes_no_threads("plugins/kernels/generic/generic.so"); }
TEST_CASE("onednn makes no threads of its own") { check_makes_no_threads("plugins/kernels/onednn/onednn.so"); }

TEST_CASE("onednn agrees with reference on what it takes") {
  const std::string path = "plugins/kernels/onednn/onednn.so";
  const std::set<std::string> taken = check_component(path);
  TestHost host;
  if (!KernelsPlugin(host, path).supported()) return;
  CHECK(taken.count("matmul") == 1);
  CHECK(taken.count("matmul_bias") == 1);
}

} // namespace
} // namespace kumiki::test
