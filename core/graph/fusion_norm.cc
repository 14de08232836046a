// add, layernorm or rmsnorm of the sum → add_layernorm or add_rmsnorm, which still gives the sum to its other readers.
#include <algorithm>

#include "core/graph/fusion_passes.h"

namespace kumiki::fusion {

void fuse_add_norm(Fuser& fuser, FusionStats& stats) {
  Graph& graph = fuser.graph();
  const std::vector<NodeId> order = graph.order();
  for (const NodeId id : order) {
    if (!graph.alive(id) || graph.node(id).op != "add") continue;
    const Node& add = graph.node(id);
    if (!(graph.value(add.inputs[0]).type == graph.value(add.inputs[1]).type)) continue;
    for (const NodeId reader : graph.users(add.outputs[0])) {
      const Node& norm = graph.node(reader);
      if ((norm.op != "layernorm" && norm.op != "rmsnorm") || norm.inputs[0] != add.outputs[0] ||
          !Fuser::together(add, norm))
        continue;
      const bool there = std::all_of(norm.inputs.begin() + 1, norm.inputs.end(),
                                     [&](ValueId value) { return fuser.available(value, id); });
      if (!there) continue;
      Candidate candidate;
      candidate.node.op = "add_" + norm.op;
      candidate.node.inputs = add.inputs;
      candidate.node.inputs.insert(candidate.node.inputs.end(), norm.inputs.begin() + 1, norm.inputs.end());
      candidate.node.attributes = norm.attributes;
      if (!fuser.wants(candidate, add)) continue;
      const std::vector<ValueId> made = fuser.make(candidate, id);
      for (size_t i = 0; i < norm.outputs.size(); ++i) fuser.replace(norm.outputs[i], made[i + 1]);
      fuser.erase(reader);
      fuser.replace(add.outputs[0], made[0]);
      fuser.erase(id);
      ++stats.add_norm;
      break;
    }
  }
}

} // namespace kumiki::fusion
