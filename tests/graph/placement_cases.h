// What placements each op takes of its inputs along an axis of two ranks, and how its outputs lie then: all of it, as a
// list that a person can read. placement_test.cc proves that it is true and complete.
#pragma once

#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace kumiki::test {

inline Type f32(const Shape& shape) { return {KM_F32, shape}; }
inline Type i32(const Shape& shape) { return {KM_I32, shape}; }
inline Type i64() { return {KM_I64, {}}; }

// What is taken: "inputs>outputs", a letter each: R replicated, P partial, M maximum, a digit the dimension that is
// divided.
struct PlacementCase {
  std::string op;
  std::vector<Type> inputs; // whole
  Attributes attributes;
  std::string taken;
  bool batch = false; // the axis divides the batch
};

constexpr int64_t kOne = 1;

inline std::vector<PlacementCase> placement_cases() {
  const Type x = f32({2, 4, 6}), rows = f32({2, 4}), row = f32({6}), number = f32({}), w = f32({8, 6});
  const Type ids = i32({2, 4}), past = i32({});
  const Attributes heads = {{"head_width", int64_t{2}}};
  return {
      {"matmul", {x, w}, {{"transpose_b", kOne}}, "RR>R RP>P R0>2 PR>P 0R>0 1R>1 21>P"},
      {"matmul", {x, f32({6, 8})}, {}, "RR>R RP>P R1>2 PR>P 0R>0 1R>1 20>P"},
      {"matmul", {x, f32({2, 4, 8})}, {{"transpose_a", kOne}}, "RR>R RP>P R2>1 PR>P 00>P 11>P 2R>0"},
      {"matmul",
       {f32({4, 6}), f32({8, 4})},
       {{"transpose_a", kOne}, {"transpose_b", kOne}},
       "RR>R RP>P R0>1 PR>P 01>P 1R>0"},
      {"matmul_bias", {x, w, f32({8})}, {{"transpose_b", kOne}}, "RRR>R R00>2 0RR>0 1RR>1"},
      {"matmul_bias",
       {x, w, f32({8})},
       {{"transpose_b", kOne}, {"activation", std::string("gelu")}},
       "RRR>RR R00>22 0RR>00 1RR>11"},
      {"matmul_group",
       {x, w, w},
       {{"n", int64_t{2}}, {"transpose_b", kOne}},
       "RRR>RR RRP>RP RR0>R2 RPR>PR RPP>PP RP0>P2 R0R>2R R0P>2P R00>22 PRR>PP 0RR>00 1RR>11 211>PP"},
      {"matmul_group",
       {x, w, f32({4, 6}), f32({8}), f32({4})},
       {{"n", int64_t{2}}, {"bias", kOne}, {"transpose_b", kOne}},
       "RRRRR>RR RR0R0>R2 R0R0R>2R R0000>22 0RRRR>00 1RRRR>11"},
      {"add", {x, x}, {}, "RR>R PP>P 00>0 11>1 22>2"},
      {"add", {x, number}, {}, "RR>R 0R>0 1R>1 2R>2"},
      {"add", {number, number}, {}, "RR>R PP>P"},
      {"subtract", {x, x}, {}, "RR>R PP>P 00>0 11>1 22>2"},
      {"multiply", {x, x}, {}, "RR>R RP>P PR>P 00>0 11>1 22>2"},
      {"multiply", {number, x}, {}, "RR>R RP>P R0>0 R1>1 R2>2 PR>P"},
      {"divide", {x, x}, {}, "RR>R PR>P 00>0 11>1 22>2"},
      {"divide", {x, number}, {}, "RR>R PR>P 0R>0 1R>1 2R>2"},
      {"divide", {number, x}, {}, "RR>R R0>0 R1>1 R2>2 PR>P"},
      {"maximum", {x, x}, {}, "RR>R 00>0 11>1 22>2"},
      {"maximum", {x, number}, {}, "RR>R 0R>0 1R>1 2R>2"},
      {"minimum", {x, x}, {}, "RR>R 00>0 11>1 22>2"},
      {"power", {x, x}, {}, "RR>R 00>0 11>1 22>2"},
      {"power", {x, number}, {}, "RR>R 0R>0 1R>1 2R>2"},
      {"copy", {x}, {}, "R>R P>P 0>0 1>1 2>2"},
      {"negate", {x}, {}, "R>R P>P 0>0 1>1 2>2"},
      {"scale", {x}, {{"factor", 1.5}}, "R>R P>P 0>0 1>1 2>2"},
      {"cast", {x}, {}, "R>R P>P 0>0 1>1 2>2"},
      {"square", {x}, {}, "R>R 0>0 1>1 2>2"},
      {"sqrt", {x}, {}, "R>R 0>0 1>1 2>2"},
      {"reciprocal", {x}, {}, "R>R 0>0 1>1 2>2"},
      {"exp", {x}, {}, "R>R 0>0 1>1 2>2"},
      {"log", {x}, {}, "R>R 0>0 1>1 2>2"},
      {"abs", {x}, {}, "R>R 0>0 1>1 2>2"},
      {"sign", {x}, {}, "R>R 0>0 1>1 2>2"},
      {"tanh", {x}, {}, "R>R 0>0 1>1 2>2"},
      {"gelu", {x}, {}, "R>R 0>0 1>1 2>2"},
      {"silu", {x}, {}, "R>R 0>0 1>1 2>2"},
      {"gelu_backward", {x, x}, {}, "RR>R PR>P 00>0 11>1 22>2"},
      {"silu_backward", {x, x}, {}, "RR>R PR>P 00>0 11>1 22>2"},
      {"swiglu", {x, x}, {}, "RR>R 00>0 11>1 22>2"},
      {"swiglu_backward", {x, x, x}, {}, "RRR>RR PRR>PP 000>00 111>11 222>22"},
      {"select", {number, x, x}, {}, "RRR>R RPP>P R00>0 R11>1 R22>2"},
      {"select", {x, x, x}, {}, "RRR>R RPP>P 000>0 111>1 222>2"},
      {"bias_add", {x, row}, {}, "RR>R 0R>0 1R>1 20>2"},
      {"dropout", {x, i64(), i64()}, {{"probability", 0.5}, {"stream", kOne}}, "RRR>R PRR>P 1RR>1"},
      {"dropout", {x, i64(), i64()}, {{"probability", 0.5}, {"stream", kOne}}, "RRR>R PRR>P 0RR>0 1RR>1", true},
      {"sum_rows", {x}, {}, "R>R P>P 0>P 1>P 2>0"},
      {"sum_squares", {x}, {}, "R>R 0>P 1>P 2>P"},
      {"layernorm", {x, row, row}, {{"epsilon", 1e-5}}, "RRR>RRR 0RR>000 1RR>111"},
      {"layernorm_backward", {x, x, row, rows, rows}, {}, "RRRRR>R PRRRR>P 00R00>0 11R11>1"},
      {"layernorm_backward_weight", {x, x, rows, rows}, {}, "RRRR>RR PRRR>PP 0000>PP 1111>PP"},
      {"add_layernorm", {x, x, row, row}, {{"epsilon", 1e-5}}, "RRRR>RRRR 00RR>0000 11RR>1111"},
      {"rmsnorm", {x, row}, {{"epsilon", 1e-5}}, "RR>RR 0R>00 1R>11"},
      {"rmsnorm_backward", {x, x, row, rows}, {}, "RRRR>R PRRR>P 00R0>0 11R1>1"},
      {"rmsnorm_backward_weight", {x, x, rows}, {}, "RRR>R PRR>P 000>P 111>P"},
      {"add_rmsnorm", {x, x, row}, {{"epsilon", 1e-5}}, "RRR>RRR 00R>000 11R>111"},
      {"attention", {f32({2, 4, 8}), f32({2, 4, 8}), f32({2, 4, 8})}, heads, "RRR>RR 000>00 222>21"},
      {"attention", {f32({2, 4, 8}), f32({2, 4, 2}), f32({2, 4, 2})}, heads, "RRR>RR 000>00 2RR>21"},
      {"attention",
       {f32({2, 4, 8}), f32({2, 4, 4}), f32({2, 4, 4}), ids},
       {{"head_width", int64_t{2}}, {"mask", std::string("segments")}},
       "RRRR>RR 0000>00 222R>21"},
      {"attention",
       {f32({2, 4, 8}), f32({2, 6, 4}), f32({2, 6, 4}), past},
       {{"head_width", int64_t{2}}, {"mask", std::string("cached")}},
       "RRRR>RR 000R>00 222R>21"},
      {"attention_backward",
       {f32({2, 4, 8}), f32({2, 4, 4}), f32({2, 4, 4}), f32({2, 4, 8}), f32({2, 4, 4}), f32({2, 4, 8})},
       heads,
       "RRRRRR>RRR RRRRRP>PPP 000000>000 222212>222"},
      {"attention_backward",
       {f32({2, 4, 8}), f32({2, 4, 2}), f32({2, 4, 2}), f32({2, 4, 8}), f32({2, 4, 4}), f32({2, 4, 8})},
       heads,
       "RRRRRR>RRR RRRRRP>PPP 000000>000 2RR212>2PP"},
      // Over tokens a part is what context makes it, with the attribute axes: tests/parallel proves that.
      {"attention_part", {f32({2, 4, 8}), f32({2, 4, 8}), f32({2, 4, 8})}, heads, "RRR>RR 000>00 222>21"},
      {"attention_part",
       {f32({2, 4, 8}), f32({2, 6, 4}), f32({2, 6, 4}), ids, i32({2, 6})},
       {{"head_width", int64_t{2}}, {"first", kOne}, {"keys", int64_t{5}}},
       "RRRRR>RR 00000>00 222RR>21"},
      {"attention_part_backward",
       {f32({2, 4, 8}), f32({2, 4, 4}), f32({2, 4, 4}), f32({2, 4, 8}), f32({2, 4, 4}), f32({2, 4, 8})},
       {{"head_width", int64_t{2}}, {"first", kOne}},
       "RRRRRR>RRR RRRRRP>PPP 000000>000 222212>222"},
      {"attention_merge",
       {f32({2, 4, 8}), f32({2, 4, 4}), f32({2, 4, 8}), f32({2, 4, 4})},
       heads,
       "RRRR>RR 0000>00 1212>12 2121>21"},
      {"rope", {f32({2, 4, 8})}, heads, "R>R P>P 0>0 1>1 2>2"},
      {"rope", {f32({2, 4, 8}), past}, heads, "RR>R PR>P 0R>0 1R>1 2R>2"},
      {"add_position", {x, f32({8, 6})}, {}, "RR>R 0R>0 1R>1 21>2"},
      {"add_position", {x, f32({8, 6}), past}, {}, "RRR>R 0RR>0 1RR>1 21R>2"},
      {"add_position_backward", {x}, {{"rows", int64_t{8}}}, "R>R P>P 0>P 1>P 2>1"},
      {"cache_append", {f32({2, 6, 6}), x, past}, {}, "RRR>R 00R>0 22R>2"},
      {"last_token", {x}, {}, "R>R P>P 0>0 2>1"},
      {"embedding", {ids, f32({8, 6})}, {}, "RR>R R0>P R1>2 0R>0 1R>1"},
      {"embedding_backward", {ids, x}, {{"rows", int64_t{8}}}, "RR>R RP>P R2>1 00>P 11>P"},
      {"cross_entropy", {f32({2, 4, 8}), ids}, {}, "RR>RR 00>PP 11>PP"},
      {"cross_entropy_backward", {f32({2, 4, 8}), ids, number}, {}, "RRR>R RRP>P 00R>0 11R>1"},
      {"projection_cross_entropy", {x, w, ids}, {}, "RRR>RR 0R0>PP 1R1>PP"},
      {"projection_cross_entropy_train", {x, w, ids, number}, {}, "RRRR>RRRR 0R0R>PP0P 1R1R>PP1P"},
      {"row_max", {f32({2, 4, 8})}, {}, "R>R 0>0 1>1 2>M"},
      {"row_exp_pick", {f32({2, 4, 8}), ids, rows}, {}, "RRR>RR 000>00 111>11 2RR>PP"},
      {"cross_entropy_parts", {f32({2, 4, 8}), ids, rows, rows, rows}, {}, "RRRRR>RR 00000>PP 11111>PP 2RRRR>RR"},
      {"cross_entropy_parts_backward",
       {f32({2, 4, 8}), ids, rows, rows, number},
       {},
       "RRRRR>R RRRRP>P 0000R>0 1111R>1 2RRRR>2"},
      {"gradient_scale", {number, number, number}, {{"clip", 1.0}}, "RRR>RRR"},
      {"adamw_update",
       {f32({4, 6}), f32({4, 6}), f32({4, 6}), f32({4, 6}), number, number, number, number},
       {{"beta1", 0.9}, {"beta2", 0.99}, {"epsilon", 1e-8}, {"weight_decay", 0.1}},
       "RRRRRRRR>RRR 0000RRRR>000 1111RRRR>111"},
  };
}

} // namespace kumiki::test
