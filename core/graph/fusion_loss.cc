// The output head and the loss, which together never hold the logits:
//   evaluation: matmul(x, w), cross_entropy                        → projection_cross_entropy
//   training:   these, cross_entropy_backward, matmul for dx and dw → projection_cross_entropy_train
// In bf16, x and w are the cast values, and one cast stands between the backward and its two products.
#include "core/graph/fusion_passes.h"

namespace kumiki::fusion {
namespace {

bool plain(const Node& node, int64_t transpose_a, int64_t transpose_b) {
  return node.op == "matmul" && node.i64("transpose_a") == transpose_a && node.i64("transpose_b") == transpose_b &&
         !node.i64("accumulate") && node.text("dtype", "f32") == "f32";
}

// What the training form replaces; ids of 0: the pattern is not there.
struct Training {
  NodeId backward = 0, cast = 0, dx = 0, dw = 0;
};

Training find_training(Fuser& fuser, const Node& matmul, const Node& loss) {
  Graph& graph = fuser.graph();
  Training t;
  for (const NodeId id : graph.users(loss.inputs[0]))
    if (id != loss.id) t.backward = id;
  const Node& backward = graph.node(t.backward);
  if (backward.op != "cross_entropy_backward" || backward.inputs[0] != loss.inputs[0] ||
      backward.inputs[1] != loss.inputs[1] || backward.stage != loss.stage || fuser.is_result(backward.outputs[0]))
    return {};
  ValueId d_logits = backward.outputs[0];
  const Node* cast = fuser.only_reader(d_logits);
  if (cast && cast->op == "cast") {
    t.cast = cast->id;
    d_logits = cast->outputs[0];
  }
  if (graph.reads(d_logits) != 2 || fuser.is_result(d_logits)) return {};
  for (const NodeId id : graph.users(d_logits)) {
    const Node& reader = graph.node(id);
    if (reader.op != "matmul" || reader.inputs[0] != d_logits || reader.stage != loss.stage) continue;
    if (plain(reader, 0, 0) && reader.inputs[1] == matmul.inputs[1]) t.dx = id;
    if (plain(reader, 1, 0) && reader.inputs[1] == matmul.inputs[0]) t.dw = id;
  }
  return t.dx && t.dw ? t : Training{};
}

// Readers of loss and tokens must stand behind the backward and be part B like it. That can be done for `accumulate`
// and for what is no part of the body.
bool readers_can_wait(Fuser& fuser, const Node& loss, NodeId backward) {
  Graph& graph = fuser.graph();
  for (const ValueId output : loss.outputs)
    for (const NodeId id : graph.users(output)) {
      const Node& reader = graph.node(id);
      if (reader.phase != Phase::kBody) continue;
      if (reader.op != "accumulate") return false;
      if (graph.precedes(backward, id)) continue;
      for (const NodeId next : graph.users(reader.outputs[0]))
        if (!graph.precedes(backward, next)) return false;
    }
  return true;
}

void move_readers(Fuser& fuser, const Node& loss, NodeId backward) {
  Graph& graph = fuser.graph();
  for (const ValueId output : loss.outputs)
    for (const NodeId id : graph.users(output)) {
      if (graph.node(id).phase != Phase::kBody) continue;
      graph.node(id).part = Part::kBackward;
      if (!graph.precedes(backward, id)) graph.move_before(id, graph.next(backward));
    }
}

bool fuse_training(Fuser& fuser, const Node& matmul, const Node& loss) {
  Graph& graph = fuser.graph();
  const Training t = find_training(fuser, matmul, loss);
  if (t.backward == 0 || !readers_can_wait(fuser, loss, t.backward)) return false;
  const Node& backward = graph.node(t.backward);
  Candidate candidate;
  candidate.node.op = "projection_cross_entropy_train";
  candidate.node.inputs = {matmul.inputs[0], matmul.inputs[1], loss.inputs[1], backward.inputs[2]};
  if (!fuser.wants(candidate, backward)) return false;
  const std::vector<ValueId> made = fuser.make(candidate, t.backward);
  move_readers(fuser, loss, t.backward);
  fuser.replace(loss.outputs[0], made[0]);
  fuser.replace(loss.outputs[1], made[1]);
  fuser.replace(graph.node(t.dx).outputs[0], made[2]);
  fuser.replace(graph.node(t.dw).outputs[0], made[3]);
  for (const NodeId id : {t.dx, t.dw, t.cast, t.backward})
    if (id) fuser.erase(id);
  return true;
}

bool fuse_evaluation(Fuser& fuser, const Node& matmul, const Node& loss) {
  Candidate candidate;
  candidate.node.op = "projection_cross_entropy";
  candidate.node.inputs = {matmul.inputs[0], matmul.inputs[1], loss.inputs[1]};
  if (!fuser.wants(candidate, loss)) return false;
  const std::vector<ValueId> made = fuser.make(candidate, loss.id);
  fuser.replace(loss.outputs[0], made[0]);
  fuser.replace(loss.outputs[1], made[1]);
  return true;
}

} // namespace

void fuse_projection_loss(Fuser& fuser, FusionStats& stats) {
  Graph& graph = fuser.graph();
  const std::vector<NodeId> order = graph.order();
  for (const NodeId id : order) {
    if (!graph.alive(id) || graph.node(id).op != "cross_entropy") continue;
    const Node& loss = graph.node(id);
    const ValueId logits = loss.inputs[0];
    const Node* matmul = fuser.producer(logits, "matmul");
    if (!matmul || !plain(*matmul, 0, 1) || !Fuser::together(*matmul, loss) || fuser.is_result(logits)) continue;
    const NodeId matmul_id = matmul->id;
    const size_t reads = graph.reads(logits);
    const bool fused = reads == 1   ? fuse_evaluation(fuser, *matmul, loss)
                       : reads == 2 ? fuse_training(fuser, *matmul, loss)
                                    : false;
    if (!fused) continue;
    fuser.erase(id);
    fuser.erase(matmul_id);
    ++stats.projection_loss;
  }
}

} // namespace kumiki::fusion
