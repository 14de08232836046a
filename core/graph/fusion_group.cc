// Several products of one x with weights [out, in] (query, key, value; gate, up) → matmul_group, which reads x once.
#include <algorithm>

#include "core/graph/fusion_passes.h"

namespace kumiki::fusion {
namespace {

bool can_join(const Node& node) {
  if (node.op != "matmul" && node.op != "matmul_bias") return false;
  return node.phase == Phase::kBody && node.i64("transpose_b") && !node.i64("transpose_a") && !node.i64("accumulate") &&
         node.text("dtype", "f32") == "f32" && node.text("activation", "none") == "none";
}

// Those that can stand where `first` stands: their weights are there by then.
std::vector<NodeId> members(Fuser& fuser, const Node& first) {
  Graph& graph = fuser.graph();
  const size_t inputs_each = first.inputs.size() - 1;
  const size_t most = std::min<size_t>(KM_MAX_OUTPUTS, (KM_MAX_INPUTS - 1) / inputs_each);
  std::vector<NodeId> found;
  for (const NodeId id : graph.users(first.inputs[0])) {
    const Node& node = graph.node(id);
    if (node.op != first.op || !can_join(node) || node.inputs[0] != first.inputs[0] || node.layer != first.layer ||
        !Fuser::together(node, first))
      continue;
    const bool there = std::all_of(node.inputs.begin(), node.inputs.end(),
                                   [&](ValueId value) { return fuser.available(value, first.id); });
    if (there && found.size() < most) found.push_back(id);
  }
  return found;
}

} // namespace

void fuse_groups(Fuser& fuser, FusionStats& stats) {
  Graph& graph = fuser.graph();
  const std::vector<NodeId> order = graph.order();
  for (const NodeId id : order) {
    if (!graph.alive(id) || !can_join(graph.node(id)) || graph.reads(graph.node(id).inputs[0]) < 2) continue;
    const Node& first = graph.node(id);
    const std::vector<NodeId> group = members(fuser, first);
    if (group.size() < 2 || group.front() != id) continue;
    const bool bias = first.op == "matmul_bias";
    Candidate candidate;
    candidate.node.op = "matmul_group";
    candidate.node.inputs = {first.inputs[0]};
    for (size_t input = 1; input < first.inputs.size(); ++input)
      for (const NodeId member : group) candidate.node.inputs.push_back(graph.node(member).inputs[input]);
    candidate.node.attributes = {
        {"n", static_cast<int64_t>(group.size())}, {"bias", int64_t{bias}}, {"transpose_b", int64_t{1}}};
    if (!fuser.wants(candidate, first)) continue;
    const std::vector<ValueId> made = fuser.make(candidate, id);
    for (size_t i = 0; i < group.size(); ++i) {
      fuser.replace(graph.node(group[i]).outputs[0], made[i]);
      fuser.erase(group[i]);
    }
    ++stats.matmul_group;
  }
}

} // namespace kumiki::fusion
