#include "core/plan/scale/step_cost.h"

#include <algorithm>

namespace kumiki {
namespace {

// The smallest of M, N, K of a product: b has two of them, the third follows from the FLOPs.
double smallest_dimension(const Graph& graph, const Node& node, double flops) {
  const Shape& b = graph.value(node.inputs[1]).type.shape;
  double n = 1, k = 1, m = 1;
  if (node.i64("transpose_a") && !node.i64("transpose_b")) { // y[M, N] = aᵀ b, summed over all leading dimensions
    n = static_cast<double>(b.back());
    k = static_cast<double>(graph.value(node.inputs[1]).type.elements()) / n;
    m = static_cast<double>(graph.value(node.inputs[0]).type.shape.back());
  } else {
    k = static_cast<double>(b[0]), n = static_cast<double>(b[1]);
    m = flops / (2 * n * k);
    // A group's products share the rows, and the FLOPs are of all.
    if (node.op == "matmul_group") m /= static_cast<double>(node.outputs.size());
  }
  return std::min({m, n, k});
}

} // namespace

std::string StepCost::op_class(const Step& step) const {
  if (step.op == "attention" || step.op == "attention_part") return "attention";
  if (step.op == "attention_backward" || step.op == "attention_part_backward") return "attention_backward";
  if (step.op.starts_with("projection")) return "projection";
  if (!step.op.starts_with("matmul")) return "elementwise";
  const double smallest = smallest_dimension(graph_, graph_.node(step.node), step.cost.flops);
  return smallest < static_cast<double>(machine_.skinny_below) ? "matmul_skinny" : "matmul";
}

double StepCost::smallest(const Step& step) const {
  return step.op.starts_with("matmul") ? smallest_dimension(graph_, graph_.node(step.node), step.cost.flops) : 0;
}

double StepCost::share(const Step& step, const std::string& of) const {
  if (!of.starts_with("matmul")) return machine_.efficiency.at(of);
  return machine_.product_share(smallest_dimension(graph_, graph_.node(step.node), step.cost.flops));
}

bool StepCost::in_bf16(const Step& step) const {
  const Node& node = graph_.node(step.node);
  return !node.inputs.empty() && graph_.value(node.inputs[0]).type.dtype == KM_BF16;
}

double StepCost::seconds(const Step& step) const {
  const StepKind kind = step.first.kind;
  if (kind == StepKind::kComm || kind == StepKind::kNothing) return 0;
  const double memory = machine_.bytes_per_second * machine_.efficiency.at("elementwise");
  // Copies and fills that the planner put beside an op move what they say, not what the op does.
  if (kind == StepKind::kCopy) return 2 * static_cast<double>(step.first.bytes) / memory + machine_.step_overhead;
  if (kind == StepKind::kZero) return static_cast<double>(step.first.bytes) / memory + machine_.step_overhead;
  double arithmetic = 0;
  const std::string of = op_class(step);
  if (of == "elementwise")
    arithmetic = step.cost.flops / machine_.f32_flops;
  else
    arithmetic = step.cost.flops / (machine_.flops(in_bf16(step)) * share(step, of));
  return std::max(arithmetic, step.cost.bytes / memory) + machine_.step_overhead;
}

} // namespace kumiki
