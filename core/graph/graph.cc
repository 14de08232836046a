// Leaves, adding nodes, reading. Order, readers and rewriting: edit.cc. What is wrong with a graph: check.cc.
#include "core/graph/graph.h"

#include <algorithm>
#include <bit>

#include "core/base/error.h"
#include "core/base/suggest.h"

namespace kumiki {
namespace {

struct ReservedScalar {
  const char* name;
  uint32_t dtype;
  bool varies;  // differs between micro-batches
  bool in_tail; // computed there: the leaf only stands in for it
};
constexpr ReservedScalar kReservedScalars[] = {
    {"step", KM_F32, false, false}, {"learning_rate", KM_F32, false, false}, {"loss_scale", KM_F32, false, false},
    {"seed", KM_I64, false, false}, {"sample", KM_I64, true, false},         {"micro", KM_I32, true, false},
    {"past", KM_I32, true, false},  {"gradient_scale", KM_F32, false, true}, {"gradient_norm", KM_F32, false, true},
    {"apply", KM_F32, false, true}, {"tokens", KM_F32, false, true},
};

const ReservedScalar& reserved_scalar(const std::string& name) {
  std::string names;
  for (const ReservedScalar& scalar : kReservedScalars) {
    if (name == scalar.name) return scalar;
    names += (names.empty() ? "" : ", ") + std::string(scalar.name);
  }
  throw Error("", "there is no step scalar \"" + name + "\"", "those that are: " + names);
}

template <typename T>
const T* attribute_as(const Node& node, std::string_view name) {
  const auto found = node.attributes.find(std::string(name));
  return found == node.attributes.end() ? nullptr : std::get_if<T>(&found->second);
}

} // namespace

// ---- types, nodes ---------------------------------------------------------------------------------------------------

int64_t Type::elements() const {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  return n;
}
uint64_t Type::bytes() const { return static_cast<uint64_t>(elements()) * km_dtype_bytes(dtype); }

int64_t Node::i64(std::string_view name, int64_t otherwise) const {
  const int64_t* value = attribute_as<int64_t>(*this, name);
  return value ? *value : otherwise;
}
double Node::f64(std::string_view name, double otherwise) const {
  if (const double* value = attribute_as<double>(*this, name)) return *value;
  const int64_t* value = attribute_as<int64_t>(*this, name);
  return value ? static_cast<double>(*value) : otherwise;
}
std::string Node::text(std::string_view name, const std::string& otherwise) const {
  const std::string* value = attribute_as<std::string>(*this, name);
  return value ? *value : otherwise;
}
std::vector<int64_t> Node::list(std::string_view name) const {
  const std::vector<int64_t>* value = attribute_as<std::vector<int64_t>>(*this, name);
  return value ? *value : std::vector<int64_t>{};
}
bool Node::has(std::string_view name) const { return attributes.find(std::string(name)) != attributes.end(); }

// ---- rules ----------------------------------------------------------------------------------------------------------

Graph::Graph(uint32_t mode) : mode_(mode), values_(1), nodes_(1), labels_(1), users_(1) {}

void Graph::add_provider(OpProvider provider) { providers_.push_back(std::move(provider)); }

const OpRules& Graph::rules(const std::string& op) const {
  if (const OpRules* rules = find_builtin_op(op)) return *rules;
  for (const OpProvider& provider : providers_)
    if (const OpRules* rules = provider(op)) return *rules;
  const std::string near = nearest(op, builtin_ops());
  throw Error("", "there is no op \"" + op + "\"",
              near.empty() ? "docs/ops.md is the vocabulary; other ops need the plugin that brings them"
                           : "did you mean \"" + near + "\"?");
}

std::vector<Type> Graph::infer_types(const Node& node) const {
  try {
    std::vector<Type> in;
    in.reserve(node.inputs.size());
    for (const ValueId id : node.inputs) in.push_back(value(id).type);
    const OpRules& rules = this->rules(node.op);
    if (node.has("axes") && is_communication(node.op)) {
      Node grouped = node;
      grouped.attributes["group.size"] = group_size(node.text("axes"));
      grouped.attributes["group.index"] = group_index(node.text("axes"));
      return rules.shape(grouped, in);
    }
    return rules.shape(node, in);
  } catch (const Error& error) {
    std::string where = node.layer >= 0 ? "layer " + std::to_string(node.layer) : "";
    if (!node.origin.empty()) where += (where.empty() ? "" : ", ") + node.origin;
    throw Error(where, error.what());
  }
}

// ---- leaves ---------------------------------------------------------------------------------------------------------

ValueId Graph::new_value(Value value) {
  value.id = static_cast<ValueId>(values_.size());
  values_.push_back(std::move(value));
  users_.emplace_back();
  return values_.back().id;
}

ValueId Graph::new_leaf(const std::string& name, Value value) {
  if (name.empty()) throw Error("", "a parameter, state or input needs a name");
  value.name = name;
  value.layer = cursor.layer;
  value.stage = cursor.stage;
  const ValueId id = new_value(std::move(value));
  leaves_.emplace(name, id);
  if (values_[id].kind == ValueKind::kParameter) parameters_.push_back(id);
  if (values_[id].kind == ValueKind::kState) states_.push_back(id);
  return id;
}

ValueId Graph::add_parameter(const std::string& name, const Type& type, uint32_t role, uint32_t init, double init_std,
                             bool decay) {
  const auto found = leaves_.find(name);
  if (found != leaves_.end()) {
    const Value& known = values_[found->second];
    if (known.kind != ValueKind::kParameter) throw Error(name, "this name is taken by a leaf that is no parameter");
    if (!(known.type == type))
      throw Error(name,
                  "the parameter was " + to_text(known.type) + " at first and is asked for again as " + to_text(type),
                  "tied parameters have one shape");
    return known.id;
  }
  Value value;
  value.kind = ValueKind::kParameter;
  value.type = type;
  value.role = role;
  value.init = init;
  value.init_std = init_std;
  value.decay = decay;
  return new_leaf(name, std::move(value));
}

void Graph::declare_input(const std::string& name, const Type& type) {
  const auto [place, is_new] = declared_inputs_.emplace(name, type);
  if (!is_new && !(place->second == type))
    throw Error(name, "the input was declared as " + to_text(place->second) + " before, now as " + to_text(type));
}

ValueId Graph::input(const std::string& name) {
  const auto found = leaves_.find(name);
  if (found != leaves_.end() && values_[found->second].kind == ValueKind::kInput) return found->second;
  const auto declared = declared_inputs_.find(name);
  if (declared == declared_inputs_.end()) {
    if (name == "segments") return 0;
    std::string names;
    for (const auto& [other, type] : declared_inputs_) names += (names.empty() ? "" : ", ") + other;
    throw Error("", "there is no input \"" + name + "\" here",
                "inputs of this graph: " + (names.empty() ? "none" : names));
  }
  if (found != leaves_.end()) throw Error(name, "this name is taken by a leaf that is no input");
  Value value;
  value.kind = ValueKind::kInput;
  value.type = declared->second;
  value.varies = true;
  return new_leaf(name, std::move(value));
}

ValueId Graph::add_state(ValueId owner, const std::string& name, const Type& type) {
  if (owner != 0 && this->value(owner).kind != ValueKind::kParameter)
    throw Error(name, "the owner of the state is no parameter", "a state without owner (0) is not saved");
  const std::string full = owner ? values_[owner].name + "/" + name : name;
  if (leaves_.count(full)) throw Error(full, "there is already a leaf of this name");
  Value value;
  value.kind = ValueKind::kState;
  value.type = type;
  value.owner = owner;
  const ValueId id = new_leaf(full, std::move(value));
  if (owner) {
    // A state of the parameter's shape is divided as that is; another (a scalar of the whole tensor) is on all ranks
    // alike.
    Value& state = values_[id];
    const Value& of = values_[owner];
    state.layer = of.layer, state.stage = of.stage;
    state.tied_to = of.tied_to;
    if (type.shape == of.type.shape) {
      state.placements = of.placements;
      state.logical_shape = of.logical_shape, state.box_offset = of.box_offset, state.box_shape = of.box_shape;
      state.flat_begin = of.flat_begin, state.flat_end = of.flat_end;
    }
  }
  return id;
}

ValueId Graph::constant(double number) {
  const uint64_t bits = std::bit_cast<uint64_t>(number);
  const auto found = constants_.find(bits);
  if (found != constants_.end()) return found->second;
  Value value;
  value.kind = ValueKind::kConstant;
  value.name = "constant";
  value.constant = number;
  const ValueId id = new_value(std::move(value));
  constants_.emplace(bits, id);
  return id;
}

ValueId Graph::step_scalar(const std::string& name) {
  const auto found = scalars_.find(name);
  if (found != scalars_.end()) return found->second;
  const ReservedScalar& scalar = reserved_scalar(name);
  Value value;
  value.kind = ValueKind::kScalar;
  value.name = name;
  value.type.dtype = scalar.dtype;
  value.varies = scalar.varies;
  const ValueId id = new_value(std::move(value));
  scalars_.emplace(name, id);
  return id;
}

void Graph::set_tail_scalar(const std::string& name, ValueId value) {
  if (!reserved_scalar(name).in_tail) throw Error("", "the step scalar \"" + name + "\" is not computed in the tail");
  if (!(this->value(value).type == Type{}))
    throw Error("", "the step scalar \"" + name + "\" must be f32[], not " + to_text(this->value(value).type));
  const auto found = scalars_.find(name);
  if (found != scalars_.end() && found->second != value) replace_uses(found->second, value);
  scalars_[name] = value;
}

std::vector<ValueId> Graph::tail_scalars() const {
  std::vector<ValueId> ids;
  for (const auto& [name, id] : scalars_)
    if (values_[id].kind == ValueKind::kActivation) ids.push_back(id);
  return ids;
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

NodeId Graph::find_shared(const Node& node) const {
  const auto found = derived_.find(node.derived_from);
  if (found == derived_.end()) return 0;
  for (const NodeId id : found->second) {
    const Node& other = nodes_[id];
    if (other.op == node.op && other.inputs == node.inputs && other.attributes == node.attributes) return id;
  }
  return 0;
}

std::vector<ValueId> Graph::add(const std::string& op, const std::vector<ValueId>& inputs, Attributes attributes) {
  Node node;
  node.op = op;
  node.inputs = inputs;
  node.attributes = std::move(attributes);
  node.layer = cursor.layer;
  node.stage = cursor.stage;
  node.phase = cursor.phase;
  node.part = cursor.part;
  node.derived_from = cursor.derived_from;
  node.origin = cursor.origin;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i] == 0 || inputs[i] >= values_.size())
      throw Error(node.origin, op + ": input " + std::to_string(i) + " is no value of this graph (" +
                                   std::to_string(inputs[i]) + ")");
  if (cursor.share && cursor.derived_from != 0) {
    if (const NodeId id = find_shared(node)) {
      // Gradients of activations must not wait for those of parameters: what serves both is part B.
      if (cursor.part == Part::kBackward) nodes_[id].part = Part::kBackward;
      return nodes_[id].outputs;
    }
  }
  const std::vector<Type> types = infer_types(node);
  const NodeId id = static_cast<NodeId>(nodes_.size());
  insert(std::move(node), types);
  settle_stage(id);
  return nodes_[id].outputs;
}

ValueId Graph::add1(const std::string& op, const std::vector<ValueId>& inputs, Attributes attributes) {
  const std::vector<ValueId> outputs = add(op, inputs, std::move(attributes));
  if (outputs.empty()) throw Error("", op + " has no output");
  return outputs[0];
}

void Graph::assign(ValueId state, ValueId value) {
  const Value& target = this->value(state);
  if (target.kind != ValueKind::kState && target.kind != ValueKind::kParameter)
    throw Error(target.name, "only a state or a parameter can be assigned");
  if (!(target.type == this->value(value).type))
    throw Error(target.name,
                "assign: the state is " + to_text(target.type) + ", its new value " + to_text(this->value(value).type));
  const NodeId producer = this->value(value).producer;
  const bool honoured = producer != 0 && rules(nodes_[producer].op).takes_apply;
  if (mode_ == KM_MODE_TRAIN && cursor.phase == Phase::kTail && !honoured)
    value = add1("select", {step_scalar("apply"), value, state});
  add("assign", {state, value});
}

void Graph::set_output(const std::string& name, ValueId value) {
  const Type& type = this->value(value).type;
  if ((name == "loss" || name == "tokens") && !(type == Type{}))
    throw Error("", "output \"" + name + "\" must be f32[], not " + to_text(type));
  if (name == "logits" && (type.dtype != KM_F32 || type.shape.size() != 2))
    throw Error("", "output \"logits\" must be f32[batch, vocabulary], not " + to_text(type),
                "last_token takes the last token of each sequence");
  outputs_[name] = value;
}

ValueId Graph::output(const std::string& name) const {
  const auto found = outputs_.find(name);
  return found == outputs_.end() ? 0 : found->second;
}

// ---- reading --------------------------------------------------------------------------------------------------------

const Value& Graph::value(ValueId id) const {
  if (id == 0 || id >= values_.size()) throw Error("", "value " + std::to_string(id) + " is not of this graph");
  return values_[id];
}
Value& Graph::value(ValueId id) { return const_cast<Value&>(std::as_const(*this).value(id)); }

const Node& Graph::node(NodeId id) const {
  if (!alive(id)) throw Error("", "node " + std::to_string(id) + " is not of this graph, or was erased");
  return nodes_[id];
}
Node& Graph::node(NodeId id) { return const_cast<Node&>(std::as_const(*this).node(id)); }

bool Graph::alive(NodeId id) const { return id != 0 && id < nodes_.size() && !nodes_[id].op.empty(); }

std::vector<NodeId> Graph::users(ValueId id) const {
  std::vector<NodeId> nodes = users_[value(id).id];
  std::sort(nodes.begin(), nodes.end(), [this](NodeId a, NodeId b) { return labels_[a] < labels_[b]; });
  nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
  return nodes;
}

size_t Graph::reads(ValueId id) const { return users_[value(id).id].size(); }

std::vector<ValueId> Graph::values() const {
  std::vector<bool> used(values_.size(), false);
  for (const auto& [name, id] : leaves_) used[id] = true;
  for (const auto& [name, id] : scalars_) used[id] = true;
  for (const auto& [name, id] : outputs_) used[id] = true;
  for (const auto& [bits, id] : constants_) used[id] = true;
  for (const NodeId id : order_) {
    for (const ValueId v : nodes_[id].inputs) used[v] = true;
    for (const ValueId v : nodes_[id].outputs) used[v] = true;
  }
  std::vector<ValueId> ids;
  for (ValueId id = 1; id < values_.size(); ++id)
    if (used[id]) ids.push_back(id);
  return ids;
}

ValueId Graph::find(const std::string& leaf_name) const {
  const auto leaf = leaves_.find(leaf_name);
  if (leaf != leaves_.end()) return leaf->second;
  const auto scalar = scalars_.find(leaf_name);
  return scalar == scalars_.end() ? 0 : scalar->second;
}

} // namespace kumiki
