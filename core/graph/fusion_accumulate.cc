// An op and the add of its output → the op with attribute `accumulate`: sums of gradients, and residuals. The addend
// must be there before the op; the running sums of autodiff are made so.
#include <bit>

#include "core/graph/fusion_passes.h"

namespace kumiki::fusion {
namespace {

// The add's operand `index` and the node that makes it, which would take the other operand as addend; null if it can't.
const Node* acceptor(Fuser& fuser, const Node& add, size_t index, uint32_t& bit) {
  Graph& graph = fuser.graph();
  const ValueId made = add.inputs[index], addend = add.inputs[1 - index];
  const NodeId producer = graph.value(made).producer;
  if (producer == 0 || graph.reads(made) != 1 || fuser.is_result(made)) return nullptr;
  const Node& node = graph.node(producer);
  if (!Fuser::together(node, add) || !fuser.available(addend, producer)) return nullptr;
  for (bit = 0; node.outputs[bit] != made;) ++bit;
  const uint64_t mask = static_cast<uint64_t>(node.i64("accumulate"));
  if (!(graph.rules(node.op).accumulates >> bit & 1) || (mask >> bit & 1)) return nullptr;
  if (node.op == "matmul_bias" && node.text("activation", "none") != "none") return nullptr;
  return &node;
}

// Whether the addend's buffer must stay as it is when `node` has written its output.
bool apart_needed(Fuser& fuser, ValueId addend, const Node& node, const Node& add) {
  Graph& graph = fuser.graph();
  if (graph.value(addend).producer == 0 || fuser.is_result(addend)) return true;
  for (const NodeId reader : graph.users(addend))
    if (reader != add.id && !graph.precedes(reader, node.id)) return true;
  return false;
}

bool fuse_one(Fuser& fuser, const Node& add, size_t index) {
  uint32_t bit = 0;
  const Node* node = acceptor(fuser, add, index, bit);
  if (!node) return false;
  const ValueId addend = add.inputs[1 - index];
  const uint64_t mask = static_cast<uint64_t>(node->i64("accumulate"));
  const int before = std::popcount(mask & ((uint64_t{1} << bit) - 1)), addends = std::popcount(mask);
  Candidate candidate;
  candidate.node.op = node->op;
  candidate.node.inputs = node->inputs;
  candidate.node.inputs.insert(candidate.node.inputs.end() - (addends - before), addend);
  candidate.node.attributes = node->attributes;
  candidate.node.attributes["accumulate"] = static_cast<int64_t>(mask | uint64_t{1} << bit);
  candidate.addend_apart_needed = apart_needed(fuser, addend, *node, add);
  if (!fuser.wants(candidate, *node)) return false;
  const NodeId node_id = node->id, add_id = add.id;
  const std::vector<ValueId> made = fuser.make(candidate, node_id);
  fuser.replace(add.outputs[0], made[bit]);
  fuser.erase(add_id);
  for (size_t i = 0; i < made.size(); ++i)
    if (i != bit) fuser.replace(node->outputs[i], made[i]);
  fuser.erase(node_id);
  return true;
}

} // namespace

void fuse_accumulate(Fuser& fuser, FusionStats& stats) {
  Graph& graph = fuser.graph();
  const std::vector<NodeId> order = graph.order();
  for (const NodeId id : order) {
    if (!graph.alive(id) || graph.node(id).op != "add") continue;
    const Node& add = graph.node(id);
    if (add.inputs[0] == add.inputs[1] || !(graph.value(add.inputs[0]).type == graph.value(add.inputs[1]).type))
      continue;
    if (fuse_one(fuser, add, 1) || fuse_one(fuser, add, 0)) ++stats.accumulate;
  }
}

} // namespace kumiki::fusion
