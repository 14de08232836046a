/* The component `sve` against `reference`: every op that it takes, forward and backward, on every f32 line of the
 * common table (tests/ops/cases.h) and on lines of its own about the edges of its tiles, panels and blocks; with 1 and
 * with 12 threads, all ways to call it giving the same bits. The vector length is that of the machine (or of qemu). */
#include <arm_sve.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <iostream>
#include <set>

#include "tests/ops/cases.h"
#include "tests/ops/contract.h"
#include "tests/ops/runner.h"

namespace kumiki::test {
namespace {

const char* const kReference = "linked/reference";
const char* const kSve = "linked/sve";

/* Edges: one vector, a vector and one more, panels of 3 vectors ± 1 at 128, 256 and 512 bits (12, 24, 48 columns),
 * tiles of 8 rows ± 1, blocks of 256 steps of k, rows and panels packed
 * by each task or for all, blocks of 96 queries and of 128 keys. */
const char* const kSveCases[] = {
    "matmul a=8x16 b=48x16 transpose_b=1",
    "matmul a=9x257 b=49x257 transpose_b=1",
    "matmul a=7x256 b=47x256 transpose_b=1",
    "matmul a=15x513 b=64x513 transpose_b=1 accumulate=1",
    "matmul a=16x600 b=600x112 accumulate=1",
    "matmul a=3x5 b=5x17",
    "matmul a=41x33 b=33x13",
    "matmul a=260x70 b=260x25 transpose_a=1 accumulate=1",
    "matmul a=33x65 b=31x33 transpose_a=1 transpose_b=1 accumulate=1",
    "matmul a=530x97 b=530x145 transpose_a=1",
    "matmul a=300x2000 b=300x130 transpose_a=1",
    "matmul a=270x300 b=270x1000 transpose_a=1 accumulate=1",
    "matmul a=512x260 b=480x260 transpose_b=1",
    "matmul a=100x144 b=432x144 transpose_b=1",
    "matmul_bias a=50x300 b=100x300 transpose_b=1 accumulate=1",
    "matmul_bias a=50x300 b=100x300 transpose_b=1 activation=gelu",
    "matmul_bias a=50x300 b=300x97 activation=silu",
    "matmul_group x=2x37x300 b1=48x300 b2=16x300 b3=65x300 n=3 transpose_b=1",
    "attention q=1x300x144 head_width=144",
    "attention q=1x257x256 k=1x257x128 head_width=128",
    "attention q=2x49x20 head_width=5",
    "attention q=1x150x64 segments=1x150 head_width=64 mask=segments",
    "attention q=1x9x64 k=1x300x32 past=[]@280 head_width=16 mask=cached",
    "attention q=2x8x40 k=2x600x20 past=[]@555 head_width=20 mask=cached",
    "attention q=1x1x576 k=1x40x144 past=[]@39 head_width=144 mask=cached",
    "attention q=1x60x144 k=1x300x144 past=[]@131 head_width=144 mask=cached",
    "attention_part q=1x300x144 k=1x410x144 head_width=144 first=150",
    "attention_part q=1x300x144 k=1x410x144 head_width=144 keys=205",
    "attention_part q=2x49x20 head_width=5 mask=causal",
    "attention_part_backward q=1x300x144 k=1x410x144 head_width=144 first=150",
    "attention_part_backward q=1x300x144 k=1x410x144 head_width=144 keys=205",
    "attention_part_backward q=1x700x32 k=1x1030x16 head_width=16 first=350",
    "attention_part_backward q=1x530x32 k=1x700x16 query_segments=1x530 key_segments=1x700 head_width=16",
    "attention_part_backward q=1x700x32 head_width=16 mask=causal",
    "attention_merge q=1x300x144 o1=1x300x144 lse1=1x1x300@-inf o2=1x300x144 lse2=1x1x300 head_width=144",
    "attention_backward q=1x300x144 head_width=144",
    "attention_backward q=1x257x256 k=1x257x128 head_width=128",
    "attention_backward q=2x49x20 head_width=5",
    "attention_backward q=1x700x32 head_width=16",
    "attention_backward q=1x530x32 k=1x530x16 segments=1x530 head_width=16 mask=segments",
    "dropout x=2x1025 probability=0.5",
    "dropout x=3x259 probability=0.3 stream=7 offset=3",
    "dropout x=1x600 probability=0.3 offset=17179869000",
    "dropout x=1x40 probability=0.9999999999",
    "layernorm x=3x64 epsilon=1e-5",
    "layernorm x=3x257 epsilon=1e-5",
    "layernorm_backward x=3x257",
    "layernorm_backward_weight x=600x257 accumulate=3",
    "add_rmsnorm a=3x257 epsilon=1e-5",
    "rmsnorm_backward_weight x=600x65",
    "rope x=1x9x288 head_width=144",
    "projection_cross_entropy x=1x5 w=100x300",
    "projection_cross_entropy_train x=65x300 w=400x300 accumulate=8",
    "projection_cross_entropy_train x=1100x48 w=2500x48 accumulate=12",
    "adamw_update p=200 beta1=0.9 beta2=0.95 epsilon=1e-8 weight_decay=0.1 v=200@1e-20",
};

/* What training gpt and llama in f32 runs on kernels (docs/ops.md); generation is left to others. */
const char* const kTrainingOps[] = {"matmul",
                                    "matmul_bias",
                                    "matmul_group",
                                    "add",
                                    "copy",
                                    "gelu",
                                    "gelu_backward",
                                    "silu",
                                    "silu_backward",
                                    "swiglu",
                                    "swiglu_backward",
                                    "scale",
                                    "bias_add",
                                    "dropout",
                                    "sum_rows",
                                    "sum_squares",
                                    "layernorm",
                                    "layernorm_backward",
                                    "layernorm_backward_weight",
                                    "add_layernorm",
                                    "rmsnorm",
                                    "rmsnorm_backward",
                                    "rmsnorm_backward_weight",
                                    "add_rmsnorm",
                                    "attention",
                                    "attention_backward",
                                    "attention_part",
                                    "attention_part_backward",
                                    "attention_merge",
                                    "rope",
                                    "add_position",
                                    "add_position_backward",
                                    "embedding",
                                    "embedding_backward",
                                    "projection_cross_entropy",
                                    "projection_cross_entropy_train",
                                    "row_max",
                                    "row_exp_pick",
                                    "cross_entropy_parts",
                                    "cross_entropy_parts_backward",
                                    "gradient_scale",
                                    "adamw_update"};

/* Relative to the norm of an output: sums in f32 lose about 1e-7 · √terms. */
double tolerance(const Problem& p) {
  if (p.op_name == "embedding" || p.op_name == "copy") return 0;
  return p.op_name.starts_with("attention") && p.outputs.size() == 3 ? 2e-5 : 5e-6;
}

/* Which elements are zero: what dropout dropped. */
std::vector<bool> zeros_of(const Tensor& t) {
  std::vector<bool> zeros;
  for (size_t i = 0; i < t.bytes.size() / sizeof(float); ++i) {
    float x;
    std::memcpy(&x, t.bytes.data() + i * sizeof x, sizeof x);
    zeros.push_back(x == 0.0f);
  }
  return zeros;
}

void compare(const Problem& p, const std::vector<Tensor>& outputs, const std::vector<Tensor>& expected) {
  for (size_t o = 0; o < expected.size(); ++o) {
    INFO("output " << o << " of " << p.line);
    /* Where a token sees only itself the gradient is a difference of equal numbers of order 1. */
    if (p.op_name.starts_with("attention") && p.outputs.size() == 3 && rms_difference(outputs[o], expected[o]) <= 3e-7)
      continue;
    CHECK(relative_error(outputs[o], expected[o]) <= tolerance(p));
    if (p.op_name == "dropout") CHECK(zeros_of(outputs[o]) == zeros_of(expected[o]));
  }
}

class Comparison {
 public:
  void line(const char* text) {
    Problem p;
    parse_problem(text, p);
    const Evaluate evaluate = evaluate_with(reference_);
    const std::vector<Tensor> inputs = random_inputs(p, seed_++, evaluate);
    const RunResult plain = run_problem(single_, p, inputs);
    if (!plain.supported) {
      left_.insert(p.op_name);
      return;
    }
    taken_.insert(p.op_name);
    ++lines_;
    const std::vector<Tensor> expected = evaluate(p, inputs);
    compare(p, plain.outputs, expected);
    RunOptions options;
    options.repeats = 2;
    same(single_, p, inputs, options, plain, "a second time");
    same(many_, p, inputs, {}, plain, "twelve threads");
    if (p.addends) {
      RunOptions apart;
      apart.addends_apart = true;
      same(many_, p, inputs, apart, plain, "addends apart");
    }
    in_place(p, inputs, plain);
    RunOptions prepack;
    prepack.may_prepack = true;
    same(many_, p, inputs, prepack, plain, "packed before");
    prepack.end_at_page = true;
    same(single_, p, inputs, prepack, plain, "no byte behind inputs and outputs");
  }

  const std::set<std::string>& taken() const { return taken_; }
  const std::set<std::string>& left() const { return left_; }
  int lines() const { return lines_; }
  int runs() const { return runs_; }
  bool supported() const { return single_.supported(); }

 private:
  void same(const KernelsPlugin& kernels, const Problem& p, const std::vector<Tensor>& inputs,
            const RunOptions& options, const RunResult& plain, const std::string& how) {
    INFO(how << ": " << p.line);
    const RunResult result = run_problem(kernels, p, inputs, options);
    ++runs_;
    REQUIRE(result.outputs.size() == plain.outputs.size());
    for (size_t o = 0; o < plain.outputs.size(); ++o) {
      INFO("output " << o);
      CHECK(result.outputs[o].bytes == plain.outputs[o].bytes);
    }
  }

  void in_place(const Problem& p, const std::vector<Tensor>& inputs, const RunResult& plain) {
    const size_t first_addend = p.inputs.size() - p.addends;
    for (size_t o = 0; o < p.outputs.size(); ++o)
      for (size_t i = 0; i < first_addend; ++i) {
        if (!(plain.support.in_place[o] >> i & 1) || km_bytes(&p.inputs[i]) != km_bytes(&p.outputs[o])) continue;
        RunOptions options;
        options.in_place_output = static_cast<int>(o);
        options.in_place_input = static_cast<int>(i);
        options.addends_apart = p.addends > 0;
        same(many_, p, inputs, options, plain, numbered("output ", o) + numbered(" in input ", i));
      }
  }

  TestHost one_{1}, twelve_{12};
  KernelsPlugin reference_{one_, kReference}, single_{one_, kSve}, many_{twelve_, kSve};
  std::set<std::string> taken_, left_;
  uint64_t seed_ = 1;
  int lines_ = 0, runs_ = 0;
};

TEST_CASE("sve agrees with reference on every op of training, on one thread and on twelve") {
  Comparison comparison;
  REQUIRE(comparison.supported());
  for (const char* line : kCases) comparison.line(line);
  for (const char* line : kSveCases) comparison.line(line);
  for (const char* op : kTrainingOps) {
    INFO(op);
    CHECK(comparison.taken().count(op) == 1);
  }
  std::cout << "sve at " << 8 * svcntb() << " bits: " << comparison.lines() << " lines, " << comparison.runs()
            << " more runs of the same bits, " << comparison.taken().size() << " ops; some lines left to others of:";
  for (const std::string& op : comparison.left()) std::cout << " " << op;
  std::cout << "\n";
}

TEST_CASE("sve refuses an accumulate that the op does not take") { check_refuses_addends(kSve, kReference); }
TEST_CASE("sve gives packings of other bytes other names") { check_packing_names(kSve); }

} // namespace
} // namespace kumiki::test
