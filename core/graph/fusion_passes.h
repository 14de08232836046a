// The single fusions, and what they share. Internal to core/graph; fusion.cc runs them in order.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "core/graph/fusion.h"

namespace kumiki::fusion {

class Fuser {
 public:
  Fuser(Graph& graph, const Supported& supported);

  Graph& graph() { return graph_; }

  // The node that makes `value` if its op is `op`; else null.
  const Node* producer(ValueId value, const std::string& op) const;
  // The one node that reads `value`, once, if nothing else does and it is no output or gradient; else null.
  const Node* only_reader(ValueId value) const;
  bool is_result(ValueId value) const { return results_.count(value) != 0; } // an output, gradient or tail scalar
  // A leaf, or made before `node`.
  bool available(ValueId value, NodeId node) const;
  static bool together(const Node& a, const Node& b); // same phase, part and stage

  // Would the caller take this node, standing where and as `like` stands?
  bool wants(Candidate& candidate, const Node& like) const;
  // Adds the candidate's node right before `place`, and gives its outputs.
  std::vector<ValueId> make(const Candidate& candidate, NodeId place);
  void replace(ValueId old_value, ValueId now);
  void erase(NodeId node) { graph_.erase(node); }

 private:
  Graph& graph_;
  const Supported& supported_;
  std::unordered_set<ValueId> results_;
};

void fuse_bias(Fuser& fuser, FusionStats& stats);
void fuse_groups(Fuser& fuser, FusionStats& stats);
void fuse_add_norm(Fuser& fuser, FusionStats& stats);
void fuse_projection_loss(Fuser& fuser, FusionStats& stats);
void fuse_accumulate(Fuser& fuser, FusionStats& stats);

} // namespace kumiki::fusion
