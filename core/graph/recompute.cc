#include "core/graph/recompute.h"

#include <algorithm>

namespace kumiki {
namespace {

bool can_run_again(const Node& node) {
  return node.again && node.phase == Phase::kBody && node.part == Part::kForward && node.op != "transfer";
}

class Clones {
 public:
  explicit Clones(Graph& graph) : graph_(graph) {}

  // What `reader`, which stands in backward, reads in place of `value`; what is needed for it is made before `reader`, in
  // the order of forward: what was started early there, a message, is so again.
  ValueId of(ValueId value, NodeId reader) {
    std::vector<NodeId> missing;
    find_missing(value, missing);
    std::sort(missing.begin(), missing.end(), [this](NodeId x, NodeId y) { return graph_.precedes(x, y); });
    for (const NodeId id : missing) clone(id, reader);
    return now(value);
  }

 private:
  // The nodes to be cloned for `value` that have no clone yet.
  void find_missing(ValueId value, std::vector<NodeId>& missing) const {
    const NodeId producer = graph_.value(value).producer;
    if (producer == 0 || !can_run_again(graph_.node(producer)) || clones_.count(producer)) return;
    if (std::find(missing.begin(), missing.end(), producer) != missing.end()) return;
    missing.push_back(producer);
    for (const ValueId input : graph_.node(producer).inputs) find_missing(input, missing);
  }

  // The value itself, or that of the clone of its maker.
  ValueId now(ValueId value) const {
    const NodeId producer = graph_.value(value).producer;
    const auto found = clones_.find(producer);
    if (producer == 0 || found == clones_.end()) return value;
    const std::vector<ValueId>& outputs = graph_.node(producer).outputs;
    return found->second[static_cast<size_t>(std::find(outputs.begin(), outputs.end(), value) - outputs.begin())];
  }

  void clone(NodeId id, NodeId reader) {
    std::vector<ValueId> inputs;
    for (const ValueId input : graph_.node(id).inputs) inputs.push_back(now(input));
    const Node& node = graph_.node(id);
    Graph::Cursor& cursor = graph_.cursor;
    cursor.before = reader;
    cursor.layer = node.layer;
    cursor.stage = node.stage;
    cursor.phase = Phase::kBody;
    cursor.part = Part::kBackward;
    cursor.derived_from = id;
    cursor.origin = "recompute";
    clones_[id] = graph_.add(node.op, inputs, node.attributes);
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
