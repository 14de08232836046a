// Graph::check: what must hold of a graph between passes.
#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/graph/graph.h"

namespace kumiki {
namespace {

[[noreturn]] void fail(const Graph& graph, const Node& node, const std::string& what) {
  std::string where = to_text(graph, node);
  if (!node.origin.empty()) where += ", added by " + node.origin;
  throw Error("graph check", what, "in " + where);
}

std::string name_of(const Graph& graph, ValueId id) {
  const Value& value = graph.value(id);
  return "%" + std::to_string(id) + ":" + value.name;
}

void check_phase(const Graph& graph, const Node& node) {
  for (const ValueId id : node.inputs) {
    const Value& input = graph.value(id);
    const Node* producer = input.producer ? &graph.node(input.producer) : nullptr;
    if (node.phase == Phase::kTail && input.varies)
      fail(graph, node, "the tail reads " + name_of(graph, id) + ", which differs between micro-batches");
    if (node.phase == Phase::kBody && producer && producer->phase == Phase::kTail)
      fail(graph, node, "the body reads " + name_of(graph, id) + ", which the tail makes");
    if (node.phase == Phase::kHead && (producer ? producer->phase != Phase::kHead : input.varies))
      fail(graph, node,
           "the head reads " + name_of(graph, id) + ", but may read only leaves that do not vary, and the head");
  }
  if (node.op == "accumulate" && node.phase != Phase::kBody) fail(graph, node, "accumulate stands outside the body");
}

void check_assign(const Graph& graph, const Node& node, std::set<ValueId>& assigned) {
  const Value& state = graph.value(node.inputs[0]);
  if (state.kind != ValueKind::kState && state.kind != ValueKind::kParameter)
    fail(graph, node, "assign to " + name_of(graph, state.id) + ", which is neither state nor parameter");
  if (!assigned.insert(state.id).second) fail(graph, node, "a second assign of " + name_of(graph, state.id));
}

bool expected_varies(const Graph& graph, const Node& node) {
  if (node.phase == Phase::kTail || node.op == "accumulate") return false;
  return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return graph.value(id).varies; });
}

} // namespace

void Graph::check() const {
  std::vector<bool> made(values_.size(), false);
  std::vector<std::vector<NodeId>> readers(values_.size());
  std::vector<bool> seen(nodes_.size(), false);
  std::set<ValueId> assigned;
  for (const Value& value : values_)
    if (value.id != 0 && value.kind != ValueKind::kActivation) made[value.id] = true;
  uint64_t label = 0;
  for (const NodeId id : order_) {
    KM_CHECK(alive(id) && !seen[id] && labels_[id] > label, "the order has living nodes, once each, by rising labels");
    seen[id] = true;
    label = labels_[id];
    const Node& node = nodes_[id];
    for (const ValueId input : node.inputs) {
      if (input == 0 || input >= values_.size())
        fail(*this, node, "it reads value " + std::to_string(input) + ", which is none");
      if (!made[input]) {
        const NodeId producer = values_[input].producer;
        fail(*this, node,
             alive(producer) ? "it reads %" + std::to_string(input) + " before that is made"
                             : "it reads %" + std::to_string(input) + ", whose node was erased");
      }
      readers[input].push_back(id);
    }
    const std::vector<Type> types = infer_types(node);
    if (types.size() != node.outputs.size())
      fail(*this, node,
           "it has " + std::to_string(node.outputs.size()) + " outputs, but its rule gives " +
               std::to_string(types.size()));
    for (size_t i = 0; i < types.size(); ++i) {
      const Value& output = values_[node.outputs[i]];
      if (output.producer != id)
        fail(*this, node, "its output %" + std::to_string(output.id) + " says it is made elsewhere");
      if (made[output.id]) fail(*this, node, "its output %" + std::to_string(output.id) + " is made twice");
      if (!(output.type == types[i]))
        fail(*this, node,
             "output " + std::to_string(i) + " is " + to_text(output.type) + ", but its rule gives " +
                 to_text(types[i]));
      if (output.varies != expected_varies(*this, node))
        fail(*this, node, "output " + std::to_string(i) + " says wrongly whether it differs between micro-batches");
      made[output.id] = true;
    }
    check_phase(*this, node);
    if (node.op == "assign") check_assign(*this, node, assigned);
  }
  for (ValueId id = 1; id < values_.size(); ++id) {
    std::vector<NodeId> known = users_[id];
    std::sort(known.begin(), known.end());
    std::sort(readers[id].begin(), readers[id].end());
    KM_CHECK(known == readers[id], "inputs of nodes change only through replace_input and replace_uses");
  }
  for (const auto& [name, id] : outputs_)
    if (!made[id])
      throw Error("graph check", "output \"" + name + "\" is %" + std::to_string(id) + ", whose node was erased");
  for (const auto& [parameter, id] : gradients_) {
    const Value& leaf = values_[parameter];
    if (leaf.kind != ValueKind::kParameter)
      throw Error("graph check", leaf.name + " has a gradient, but is no parameter");
    if (!made[id]) throw Error(leaf.name, "graph check: the node of its gradient was erased");
    if (!(values_[id].type == leaf.type))
      throw Error(leaf.name, "graph check: the parameter is " + to_text(leaf.type) + ", its gradient " +
                                 to_text(values_[id].type));
    if (values_[id].varies)
      throw Error(leaf.name, "graph check: its gradient differs between micro-batches: no accumulate");
  }
}

} // namespace kumiki
