#include "core/graph/recompute.h"

namespace kumiki {
namespace {

bool can_run_again(const Node& node) {
  return node.again && node.phase == Phase::kBody && node.part == Part::kForward && node.op != "transfer";
}

class Clones {
 public:
  explicit Clones(Graph& graph) : graph_(graph) {}

  // What `reader`, which stands in backward, reads in place of `value`; what is needed for it is made before `reader`.
  ValueId of(ValueId value, NodeId reader) {
    const NodeId producer = graph_.value(value).producer;
    if (producer == 0 || !can_run_again(graph_.node(producer))) return value;
    const std::vector<ValueId>& outputs = graph_.node(producer).outputs;
    size_t place = 0;
    while (outputs[place] != value) ++place;
    return clone(producer, reader)[place];
  }

 private:
  const std::vector<ValueId>& clone(NodeId id, NodeId reader) {
    const auto found = clones_.find(id);
    if (found != clones_.end()) return found->second;
    std::vector<ValueId> inputs;
    for (const ValueId input : std::vector<ValueId>(graph_.node(id).inputs)) inputs.push_back(of(input, reader));
    const Node& node = graph_.node(id);
    Graph::Cursor& cursor = graph_.cursor;
    cursor.before = reader;
    cursor.layer = node.layer;
    cursor.stage = node.stage;
    cursor.phase = Phase::kBody;
    cursor.part = Part::kBackward;
    cursor.derived_from = id;
    cursor.origin = "recompute";
    return clones_[id] = graph_.add(node.op, inputs, node.attributes);
  }

  Graph& graph_;
  std::map<NodeId, std::vector<ValueId>> clones_; // by forward node
};

} // namespace

void recompute(Graph& graph) {
  const Graph::Cursor before = graph.cursor;
  graph.cursor = {};
  Clones clones(graph);
  const std::vector<NodeId> order = graph.order();
  for (const NodeId id : order) {
    const Node& node = graph.node(id);
    if (node.phase != Phase::kBody || node.part == Part::kForward) continue;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId now = clones.of(node.inputs[i], id);
      if (now != node.inputs[i]) graph.replace_input(id, i, now);
    }
  }
  graph.cursor = before;
}

} // namespace kumiki
