// FLOPs and bytes of a node, by formula: what the planner's reports and the balance of stages are made from.
#include "core/graph/graph.h"

namespace kumiki {
namespace {

double elements(const Graph& graph, ValueId id) { return static_cast<double>(graph.value(id).type.elements()); }

// 2·M·N·K: each element of y is a sum over K.
double product_flops(const Graph& graph, const Node& node, ValueId b, ValueId y) {
  const Shape& shape = graph.value(b).type.shape;
  double sum = 0;
  if (node.i64("transpose_a") && !node.i64("transpose_b")) {
    const Type& type = graph.value(b).type;
    sum = shape.back() ? static_cast<double>(type.elements()) / static_cast<double>(shape.back()) : 0;
  } else {
    sum = static_cast<double>(shape[node.i64("transpose_b") ? 1 : 0]);
  }
  return 2 * elements(graph, y) * sum;
}

// Of all pairs (query, key) that the mask leaves, q·k and p·v: 2 products of 2·D each. "causal" leaves (T + 1) / 2
// keys to a query on average; "segments" at most as many; "cached" at most all that the cache holds.
double attention_flops(const Graph& graph, const Node& node, double products) {
  const Type& q = graph.value(node.inputs[0]).type;
  const double tokens = static_cast<double>(graph.value(node.inputs[1]).type.shape[1]);
  const double keys = node.text("mask", "causal") == "cached" ? tokens : (tokens + 1) / 2;
  return products * 2 * static_cast<double>(q.elements()) * keys;
}

// The same of a part: queries from `first` on and keys before `keys`, with mask "causal" half of them.
double part_flops(const Graph& graph, const Node& node, double products) {
  const Type& q = graph.value(node.inputs[0]).type;
  const int64_t tokens = q.shape[1], all = graph.value(node.inputs[1]).type.shape[1];
  const double queries = static_cast<double>(tokens - node.i64("first"));
  const double keys = static_cast<double>(node.i64("keys", all));
  const double seen = node.text("mask", "none") == "causal" ? (keys + 1) / 2 : keys;
  return products * 2 * static_cast<double>(q.elements() / tokens) * queries * seen;
}

// Operations on each element of the first input, for ops that go over it once: counted as multiplications and
// additions of the formula in docs/ops.md, a transcendental function as one. They weigh little beside the products.
double elementwise_flops(const std::string& op) {
  if (op == "copy" || op == "cast" || op == "assign" || op == "cache_append" || op == "last_token" || op == "embedding")
    return 0;
  if (op == "gelu" || op == "layernorm" || op == "add_layernorm") return 8;
  if (op == "gelu_backward" || op == "layernorm_backward" || op == "adamw_update") return 14;
  if (op == "silu" || op == "swiglu" || op == "rmsnorm" || op == "add_rmsnorm" || op == "cross_entropy" || op == "rope")
    return 4;
  if (op == "silu_backward" || op == "swiglu_backward" || op == "rmsnorm_backward") return 8;
  if (op == "layernorm_backward_weight" || op == "cross_entropy_backward" || op == "rmsnorm_backward_weight") return 4;
  if (op == "sum_squares" || op == "tensor_norm") return 2;
  return 1;
}

} // namespace

Cost cost(const Graph& graph, const Node& node) {
  Cost cost;
  for (const ValueId id : node.inputs) cost.bytes += static_cast<double>(graph.value(id).type.bytes());
  for (const ValueId id : node.outputs) cost.bytes += static_cast<double>(graph.value(id).type.bytes());
  if (node.op == "embedding") {
    // Of the table only the rows that occur, as many as are written.
    cost.bytes = static_cast<double>(graph.value(node.inputs[0]).type.bytes()) +
                 2 * static_cast<double>(graph.value(node.outputs[0]).type.bytes());
  } else if (node.op == "matmul" || node.op == "matmul_bias") {
    cost.flops = product_flops(graph, node, node.inputs[1], node.outputs[0]);
  } else if (node.op == "matmul_group") {
    for (size_t i = 0; i < node.outputs.size(); ++i)
      cost.flops += product_flops(graph, node, node.inputs[i + 1], node.outputs[i]);
  } else if (node.op == "attention") {
    cost.flops = attention_flops(graph, node, 2);
  } else if (node.op == "attention_backward") {
    cost.flops = attention_flops(graph, node, 5); // the scores again, then dv, dp, dq, dk
  } else if (node.op == "attention_part") {
    cost.flops = part_flops(graph, node, 2);
  } else if (node.op == "attention_part_backward") {
    cost.flops = part_flops(graph, node, 5);
  } else if (node.op == "attention_merge") {
    cost.flops = static_cast<double>(node.inputs.size()) * elements(graph, node.inputs[0]); // a factor and a sum a part
  } else if (node.op == "projection_cross_entropy" || node.op == "projection_cross_entropy_train") {
    const double rows = elements(graph, node.inputs[2]);
    const double products = node.op == "projection_cross_entropy" ? 1 : 3; // logits; dx and dw
    cost.flops = products * 2 * rows * elements(graph, node.inputs[1]);
  } else if (!node.inputs.empty()) {
    cost.flops = elementwise_flops(node.op) * elements(graph, node.inputs[0]);
  }
  return cost;
}

} // namespace kumiki
