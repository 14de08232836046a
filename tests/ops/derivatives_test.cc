/* The backward ops of the vocabulary are the derivatives of the forward ops: finite differences of `reference`. */
#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <sstream>

#include "tests/ops/runner.h"

namespace kumiki::test {
namespace {

/* One backward op: its inputs by name (of the forward's inputs, y0 y1 … its outputs, w0 w1 … the gradients of these,
 * results of steps before), and the names of its results, "-" for none; the gradient of input a is called d_a. */
struct Step {
  const char *line, *inputs, *results;
};

/* The loss is Σ w·y over the first `weighted` outputs of `forward`; steps give its gradients. */
struct Pair {
  const char* forward;
  std::vector<Step> steps;
  size_t weighted = 1;
};

const std::vector<Pair>& pairs() {
  static const std::vector<Pair> table = {
      {"matmul a=5x7 b=3x7 transpose_b=1",
       {{"matmul a=5x3 b=3x7", "w0 b", "d_a"}, {"matmul a=5x3 b=5x7 transpose_a=1", "w0 a", "d_b"}}},
      {"matmul a=5x7 b=7x3",
       {{"matmul a=5x3 b=7x3 transpose_b=1", "w0 b", "d_a"}, {"matmul a=5x7 b=5x3 transpose_a=1", "a w0", "d_b"}}},
      {"matmul a=2x5x7 b=2x5x3 transpose_a=1",
       {{"matmul a=2x5x3 b=7x3 transpose_b=1", "b w0", "d_a"}, {"matmul a=2x5x7 b=7x3", "a w0", "d_b"}}},
      {"matmul_bias a=2x5x7 b=3x7 transpose_b=1",
       {{"matmul a=2x5x3 b=3x7", "w0 b", "d_a"},
        {"matmul a=2x5x3 b=2x5x7 transpose_a=1", "w0 a", "d_b"},
        {"sum_rows x=2x5x3", "w0", "d_bias"}}},
      {"matmul_bias a=5x7 b=3x7 transpose_b=1 activation=gelu",
       {{"gelu_backward x=5x3", "w0 y1", "du"},
        {"matmul a=5x3 b=3x7", "du b", "d_a"},
        {"matmul a=5x3 b=5x7 transpose_a=1", "du a", "d_b"},
        {"sum_rows x=5x3", "du", "d_bias"}}},
      {"matmul_bias a=5x7 b=3x7 transpose_b=1 activation=silu",
       {{"silu_backward x=5x3", "w0 y1", "du"},
        {"matmul a=5x3 b=3x7", "du b", "d_a"},
        {"sum_rows x=5x3", "du", "d_bias"}}},
      {"gelu x=5x11", {{"gelu_backward x=5x11", "w0 x", "d_x"}}},
      {"silu x=5x11", {{"silu_backward x=5x11", "w0 x", "d_x"}}},
      {"swiglu gate=5x11", {{"swiglu_backward gate=5x11", "w0 gate up", "d_gate d_up"}}},
      {"bias_add x=5x11", {{"sum_rows x=5x11", "w0", "d_bias"}}},
      {"dropout x=2x33 probability=0.4 stream=3",
       {{"dropout x=2x33 probability=0.4 stream=3", "w0 seed sample", "d_x"}}},
      {"layernorm x=5x11 epsilon=1e-5",
       {{"layernorm_backward x=5x11", "w0 x weight y1 y2", "d_x"},
        {"layernorm_backward_weight x=5x11", "w0 x y1 y2", "d_weight d_bias"}}},
      {"rmsnorm x=5x11 epsilon=1e-5",
       {{"rmsnorm_backward x=5x11", "w0 x weight y1", "d_x"},
        {"rmsnorm_backward_weight x=5x11", "w0 x y1", "d_weight"}}},
      {"add_layernorm a=5x11 epsilon=1e-5",
       {{"layernorm_backward x=5x11 accumulate=1", "w1 y0 weight y2 y3 w0", "d_a"},
        {"layernorm_backward x=5x11 accumulate=1", "w1 y0 weight y2 y3 w0", "d_b"},
        {"layernorm_backward_weight x=5x11", "w1 y0 y2 y3", "d_weight d_bias"}},
       2},
      {"add_rmsnorm a=5x11 epsilon=1e-5",
       {{"rmsnorm_backward x=5x11 accumulate=1", "w1 y0 weight y2 w0", "d_a"},
        {"rmsnorm_backward_weight x=5x11", "w1 y0 y2", "d_weight"}},
       2},
      {"attention q=2x7x12 head_width=6",
       {{"attention_backward q=2x7x12 head_width=6", "q k v y0 y1 w0", "d_q d_k d_v"}}},
      {"attention q=2x7x24 k=2x7x12 head_width=6 scale=0.7",
       {{"attention_backward q=2x7x24 k=2x7x12 head_width=6 scale=0.7", "q k v y0 y1 w0", "d_q d_k d_v"}}},
      {"attention q=2x9x12 segments=2x9 head_width=6 mask=segments",
       {{"attention_backward q=2x9x12 segments=2x9 head_width=6 mask=segments", "q k v y0 y1 w0 segments",
         "d_q d_k d_v"}}},
      {"attention_part q=2x7x12 head_width=6 mask=causal",
       {{"attention_part_backward q=2x7x12 head_width=6 mask=causal", "q k v y0 y1 w0", "d_q d_k d_v"}}},
      {"attention_part q=2x6x24 k=2x9x12 head_width=6 scale=0.7 first=2 keys=8",
       {{"attention_part_backward q=2x6x24 k=2x9x12 head_width=6 scale=0.7 first=2 keys=8", "q k v y0 y1 w0",
         "d_q d_k d_v"}}},
      {"attention_part q=2x8x12 k=2x9x12 query_segments=2x8 key_segments=2x9 head_width=6",
       {{"attention_part_backward q=2x8x12 k=2x9x12 query_segments=2x8 key_segments=2x9 head_width=6",
         "q k v y0 y1 w0 query_segments key_segments", "d_q d_k d_v"}}},
      {"rope x=2x5x12 head_width=6 base=100.0 offset=1 fold=2 fold_offset=9",
       {{"rope x=2x5x12 head_width=6 base=100.0 offset=1 fold=2 fold_offset=9 sign=-1.0", "w0", "d_x"}}},
      {"add_position x=2x5x7 table=19x7 offset=9 fold=2 fold_offset=14",
       {{"add_position_backward dy=2x5x7 rows=19 offset=9 fold=2 fold_offset=14", "w0", "d_table"}}},
      {"rope x=2x5x12 head_width=6 base=100.0", {{"rope x=2x5x12 head_width=6 base=100.0 sign=-1.0", "w0", "d_x"}}},
      {"add_position x=2x5x7 table=9x7", {{"add_position_backward dy=2x5x7 rows=9", "w0", "d_table"}}},
      {"embedding tokens=2x9 table=6x7", {{"embedding_backward dy=2x9x7 rows=6", "tokens w0", "d_table"}}},
      {"cross_entropy logits=5x11", {{"cross_entropy_backward logits=5x11", "logits targets w0", "d_logits"}}},
      {"add_position x=2x5x7 table=19x7 offset=9",
       {{"add_position_backward dy=2x5x7 rows=19 offset=9", "w0", "d_table"}}},
      {"embedding tokens=2x9 table=6x7 offset=4",
       {{"embedding_backward dy=2x9x7 rows=6 offset=4", "tokens w0", "d_table"}}},
      {"dropout x=2x33 probability=0.4 stream=3 offset=66 sample_elements=99",
       {{"dropout x=2x33 probability=0.4 stream=3 offset=66 sample_elements=99", "w0 seed sample", "d_x"}}},
      {"projection_cross_entropy x=5x7 w=11x7",
       {{"projection_cross_entropy_train x=5x7 w=11x7", "x w targets w0", "- - d_x d_w"}}},
  };
  return table;
}

using Named = std::map<std::string, Tensor>;

double loss(const std::vector<Tensor>& outputs, const Named& values, size_t weighted) {
  double sum = 0;
  for (size_t o = 0; o < weighted; ++o) {
    const Tensor& w = values.at(numbered("w", o));
    for (int64_t i = 0; i < w.size(); ++i) sum += w.at(i) * outputs[o].at(i);
  }
  return sum;
}

void run_steps(const Pair& pair, Named& values, const Evaluate& evaluate) {
  for (const Step& step : pair.steps) {
    Problem p;
    parse_problem(step.line, p);
    std::vector<Tensor> inputs;
    std::istringstream names(step.inputs), results(step.results);
    for (std::string name; names >> name;) inputs.push_back(values.at(name));
    const std::vector<Tensor> outputs = evaluate(p, inputs);
    std::string name;
    for (size_t o = 0; results >> name; ++o) values[name] = outputs[o];
  }
}

/* (L(x + h·direction) − L(x − h·direction) − gradient · (the step that f32 really took)) / 2h */
double defect(const Problem& p, std::vector<Tensor> inputs, size_t which, const std::vector<double>& direction,
              double h, const Tensor& gradient, const Named& values, size_t weighted, const Evaluate& evaluate) {
  const Tensor x = inputs[which];
  Tensor up = x, down = x;
  double expected = 0;
  for (int64_t i = 0; i < x.size(); ++i) {
    up.set(i, x.at(i) + h * direction[static_cast<size_t>(i)]);
    down.set(i, x.at(i) - h * direction[static_cast<size_t>(i)]);
    expected += gradient.at(i) * (up.at(i) - down.at(i));
  }
  inputs[which] = up;
  const double above = loss(evaluate(p, inputs), values, weighted);
  inputs[which] = down;
  return (above - loss(evaluate(p, inputs), values, weighted) - expected) / (2 * h);
}

TEST_CASE("backward ops are the derivatives of their forward ops") {
  TestHost host;
  KernelsPlugin reference(host, "plugins/kernels/reference/reference.so");
  const Evaluate evaluate = evaluate_with(reference);
  std::mt19937_64 random(7);
  for (const Pair& pair : pairs()) {
    Problem p;
    parse_problem(pair.forward, p);
    const std::vector<Tensor> inputs = random_inputs(p, 11, evaluate), outputs = evaluate(p, inputs);
    Named values;
    for (size_t i = 0; i < inputs.size(); ++i) values[p.input_names[i]] = inputs[i];
    for (size_t o = 0; o < outputs.size(); ++o) {
      values[numbered("y", o)] = outputs[o];
      Tensor& w = values[numbered("w", o)] = outputs[o];
      for (int64_t i = 0; i < w.size(); ++i) w.set(i, static_cast<double>(random() % 2001) / 1000 - 1);
    }
    run_steps(pair, values, evaluate);
    int checked = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const auto found = values.find("d_" + p.input_names[i]);
      if (found == values.end()) continue;
      const Tensor& gradient = found->second;
      REQUIRE(gradient.size() == inputs[i].size());
      std::vector<double> direction;
      double size = 0;
      for (int64_t e = 0; e < gradient.size(); ++e) {
        direction.push_back(static_cast<double>(random() % 2001) / 1000 - 1);
        size += gradient.at(e) * gradient.at(e);
      }
      const auto at = [&](double h) {
        return defect(p, inputs, i, direction, h, gradient, values, pair.weighted, evaluate);
      };
      /* Both have an error of order h²: this takes it away. */
      const double error = std::abs((4 * at(0.02) - at(0.04)) / 3);
      INFO(pair.forward << ": " << p.input_names[i] << ": " << error << " of " << std::sqrt(size));
      CHECK(size > 0);
      CHECK(error <= 2e-4 * std::sqrt(size));
      ++checked;
    }
    INFO(pair.forward);
    CHECK(checked > 0);
  }
}

} // namespace
} // namespace kumiki::test
