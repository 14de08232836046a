#include "graph_view.h"

namespace kumiki::parallel {
namespace {

const km_graph_service& find_service(const km_host* host) {
  const auto* service = static_cast<const km_graph_service*>(host->service(host, KM_GRAPH_SERVICE));
  if (service == nullptr || !KM_HAS(km_graph_service, service, mark_again))
    throw Failure(KM_ERROR_HOST, "the host has no service " KM_GRAPH_SERVICE " with the functions for strategies");
  return *service;
}

} // namespace

GraphView::GraphView(const km_host* host, km_graph* graph) : graph_(graph), service_(find_service(host)) {}

void GraphView::ask(km_status status) {
  if (status != KM_OK) throw Failure(status, "the graph service refused a call");
}

std::vector<NodeView> GraphView::nodes() const {
  std::vector<NodeView> all;
  for (km_node id = service_.next_node(graph_, 0); id != 0; id = service_.next_node(graph_, id))
    all.push_back(node(id));
  return all;
}

NodeView GraphView::node(km_node id) const {
  km_node_info info = {};
  info.struct_size = sizeof info;
  ask(service_.node_info(graph_, id, &info));
  return {id,
          info.op,
          {info.inputs, info.inputs + info.n_inputs},
          {info.outputs, info.outputs + info.n_outputs},
          info.phase,
          info.part,
          info.layer,
          info.stage};
}

km_value_info GraphView::value(km_value id) const {
  km_value_info info = {};
  info.struct_size = sizeof info;
  ask(service_.value_info(graph_, id, &info));
  return info;
}

std::vector<km_node> GraphView::users(km_value id) const {
  std::vector<km_node> all(service_.users(graph_, id, nullptr, 0));
  service_.users(graph_, id, all.data(), static_cast<uint32_t>(all.size()));
  return all;
}

std::vector<km_value> GraphView::parameters() const {
  std::vector<km_value> all;
  for (km_value id = service_.next_parameter(graph_, 0); id != 0; id = service_.next_parameter(graph_, id))
    all.push_back(id);
  return all;
}

int64_t GraphView::i64(km_node id, const char* attribute, int64_t otherwise) const {
  km_attribute found = {};
  return service_.attribute(graph_, id, attribute, &found) == KM_OK && found.type == KM_ATTRIBUTE_I64 ? found.value.i64
                                                                                                      : otherwise;
}

bool GraphView::f64(km_node id, const char* attribute, double* number) const {
  km_attribute found = {};
  if (service_.attribute(graph_, id, attribute, &found) != KM_OK) return false;
  if (found.type == KM_ATTRIBUTE_F64) *number = found.value.f64;
  if (found.type == KM_ATTRIBUTE_I64) *number = static_cast<double>(found.value.i64);
  return found.type == KM_ATTRIBUTE_F64 || found.type == KM_ATTRIBUTE_I64;
}

std::string GraphView::text(km_node id, const char* attribute) const {
  km_attribute found = {};
  return service_.attribute(graph_, id, attribute, &found) == KM_OK && found.type == KM_ATTRIBUTE_STRING
             ? found.value.string
             : "";
}

uint32_t GraphView::placement(km_value id, uint32_t axis) const {
  const uint32_t placement = service_.placement(graph_, id, axis, nullptr);
  if (placement == 0) ask(KM_ERROR_PLUGIN);
  return placement;
}

void GraphView::cost(km_node id, double* flops, double* bytes) const { ask(service_.cost(graph_, id, flops, bytes)); }

std::vector<km_value> GraphView::add(const char* op, const std::vector<km_value>& inputs,
                                     const std::vector<km_attribute>& attributes, size_t count) {
  km_value outputs[KM_MAX_OUTPUTS] = {};
  if (service_.add_node(graph_, op, inputs.data(), static_cast<uint32_t>(inputs.size()), attributes.data(),
                        static_cast<uint32_t>(attributes.size()), outputs) == 0)
    throw Failure(KM_ERROR_PLUGIN, std::string("the graph service refused a node ") + op);
  return {outputs, outputs + count};
}

void GraphView::redirect(km_value old, km_value now, km_node except) {
  for (const km_node user : users(old)) {
    if (user == except) continue;
    const std::vector<km_value> inputs = node(user).inputs;
    for (uint32_t i = 0; i < inputs.size(); ++i)
      if (inputs[i] == old) replace_input(user, i, now);
  }
}

std::pair<uint32_t, uint32_t> GraphView::split_axis(uint32_t axis, uint32_t inner) {
  if (!KM_HAS(km_graph_service, &service_, split_axis))
    throw Failure(KM_ERROR_USER,
                  "this kumiki cannot split an axis: use a newer one, or a degree that divides all heads");
  uint32_t halves[2] = {0, 0};
  ask(service_.split_axis(graph_, axis, inner, halves));
  return {halves[0], halves[1]};
}

km_value GraphView::add_tied_copy(km_value parameter, int32_t stage) {
  const km_value copy = service_.add_tied_copy(graph_, parameter, stage);
  if (copy == 0) ask(KM_ERROR_PLUGIN);
  return copy;
}

} // namespace kumiki::parallel
