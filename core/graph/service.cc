// The ABI service "kumiki.graph/1". Nothing is thrown across it: an error is kept (the first one until it is taken,
// apart for each thread, since each rank of a process has its own) and the call returns 0 or its status.
#include <exception>

#include "core/base/error.h"
#include "core/graph/graph.h"

namespace kumiki {
namespace {

thread_local std::string first_error;

Graph& of(km_graph* graph) {
  if (graph == nullptr) throw Error("graph service", "the graph is NULL");
  return *reinterpret_cast<Graph*>(graph);
}

void keep_error(const char* function) {
  std::string text;
  try {
    throw;
  } catch (const std::exception& error) {
    text = error.what();
  } catch (...) {
    text = "unknown exception";
  }
  if (first_error.empty()) first_error = std::string(function) + ": " + text;
}

template <typename Result, typename Body>
Result guarded(const char* function, Result otherwise, Body&& body) {
  try {
    return body();
  } catch (...) {
    keep_error(function);
    return otherwise;
  }
}

std::string text_of(const char* text, const char* what) {
  if (text == nullptr) throw Error("", std::string(what) + " is NULL");
  return text;
}

Attribute attribute_of(const km_attribute& attribute) {
  switch (attribute.type) {
    case KM_ATTRIBUTE_I64: return attribute.value.i64;
    case KM_ATTRIBUTE_F64: return attribute.value.f64;
    case KM_ATTRIBUTE_STRING: return text_of(attribute.value.string, "the text of an attribute");
    case KM_ATTRIBUTE_I64_LIST:
      if (attribute.count && !attribute.value.i64_list) throw Error("", "the list of an attribute is NULL");
      return std::vector<int64_t>(attribute.value.i64_list, attribute.value.i64_list + attribute.count);
    default: throw Error("", "an attribute has the unknown type " + std::to_string(attribute.type));
  }
}

km_attribute attribute_to(const std::string& name, const Attribute& attribute) {
  km_attribute out = {name.c_str(), 0, 0, {0}};
  if (const auto* i64 = std::get_if<int64_t>(&attribute)) {
    out.type = KM_ATTRIBUTE_I64;
    out.value.i64 = *i64;
  } else if (const auto* f64 = std::get_if<double>(&attribute)) {
    out.type = KM_ATTRIBUTE_F64;
    out.value.f64 = *f64;
  } else if (const auto* text = std::get_if<std::string>(&attribute)) {
    out.type = KM_ATTRIBUTE_STRING;
    out.value.string = text->c_str();
  } else {
    const auto& list = std::get<std::vector<int64_t>>(attribute);
    out.type = KM_ATTRIBUTE_I64_LIST;
    out.count = static_cast<uint32_t>(list.size());
    out.value.i64_list = list.data();
  }
  return out;
}

// ---- read -----------------------------------------------------------------------------------------------------------

km_node next_node(km_graph* graph, km_node after) {
  return guarded<km_node>("next_node", 0, [&] { return of(graph).next(after); });
}

// The caller's struct may be older and shorter, or newer and longer than ours: what both know is written.
template <typename Info>
void write_info(Info* out, Info ours) {
  if (out == nullptr || out->struct_size < sizeof(uint32_t))
    throw Error("", "info is NULL, or its struct_size is not set");
  const uint32_t size = out->struct_size;
  ours.struct_size = size;
  const auto* from = reinterpret_cast<const unsigned char*>(&ours);
  auto* to = reinterpret_cast<unsigned char*>(out);
  for (uint32_t i = 0; i < size && i < sizeof(Info); ++i) to[i] = from[i];
}

km_status node_info(km_graph* graph, km_node id, km_node_info* info) {
  return guarded<km_status>("node_info", KM_ERROR_PLUGIN, [&] {
    const Node& node = of(graph).node(id);
    km_node_info ours = {};
    ours.phase = static_cast<uint32_t>(node.phase);
    ours.op = node.op.c_str();
    ours.inputs = node.inputs.data();
    ours.outputs = node.outputs.data();
    ours.n_inputs = static_cast<uint32_t>(node.inputs.size());
    ours.n_outputs = static_cast<uint32_t>(node.outputs.size());
    ours.layer = node.layer;
    ours.stage = node.stage;
    ours.part = static_cast<uint32_t>(node.part);
    write_info(info, ours);
    return KM_OK;
  });
}

km_status attribute(km_graph* graph, km_node id, const char* name, km_attribute* out) {
  return guarded<km_status>("attribute", KM_ERROR_PLUGIN, [&] {
    const Node& node = of(graph).node(id);
    const auto found = node.attributes.find(text_of(name, "the name of an attribute"));
    if (out == nullptr) throw Error("", "attribute is NULL");
    if (found == node.attributes.end()) return KM_UNSUPPORTED;
    *out = attribute_to(found->first, found->second);
    return KM_OK;
  });
}

km_status value_info(km_graph* graph, km_value id, km_value_info* info) {
  return guarded<km_status>("value_info", KM_ERROR_PLUGIN, [&] {
    const Value& value = of(graph).value(id);
    km_value_info ours = {};
    ours.kind = static_cast<uint32_t>(value.kind);
    ours.name = value.name.c_str();
    ours.tensor = to_abi(value.type);
    ours.producer = value.producer;
    ours.layer = value.layer;
    ours.stage = value.stage;
    ours.role = value.kind == ValueKind::kParameter ? value.role : 0;
    ours.decay = value.decay;
    ours.varies = value.varies;
    write_info(info, ours);
    return KM_OK;
  });
}

uint32_t users(km_graph* graph, km_value id, km_node* out, uint32_t capacity) {
  return guarded<uint32_t>("users", 0, [&] {
    const std::vector<NodeId> all = of(graph).users(id);
    if (capacity && out == nullptr) throw Error("", "users is NULL, but capacity is not 0");
    for (size_t i = 0; i < all.size() && i < capacity; ++i) out[i] = all[i];
    return static_cast<uint32_t>(all.size());
  });
}

uint32_t mode(km_graph* graph) {
  return guarded<uint32_t>("mode", 0, [&] { return of(graph).mode(); });
}

// ---- leaves ---------------------------------------------------------------------------------------------------------

Type checked_type(const km_tensor& tensor) {
  if (km_dtype_bytes(tensor.dtype) == 0) throw Error("", "unknown dtype " + std::to_string(tensor.dtype));
  if (tensor.rank > KM_MAX_RANK) throw Error("", "rank " + std::to_string(tensor.rank) + " is more than 8");
  if (tensor.layout != 0) throw Error("", "layout " + std::to_string(tensor.layout) + " is unknown: only 0 (rows) is");
  Type type = from_abi(tensor);
  for (const int64_t dim : type.shape)
    if (dim < 1) throw Error("", to_text(type) + ": dimensions must be at least 1");
  return type;
}

km_value add_parameter(km_graph* graph, const km_parameter* given) {
  return guarded<km_value>("add_parameter", 0, [&] {
    if (given == nullptr || !KM_HAS(km_parameter, given, init_std))
      throw Error("", "the parameter is NULL, or its struct_size is not set");
    const std::string name = text_of(given->name, "the name of a parameter");
    try {
      if (given->role < KM_ROLE_REPLICATED || given->role > KM_ROLE_VOCABULARY)
        throw Error("", "unknown role " + std::to_string(given->role));
      if (given->init < KM_INIT_ZERO || given->init > KM_INIT_NORMAL)
        throw Error("", "unknown init " + std::to_string(given->init));
      return of(graph).add_parameter(name, checked_type(given->tensor), given->role, given->init, given->init_std,
                                     given->decay != 0);
    } catch (const Error& error) {
      throw Error("parameter " + name, error.what());
    }
  });
}

km_value input(km_graph* graph, const char* name) {
  return guarded<km_value>("input", 0, [&] { return of(graph).input(text_of(name, "the name of an input")); });
}

km_value add_state(km_graph* graph, km_value owner, const char* name, const km_tensor* tensor) {
  return guarded<km_value>("add_state", 0, [&] {
    if (tensor == nullptr) throw Error("", "the tensor is NULL");
    return of(graph).add_state(owner, text_of(name, "the name of a state"), checked_type(*tensor));
  });
}

km_value constant(km_graph* graph, double value) {
  return guarded<km_value>("constant", 0, [&] { return of(graph).constant(value); });
}

km_value step_scalar(km_graph* graph, const char* name) {
  return guarded<km_value>("step_scalar", 0,
                           [&] { return of(graph).step_scalar(text_of(name, "the name of a step scalar")); });
}

// ---- write ----------------------------------------------------------------------------------------------------------

void set_layer(km_graph* graph, int32_t layer) {
  guarded<int>("set_layer", 0, [&] {
    of(graph).cursor.layer = layer;
    return 0;
  });
}

km_value add_node(km_graph* graph, const char* op, const km_value* inputs, uint32_t n_inputs,
                  const km_attribute* attributes, uint32_t n_attributes, km_value* outputs) {
  return guarded<km_value>("add_node", 0, [&]() -> km_value {
    const std::string name = text_of(op, "the op");
    if ((n_inputs && !inputs) || (n_attributes && !attributes)) throw Error(name, "inputs or attributes are NULL");
    if (name == "assign" || name == "accumulate")
      throw Error(name, "this op is the planner's own", "a state gets a new value by assign()");
    Attributes ours;
    for (uint32_t i = 0; i < n_attributes; ++i)
      ours[text_of(attributes[i].name, "the name of an attribute")] = attribute_of(attributes[i]);
    const std::vector<ValueId> made = of(graph).add(name, {inputs, inputs + n_inputs}, std::move(ours));
    for (size_t i = 0; outputs && i < made.size(); ++i) outputs[i] = made[i];
    return made.empty() ? 0 : made[0];
  });
}

km_status assign(km_graph* graph, km_value state, km_value value) {
  return guarded<km_status>("assign", KM_ERROR_PLUGIN, [&] {
    of(graph).assign(state, value);
    return KM_OK;
  });
}

km_status set_output(km_graph* graph, const char* name, km_value value) {
  return guarded<km_status>("set_output", KM_ERROR_PLUGIN, [&] {
    of(graph).set_output(text_of(name, "the name of an output"), value);
    return KM_OK;
  });
}

km_status replace_uses(km_graph* graph, km_value old_value, km_value now, km_node except) {
  return guarded<km_status>("replace_uses", KM_ERROR_PLUGIN, [&] {
    of(graph).replace_uses(old_value, now, except);
    return KM_OK;
  });
}

km_status set_attribute(km_graph* graph, km_node id, const km_attribute* attribute) {
  return guarded<km_status>("set_attribute", KM_ERROR_PLUGIN, [&] {
    if (attribute == nullptr) throw Error("", "the attribute is NULL");
    Node& node = of(graph).node(id);
    const Attributes before = node.attributes;
    node.attributes[text_of(attribute->name, "the name of an attribute")] = attribute_of(*attribute);
    try {
      of(graph).infer(id);
    } catch (...) {
      // A strategy may set several that only go together, and divide what the node reads: its call ends with infer_all.
      if (!of(graph).axes().empty()) return KM_OK;
      node.attributes = before;
      throw;
    }
    return KM_OK;
  });
}

km_status erase(km_graph* graph, km_node id) {
  return guarded<km_status>("erase", KM_ERROR_PLUGIN, [&] {
    of(graph).erase(id);
    return KM_OK;
  });
}

km_status before(km_graph* graph, km_node id) {
  return guarded<km_status>("before", KM_ERROR_PLUGIN, [&] {
    if (id)
      of(graph).stand_before(id);
    else
      of(graph).stand_at_end();
    return KM_OK;
  });
}

// ---- for strategies -------------------------------------------------------------------------------------------------

km_status after(km_graph* graph, km_node id) {
  return guarded<km_status>("after", KM_ERROR_PLUGIN, [&] {
    of(graph).stand_after(id);
    return KM_OK;
  });
}

km_status at_phase(km_graph* graph, uint32_t phase, int32_t layer, int32_t stage) {
  return guarded<km_status>("at_phase", KM_ERROR_PLUGIN, [&] {
    Graph& g = of(graph);
    if (phase != KM_PHASE_HEAD && phase != KM_PHASE_TAIL)
      throw Error("", "phase " + std::to_string(phase) + " is neither head nor tail");
    g.stand_at_end();
    if (phase == KM_PHASE_HEAD && g.next(0) != 0) g.stand_before(g.first_of_body());
    g.cursor.phase = static_cast<Phase>(phase);
    g.cursor.part = Part::kForward;
    g.cursor.layer = layer;
    g.cursor.stage = stage;
    g.cursor.moved = true;
    return KM_OK;
  });
}

km_status replace_input(km_graph* graph, km_node id, uint32_t index, km_value now) {
  return guarded<km_status>("replace_input", KM_ERROR_PLUGIN, [&] {
    of(graph).replace_input(id, index, now);
    return KM_OK;
  });
}

km_value next_parameter(km_graph* graph, km_value after_parameter) {
  return guarded<km_value>("next_parameter", 0, [&]() -> km_value {
    for (const ValueId id : of(graph).parameters())
      if (id > after_parameter) return id; // declared in order of their ids
    return 0;
  });
}

km_value gradient(km_graph* graph, km_value parameter) {
  return guarded<km_value>("gradient", 0, [&]() -> km_value {
    const auto found = of(graph).gradients().find(parameter);
    return found == of(graph).gradients().end() ? 0 : found->second;
  });
}

km_status set_gradient(km_graph* graph, km_value parameter, km_value now) {
  return guarded<km_status>("set_gradient", KM_ERROR_PLUGIN, [&] {
    Graph& g = of(graph);
    if (g.value(parameter).kind != ValueKind::kParameter) throw Error(g.value(parameter).name, "it is no parameter");
    g.value(now);
    g.gradients()[parameter] = now;
    return KM_OK;
  });
}

uint32_t placement(km_graph* graph, km_value id, uint32_t axis, int32_t* dim) {
  return guarded<uint32_t>("placement", 0, [&]() -> uint32_t {
    const Graph& g = of(graph);
    const std::vector<size_t>& axes = g.mesh_axes(axis);
    const Placement p = g.placement(id, axes[0]);
    for (const size_t other : axes)
      if (!(g.placement(id, other) == p))
        throw Error(g.value(id).name,
                    "placement: axis " + g.axes()[other].part_of + " is split, and its halves hold the value as " +
                        to_text(p) + " and as " + to_text(g.placement(id, other)),
                    "ask for each half, by the numbers that split_axis gave");
    if (dim && p.spread == Spread::kSharded) *dim = p.dim;
    return static_cast<uint32_t>(p.spread) + KM_REPLICATED;
  });
}

km_status shard(km_graph* graph, km_value leaf, uint32_t axis, int32_t dim) {
  return guarded<km_status>("shard", KM_ERROR_PLUGIN, [&] {
    of(graph).shard(leaf, dim, of(graph).mesh_axes(axis));
    return KM_OK;
  });
}

km_status set_stages(km_graph* graph, int32_t stages) {
  return guarded<km_status>("set_stages", KM_ERROR_PLUGIN, [&] {
    if (stages < 1) throw Error("", std::to_string(stages) + " stages");
    of(graph).set_stages(stages);
    return KM_OK;
  });
}

void check_stage(const Graph& graph, int32_t stage) {
  if (stage < kEveryStage || stage >= graph.stages())
    throw Error("", "stage " + std::to_string(stage) + " is none of the " + std::to_string(graph.stages()));
}

km_status set_node_stage(km_graph* graph, km_node id, int32_t stage) {
  return guarded<km_status>("set_node_stage", KM_ERROR_PLUGIN, [&] {
    check_stage(of(graph), stage);
    of(graph).set_stage(id, stage);
    return KM_OK;
  });
}

km_status set_value_stage(km_graph* graph, km_value leaf, int32_t stage) {
  return guarded<km_status>("set_value_stage", KM_ERROR_PLUGIN, [&] {
    check_stage(of(graph), stage);
    Value& value = of(graph).value(leaf);
    if (value.producer) throw Error("", "the stage of an activation is that of its node");
    value.stage = stage;
    return KM_OK;
  });
}

km_value add_tied_copy(km_graph* graph, km_value parameter, int32_t stage) {
  return guarded<km_value>("add_tied_copy", 0, [&] {
    check_stage(of(graph), stage);
    return of(graph).add_tied_copy(parameter, stage);
  });
}

km_value tied_to(km_graph* graph, km_value parameter) {
  return guarded<km_value>("tied_to", 0, [&] { return of(graph).value(parameter).tied_to; });
}

km_status node_cost(km_graph* graph, km_node id, double* flops, double* bytes) {
  return guarded<km_status>("cost", KM_ERROR_PLUGIN, [&] {
    const Cost c = cost(of(graph), of(graph).node(id));
    if (flops) *flops = c.flops;
    if (bytes) *bytes = c.bytes;
    return KM_OK;
  });
}

km_status mark_again(km_graph* graph, km_node id) {
  return guarded<km_status>("mark_again", KM_ERROR_PLUGIN, [&] {
    of(graph).node(id).again = true;
    return KM_OK;
  });
}

km_status split_axis(km_graph* graph, uint32_t axis, uint32_t inner, uint32_t* halves) {
  return guarded<km_status>("split_axis", KM_ERROR_PLUGIN, [&] {
    if (halves == nullptr) throw Error("", "halves is NULL");
    const auto [first, second] = of(graph).split_axis(axis, inner);
    halves[0] = static_cast<uint32_t>(first);
    halves[1] = static_cast<uint32_t>(second);
    return KM_OK;
  });
}

constexpr km_graph_service kService = {
    sizeof(km_graph_service),
    0,
    next_node,
    node_info,
    attribute,
    value_info,
    users,
    mode,
    add_parameter,
    input,
    add_state,
    constant,
    step_scalar,
    set_layer,
    add_node,
    assign,
    set_output,
    replace_uses,
    set_attribute,
    erase,
    before,
    after,
    at_phase,
    replace_input,
    next_parameter,
    gradient,
    set_gradient,
    placement,
    shard,
    set_stages,
    set_node_stage,
    set_value_stage,
    add_tied_copy,
    tied_to,
    node_cost,
    mark_again,
    split_axis,
};

} // namespace

const km_graph_service* graph_service() { return &kService; }

std::string take_service_error() {
  std::string text;
  text.swap(first_error);
  return text;
}

km_tensor to_abi(const Type& type) {
  KM_CHECK(type.shape.size() <= KM_MAX_RANK, "no tensor has more than 8 dimensions");
  km_tensor tensor = {};
  tensor.dtype = type.dtype;
  tensor.rank = static_cast<uint32_t>(type.shape.size());
  for (size_t i = 0; i < type.shape.size(); ++i) tensor.dims[i] = type.shape[i];
  return tensor;
}

Type from_abi(const km_tensor& tensor) {
  KM_CHECK(tensor.rank <= KM_MAX_RANK, "no tensor has more than 8 dimensions");
  return Type{tensor.dtype, Shape(tensor.dims, tensor.dims + tensor.rank)};
}

std::vector<km_attribute> to_abi(const Attributes& attributes) {
  std::vector<km_attribute> out;
  out.reserve(attributes.size());
  for (const auto& [name, attribute] : attributes) out.push_back(attribute_to(name, attribute));
  return out;
}

} // namespace kumiki
