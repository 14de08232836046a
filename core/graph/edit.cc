// The order of nodes, the index of readers, and rewriting.
//
// order_ is the truth; labels_ rise along it. A node that goes between two others takes a label between theirs; where
// there is none left, all are numbered anew. Sequences put in at one place rise by kStep, so that this is rare.
#include <algorithm>

#include "core/base/error.h"
#include "core/graph/graph.h"

namespace kumiki {
namespace {

constexpr uint64_t kGap = uint64_t{1} << 32;  // between nodes that were numbered anew or added at the end
constexpr uint64_t kStep = uint64_t{1} << 16; // at most, behind the node before

} // namespace

// ---- order ----------------------------------------------------------------------------------------------------------

size_t Graph::position(NodeId node) const {
  const auto place = std::lower_bound(order_.begin(), order_.end(), labels_[node],
                                      [this](NodeId id, uint64_t label) { return labels_[id] < label; });
  return static_cast<size_t>(place - order_.begin());
}

void Graph::relabel() {
  // An erased node goes right behind the node that stood before it, so that next() of it stays the same.
  std::vector<std::pair<NodeId, size_t>> erased;
  for (NodeId id = 1; id < nodes_.size(); ++id)
    if (nodes_[id].op.empty()) erased.emplace_back(id, position(id));
  for (size_t i = 0; i < order_.size(); ++i) labels_[order_[i]] = (i + 1) * kGap;
  for (const auto& [id, before] : erased) labels_[id] = before * kGap + 1;
}

void Graph::place(NodeId node, NodeId before) {
  if (labels_.size() <= node) labels_.resize(node + 1, 0);
  if (before == 0) {
    labels_[node] = (order_.empty() ? 0 : labels_[order_.back()]) + kGap;
    order_.push_back(node);
    return;
  }
  size_t index = position(before);
  uint64_t low = index ? labels_[order_[index - 1]] : 0;
  if (labels_[before] - low < 2) {
    relabel();
    low = index ? labels_[order_[index - 1]] : 0;
  }
  labels_[node] = low + std::min((labels_[before] - low) / 2, kStep);
  order_.insert(order_.begin() + static_cast<std::ptrdiff_t>(index), node);
}

void Graph::displace(NodeId node) {
  const size_t index = position(node);
  KM_CHECK(index < order_.size() && order_[index] == node, "a living node stands in the order");
  order_.erase(order_.begin() + static_cast<std::ptrdiff_t>(index));
}

bool Graph::precedes(NodeId a, NodeId b) const { return labels_[node(a).id] < labels_[node(b).id]; }

NodeId Graph::next(NodeId id) const {
  if (id == 0) return order_.empty() ? 0 : order_.front();
  if (id >= nodes_.size()) throw Error("", "node " + std::to_string(id) + " is not of this graph");
  const auto place = std::upper_bound(order_.begin(), order_.end(), labels_[id],
                                      [this](uint64_t label, NodeId other) { return label < labels_[other]; });
  return place == order_.end() ? 0 : *place;
}

// ---- adding ---------------------------------------------------------------------------------------------------------

std::vector<ValueId> Graph::insert(Node node, const std::vector<Type>& types) {
  node.id = static_cast<NodeId>(nodes_.size());
  for (const Type& type : types) {
    Value value;
    value.name = node.op;
    value.type = type;
    value.producer = node.id;
    value.layer = node.layer;
    value.stage = node.stage;
    node.outputs.push_back(new_value(std::move(value)));
  }
  for (const ValueId input : node.inputs) users_[input].push_back(node.id);
  if (node.derived_from) derived_[node.derived_from].push_back(node.id);
  const NodeId id = node.id;
  nodes_.push_back(std::move(node));
  place(id, cursor.before);
  spread_varies(id);
  return nodes_[id].outputs;
}

void Graph::spread_varies(NodeId first) {
  std::vector<NodeId> todo = {first};
  while (!todo.empty()) {
    const Node& node = nodes_[todo.back()];
    todo.pop_back();
    bool varies = false;
    if (node.phase != Phase::kTail && node.op != "accumulate")
      for (const ValueId input : node.inputs) varies = varies || values_[input].varies;
    for (const ValueId output : node.outputs) {
      if (values_[output].varies == varies) continue;
      values_[output].varies = varies;
      todo.insert(todo.end(), users_[output].begin(), users_[output].end());
    }
  }
}

// ---- rewriting ------------------------------------------------------------------------------------------------------

void Graph::remove_user(ValueId value, NodeId node) {
  std::vector<NodeId>& users = users_[value];
  const auto found = std::find(users.begin(), users.end(), node);
  KM_CHECK(found != users.end(), "inputs of nodes change only through replace_input and replace_uses");
  *found = users.back();
  users.pop_back();
}

void Graph::replace_uses(ValueId old_value, ValueId now, NodeId except) {
  if (old_value == now) return;
  if (!(value(old_value).type == value(now).type))
    throw Error(
        "", "replace_uses: " + to_text(value(old_value).type) + " can't be replaced by " + to_text(value(now).type));
  std::vector<NodeId> kept, moved;
  for (const NodeId user : users_[old_value]) (user == except ? kept : moved).push_back(user);
  users_[old_value] = std::move(kept);
  users_[now].insert(users_[now].end(), moved.begin(), moved.end());
  std::sort(moved.begin(), moved.end());
  moved.erase(std::unique(moved.begin(), moved.end()), moved.end());
  for (const NodeId user : moved) std::replace(nodes_[user].inputs.begin(), nodes_[user].inputs.end(), old_value, now);
  if (values_[old_value].varies != values_[now].varies)
    for (const NodeId user : moved) spread_varies(user);
  for (auto& [name, id] : outputs_)
    if (id == old_value) id = now;
  for (auto& [parameter, id] : gradients_)
    if (id == old_value) id = now;
  for (auto& [name, id] : scalars_)
    if (id == old_value && values_[id].kind == ValueKind::kActivation) id = now;
}

void Graph::replace_input(NodeId node, size_t input, ValueId now) {
  Node& reader = this->node(node);
  if (input >= reader.inputs.size()) throw Error("", reader.op + " has no input " + std::to_string(input));
  value(now);
  remove_user(reader.inputs[input], node);
  reader.inputs[input] = now;
  users_[now].push_back(node);
  spread_varies(node);
}

void Graph::move_before(NodeId node, NodeId place_before) {
  KM_CHECK(alive(node) && (place_before == 0 || alive(place_before)), "only living nodes move");
  if (node == place_before) return;
  if (cursor.before == node) cursor.before = next(node);
  displace(node);
  place(node, place_before);
}

void Graph::erase(NodeId id) {
  Node& node = this->node(id);
  const auto refuse = [&](const std::string& why) {
    throw Error("", "node " + std::to_string(id) + " (" + node.op + ") can't be erased: " + why);
  };
  for (const ValueId output : node.outputs) {
    if (!users_[output].empty()) refuse("node " + std::to_string(users_[output][0]) + " reads it");
    for (const auto& [name, value] : outputs_)
      if (value == output) refuse("it is the output \"" + name + "\"");
    for (const auto& [parameter, value] : gradients_)
      if (value == output) refuse("it is the gradient of " + values_[parameter].name);
    for (const auto& [name, value] : scalars_)
      if (value == output) refuse("it is the step scalar \"" + name + "\"");
  }
  for (const ValueId input : node.inputs) remove_user(input, id);
  if (cursor.before == id) cursor.before = next(id);
  displace(id);
  if (node.derived_from) {
    std::vector<NodeId>& shared = derived_[node.derived_from];
    shared.erase(std::find(shared.begin(), shared.end(), id));
  }
  node.op.clear();
  node.inputs.clear();
  node.attributes.clear();
}

void Graph::erase_dead() {
  std::vector<bool> needed(values_.size(), false);
  for (const auto& [name, id] : outputs_) needed[id] = true;
  for (const auto& [parameter, id] : gradients_) needed[id] = true;
  for (const auto& [name, id] : scalars_) needed[id] = true;
  std::vector<NodeId> dead;
  for (size_t i = order_.size(); i-- > 0;) {
    const Node& node = nodes_[order_[i]];
    const bool lives = node.op == "assign" ||
                       std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) { return needed[id]; });
    if (!lives)
      dead.push_back(node.id);
    else
      for (const ValueId input : node.inputs) needed[input] = true;
  }
  for (const NodeId id : dead) erase(id); // in falling order: readers before what they read
}

void Graph::infer(NodeId id) {
  Node& node = this->node(id);
  const std::vector<Type> types = infer_types(node);
  for (size_t i = types.size(); i < node.outputs.size(); ++i)
    if (!users_[node.outputs[i]].empty()) throw Error("", node.op + " loses an output that is read");
  if (types.size() < node.outputs.size()) node.outputs.resize(types.size());
  for (size_t i = 0; i < types.size(); ++i) {
    if (i < node.outputs.size()) {
      values_[node.outputs[i]].type = types[i];
      continue;
    }
    Value value;
    value.name = node.op;
    value.type = types[i];
    value.producer = id;
    value.layer = node.layer;
    value.stage = node.stage;
    node.outputs.push_back(new_value(std::move(value)));
  }
  settle_stage(id);
  spread_varies(id);
}

// ---- cursor ---------------------------------------------------------------------------------------------------------

void Graph::stand_before(NodeId id) {
  const Node& node = this->node(id);
  if (!cursor.moved) end_cursor_ = cursor;
  cursor.moved = true;
  cursor.before = id;
  cursor.layer = node.layer;
  cursor.stage = node.stage;
  cursor.phase = node.phase;
  cursor.part = node.part;
}

void Graph::stand_after(NodeId id) {
  stand_before(id);
  cursor.before = next(id);
}

void Graph::stand_at_end() {
  if (!cursor.moved) return;
  const Cursor here = cursor;
  cursor = end_cursor_;
  cursor.before = 0;
  cursor.origin = here.origin;
  cursor.share = here.share;
  cursor.derived_from = here.derived_from;
}

} // namespace kumiki
