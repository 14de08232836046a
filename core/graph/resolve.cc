// Norms of tensors of which a rank holds only a part.
#include "core/graph/graph.h"

namespace kumiki {
namespace {

// The axes over which a value is divided, as a communication op names them: outer first.
std::string divided_axes(const Graph& graph, ValueId value) {
  std::string axes;
  for (size_t i = graph.axes().size(); i-- > 0;) {
    const Spread spread = graph.placement(value, i).spread;
    if (spread == Spread::kSharded || spread == Spread::kFlat) axes += (axes.empty() ? "" : ",") + graph.axes()[i].name;
  }
  return axes;
}

} // namespace

void resolve_norms(Graph& graph) {
  graph.infer_all();
  const Graph::Cursor before = graph.cursor;
  const std::vector<NodeId> order = graph.order();
  bool changed = false;
  for (const NodeId id : order) {
    const Node& node = graph.node(id);
    if (node.op != "tensor_norm") continue;
    const ValueId x = node.inputs[0], norm = node.outputs[0];
    const std::string axes = divided_axes(graph, x);
    if (axes.empty()) continue;
    graph.stand_before(id);
    graph.cursor.derived_from = node.derived_from;
    graph.cursor.origin = node.origin;
    const ValueId squares = graph.add1("sum_squares", {x});
    const ValueId sum = graph.add1("all_reduce", {squares}, {{"axes", axes}, {"reduce", std::string("sum")}});
    graph.replace_uses(norm, graph.add1("sqrt", {sum}));
    graph.erase(id);
    changed = true;
  }
  graph.cursor = before;
  if (changed) graph.infer_all();
}

} // namespace kumiki
