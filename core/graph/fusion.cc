#include "core/graph/fusion.h"

#include "core/graph/fusion_passes.h"

namespace kumiki {
namespace fusion {

Fuser::Fuser(Graph& graph, const Supported& supported) : graph_(graph), supported_(supported) {
  for (const auto& [name, value] : graph.outputs()) results_.insert(value);
  for (const auto& [parameter, value] : graph.gradients()) results_.insert(value);
  for (const ValueId value : graph.tail_scalars()) results_.insert(value);
}

const Node* Fuser::producer(ValueId value, const std::string& op) const {
  const NodeId id = graph_.value(value).producer;
  if (id == 0 || graph_.node(id).op != op) return nullptr;
  return &graph_.node(id);
}

const Node* Fuser::only_reader(ValueId value) const {
  if (graph_.reads(value) != 1 || is_result(value)) return nullptr;
  return &graph_.node(graph_.users(value)[0]);
}

bool Fuser::available(ValueId value, NodeId node) const {
  const NodeId producer = graph_.value(value).producer;
  return producer == 0 || graph_.precedes(producer, node);
}

bool Fuser::together(const Node& a, const Node& b) {
  return a.phase == b.phase && a.part == b.part && a.stage == b.stage;
}

bool Fuser::wants(Candidate& candidate, const Node& like) const {
  Node& node = candidate.node;
  if (node.inputs.size() > KM_MAX_INPUTS) return false;
  node.layer = like.layer;
  node.stage = like.stage;
  node.phase = like.phase;
  node.part = like.part;
  node.derived_from = like.derived_from;
  node.origin = "fusion";
  return supported_(graph_, candidate);
}

std::vector<ValueId> Fuser::make(const Candidate& candidate, NodeId place) {
  const Node& node = candidate.node;
  Graph::Cursor& cursor = graph_.cursor;
  cursor.before = place;
  cursor.layer = node.layer;
  cursor.stage = node.stage;
  cursor.phase = node.phase;
  cursor.part = node.part;
  cursor.derived_from = node.derived_from;
  cursor.origin = node.origin;
  cursor.share = false;
  return graph_.add(node.op, node.inputs, node.attributes);
}

void Fuser::replace(ValueId old_value, ValueId now) {
  if (results_.erase(old_value)) results_.insert(now);
  graph_.replace_uses(old_value, now);
}

} // namespace fusion

FusionStats fuse(Graph& graph, const Supported& supported) {
  FusionStats stats;
  const Graph::Cursor before = graph.cursor;
  fusion::Fuser fuser(graph, supported);
  fusion::fuse_bias(fuser, stats);
  fusion::fuse_groups(fuser, stats);
  fusion::fuse_add_norm(fuser, stats);
  fusion::fuse_projection_loss(fuser, stats);
  fusion::fuse_accumulate(fuser, stats);
  graph.cursor = before;
  graph.cursor.before = 0;
  return stats;
}

} // namespace kumiki
