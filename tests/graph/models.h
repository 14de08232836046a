// Two small models for the tests of the graph, as a model plugin would build them: GPT-like (learned positions,
// layernorm, GELU, biases, tied head, dropout, segments) and LLaMA-like (rope, grouped heads, rmsnorm, SwiGLU).
#pragma once

#include <cstdint>

#include "core/graph/graph.h"

namespace kumiki::test {

struct ModelShape {
  int64_t batch = 2, tokens = 6, layers = 2, width = 8, heads = 2, key_heads = 1, feed_forward = 12, vocabulary = 11;
  double dropout = 0;
  bool segments = false;
  bool tied = true;
};

// Declares the inputs and adds the forward graph, with the outputs "loss" and "tokens".
void build_gpt(Graph& graph, const ModelShape& shape);
void build_llama(Graph& graph, const ModelShape& shape);

} // namespace kumiki::test
