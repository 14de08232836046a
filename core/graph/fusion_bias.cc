// matmul, bias_add → matmul_bias; and with the gelu or silu behind it → matmul_bias with that activation, whose
// second output is what the activation's backward reads.
#include <algorithm>

#include "core/graph/fusion_passes.h"

namespace kumiki::fusion {
namespace {

// The gelu or silu that reads `sum`; null if there is none, or more than one.
const Node* activation_of(Graph& graph, ValueId sum, const Node& like) {
  const Node* found = nullptr;
  for (const NodeId id : graph.users(sum)) {
    const Node& reader = graph.node(id);
    if (reader.op != "gelu" && reader.op != "silu") continue;
    if (found || !Fuser::together(reader, like)) return nullptr;
    found = &reader;
  }
  return found;
}

} // namespace

void fuse_bias(Fuser& fuser, FusionStats& stats) {
  Graph& graph = fuser.graph();
  const std::vector<NodeId> order = graph.order();
  for (const NodeId id : order) {
    if (!graph.alive(id) || graph.node(id).op != "bias_add") continue;
    const Node& bias_add = graph.node(id);
    const Node* matmul = fuser.producer(bias_add.inputs[0], "matmul");
    if (!matmul || !fuser.only_reader(bias_add.inputs[0]) || matmul->i64("accumulate") ||
        !Fuser::together(*matmul, bias_add))
      continue;
    Candidate candidate;
    candidate.node.op = "matmul_bias";
    candidate.node.inputs = {matmul->inputs[0], matmul->inputs[1], bias_add.inputs[1]};
    candidate.node.attributes = matmul->attributes;
    const NodeId matmul_id = matmul->id;
    const Node* activation = activation_of(graph, bias_add.outputs[0], bias_add);
    if (activation) {
      Candidate both = candidate;
      both.node.attributes["activation"] = activation->op;
      if (fuser.wants(both, bias_add)) {
        const NodeId activation_id = activation->id;
        const std::vector<ValueId> made = fuser.make(both, id);
        fuser.replace(activation->outputs[0], made[0]);
        fuser.erase(activation_id);
        fuser.replace(bias_add.outputs[0], made[1]);
        fuser.erase(id);
        fuser.erase(matmul_id);
        ++stats.activation;
        continue;
      }
    }
    if (!fuser.wants(candidate, bias_add)) continue;
    fuser.replace(bias_add.outputs[0], fuser.make(candidate, id)[0]);
    fuser.erase(id);
    fuser.erase(matmul_id);
    ++stats.matmul_bias;
  }
}

} // namespace kumiki::fusion
