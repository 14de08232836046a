// How values lie over the ranks: for each op the placement of its outputs, by those of its inputs.
#include "core/base/error.h"
#include "core/graph/graph.h"

namespace kumiki {

Placement infer_placement(const Graph& graph, const Node& node, const std::vector<Placement>& inputs, size_t output,
                          size_t axis) {
  const OpRules& rules = graph.rules(node.op);
  if (rules.placement) return rules.placement(graph, node, inputs, output, axis);
  for (const Placement& p : inputs)
    if (p.spread != Spread::kReplicated) throw Error("", node.op + " takes replicated values only");
  return {};
}

} // namespace kumiki
