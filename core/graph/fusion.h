// Fusion: several nodes become one op of the vocabulary, where a kernel for it is there. Pure graph to graph; which
// fused ops there are is asked of the caller. In: a graph after autodiff, precision and update. Out: the same graph
// with fewer nodes, the same outputs up to rounding. Floor: graph.
#pragma once

#include <functional>

#include "core/graph/graph.h"

namespace kumiki {

// A fused node that would be made: op, inputs (addends at their end), attributes, layer, stage, phase, part; no
// outputs yet. rules(node.op).shape or Graph::infer_types gives their types.
struct Candidate {
  Node node;
  // `accumulate`: the addend is read by others at or behind this node, or is a leaf or an output, so that the kernel
  // may not work in the addend's buffer (KM_SUPPORT_ADDEND_APART). By the order of nodes: where a schedule runs part
  // W later than it stands, the planner must look at its own lifetimes again.
  bool addend_apart_needed = false;
};

using Supported = std::function<bool(const Graph&, const Candidate&)>;

// How many nodes of each kind were made.
struct FusionStats {
  size_t matmul_bias = 0;     // matmul, bias_add
  size_t activation = 0;      // matmul, bias_add, gelu or silu
  size_t matmul_group = 0;    // several products of one x
  size_t add_norm = 0;        // add, layernorm or rmsnorm
  size_t projection_loss = 0; // matmul, cross_entropy (and backward)
  size_t accumulate = 0;      // an op and the add of its output
};

// All fusions, in the order above. Each fused node keeps layer, stage, phase and part of what it replaces (the fused
// loss of training is part B: `accumulate` nodes that read loss or tokens become B with it).
FusionStats fuse(Graph& graph, const Supported& supported);

} // namespace kumiki
