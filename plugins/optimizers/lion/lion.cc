// lion: the sign of an interpolated momentum (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms"):
//   ĝ = gradient_scale · g;  p ← p − learning_rate · (sign(β₁ m + (1 − β₁) ĝ) + weight_decay · p)
//   m ← β₂ m + (1 − β₂) ĝ
// The paper takes learning rates 3 to 10 times smaller than AdamW's, and as much more decay.
#include <initializer_list>
#include <new>

#include "kumiki/optimizer.h"
#include "kumiki/plugin.h"

namespace {

const km_option kOptions[] = {
    {"beta1", KM_OPTION_F64, 0, "0.9", 0, 1, nullptr, "share of the momentum in the direction of this step"},
    {"beta2", KM_OPTION_F64, 0, "0.99", 0, 1, nullptr, "decay of the momentum"},
    {"weight_decay", KM_OPTION_F64, 0, "1.0", 0, 1e3, nullptr, "of matrices and embeddings; vectors do not decay"},
};

struct Lion {
  const km_host* host;
  const km_graph_service* graph;
  double beta1, beta2, weight_decay;
};

km_status open(const km_host* host, const km_options* options, void** self) {
  Lion lion = {host, static_cast<const km_graph_service*>(host->service(host, KM_GRAPH_SERVICE)),
               km_option_f64(options, "beta1"), km_option_f64(options, "beta2"),
               km_option_f64(options, "weight_decay")};
  if (lion.graph == nullptr)
    return host->fail(host, KM_ERROR_HOST, "lion: the host has no service %s", KM_GRAPH_SERVICE);
  *self = new (std::nothrow) Lion(lion);
  return *self ? KM_OK : host->fail(host, KM_ERROR_SYSTEM, "lion: out of memory");
}

void close(void* self) { delete static_cast<Lion*>(self); }

km_status update(void* self, km_graph* graph, km_value parameter, km_value gradient) {
  const Lion& lion = *static_cast<const Lion*>(self);
  const km_graph_service& s = *lion.graph;
  auto op = [&](const char* name, std::initializer_list<km_value> inputs) {
    return s.add_node(graph, name, inputs.begin(), static_cast<uint32_t>(inputs.size()), nullptr, 0, nullptr);
  };
  auto scaled = [&](km_value x, double factor) {
    const km_attribute attribute = km_f64("factor", factor);
    return s.add_node(graph, "scale", &x, 1, &attribute, 1, nullptr);
  };
  km_value_info info = {};
  info.struct_size = sizeof info;
  if (km_status status = s.value_info(graph, parameter, &info); status != KM_OK) return status;
  const km_tensor tensor = info.tensor;

  const km_value g = op("multiply", {gradient, s.step_scalar(graph, "gradient_scale")});
  const km_value m = s.add_state(graph, parameter, "m", &tensor);
  auto mix = [&](double beta) { return op("add", {scaled(m, beta), scaled(g, 1 - beta)}); };
  km_value direction = op("sign", {mix(lion.beta1)});
  if (info.decay && lion.weight_decay > 0) direction = op("add", {direction, scaled(parameter, lion.weight_decay)});
  const km_value step = op("multiply", {direction, s.step_scalar(graph, "learning_rate")});
  if (km_status status = s.assign(graph, m, mix(lion.beta2)); status != KM_OK) return status;
  return s.assign(graph, parameter, op("subtract", {parameter, step}));
}

const km_optimizer kTable = {sizeof(km_optimizer), KM_UPDATE_ELEMENTWISE, open, close, update};
const km_component kComponents[] = {{"optimizer", "lion", KM_OPTIMIZER_VERSION, sizeof kOptions / sizeof *kOptions,
                                     &kTable, kOptions, "the sign of an interpolated momentum"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "lion", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace

KM_PLUGIN(kPlugin)
