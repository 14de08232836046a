#include "core/graph/precision.h"

namespace kumiki {
namespace {

// How many inputs, from the first on, are operands of the product; 0: no product.
size_t operands(const Node& node) {
  if (node.op == "matmul" || node.op == "matmul_bias") return 2;
  return node.op == "matmul_group" ? 1 + static_cast<size_t>(node.i64("n")) : 0;
}

class Casts {
 public:
  explicit Casts(Graph& graph) : graph_(graph), first_(graph.next(0)) {}

  ValueId of(ValueId value, NodeId reader) {
    ValueId& cast = casts_[value];
    if (cast == 0) {
      stand(value, reader);
      graph_.cursor.origin = "precision bf16";
      cast = graph_.add1("cast", {value}, {{"dtype", std::string("bf16")}});
      graph_.stand_at_end();
    }
    return cast;
  }

 private:
  void stand(ValueId id, NodeId reader) {
    const Value& value = graph_.value(id);
    if (value.producer != 0) {
      graph_.stand_after(value.producer);
    } else if (value.varies) {
      graph_.stand_before(reader);
    } else {
      graph_.stand_before(first_);
      graph_.cursor.phase = Phase::kHead;
      graph_.cursor.part = Part::kForward;
      graph_.cursor.layer = value.layer;
      graph_.cursor.stage = value.stage;
    }
  }

  Graph& graph_;
  NodeId first_; // before it goes what stands in the head
  std::map<ValueId, ValueId> casts_;
};

} // namespace

void use_bf16(Graph& graph) {
  const Graph::Cursor before = graph.cursor;
  Casts casts(graph);
  const std::vector<NodeId> order = graph.order();
  for (const NodeId id : order) {
    const Node& node = graph.node(id);
    if (node.phase != Phase::kBody || operands(node) == 0) continue;
    bool changed = false;
    for (size_t i = 0; i < operands(node); ++i) {
      if (graph.value(node.inputs[i]).type.dtype != KM_F32) continue;
      graph.replace_input(id, i, casts.of(node.inputs[i], id));
      changed = true;
    }
    if (changed) graph.infer(id);
  }
  graph.cursor = before;
}

} // namespace kumiki
