// lamb: Adam's direction scaled by the norm of each tensor, for large batches (You et al. 2020, algorithm 2, φ(z) = z):
//   ĝ = gradient_scale · g;  m ← β₁ m + (1 − β₁) ĝ;  v ← β₂ v + (1 − β₂) ĝ²
//   r = m/(1 − β₁ˢ) / (√(v/(1 − β₂ˢ)) + ε) + weight_decay · p;  p ← p − learning_rate · ‖p‖/‖r‖ · r
// Where either norm is 0 the ratio is 1. As in the authors' code, tensors without weight decay (vectors) keep ratio 1.
#include <initializer_list>
#include <new>

#include "kumiki/optimizer.h"
#include "kumiki/plugin.h"

namespace {

const km_option kOptions[] = {
    {"beta1", KM_OPTION_F64, 0, "0.9", 0, 0.9999999, nullptr, "decay of the mean of gradients"},
    {"beta2", KM_OPTION_F64, 0, "0.999", 0, 0.9999999, nullptr, "decay of the mean of squared gradients"},
    {"epsilon", KM_OPTION_F64, 0, "1e-6", 0, 1, nullptr, "added to the root of the mean of squares"},
    {"weight_decay", KM_OPTION_F64, 0, "0.01", 0, 1e3, nullptr, "of matrices and embeddings; vectors do not decay"},
    {"ratio_maximum", KM_OPTION_F64, 0, "0.0", 0, 1e6, nullptr, "limit of the ratio of norms; 0 = none"},
};

struct Lamb {
  const km_host* host;
  const km_graph_service* graph;
  double beta1, beta2, epsilon, weight_decay, ratio_maximum;
};

km_status open(const km_host* host, const km_options* options, void** self) {
  Lamb lamb = {host,
               static_cast<const km_graph_service*>(host->service(host, KM_GRAPH_SERVICE)),
               km_option_f64(options, "beta1"),
               km_option_f64(options, "beta2"),
               km_option_f64(options, "epsilon"),
               km_option_f64(options, "weight_decay"),
               km_option_f64(options, "ratio_maximum")};
  if (lamb.graph == nullptr)
    return host->fail(host, KM_ERROR_HOST, "lamb: the host has no service %s", KM_GRAPH_SERVICE);
  *self = new (std::nothrow) Lamb(lamb);
  return *self ? KM_OK : host->fail(host, KM_ERROR_SYSTEM, "lamb: out of memory");
}

void close(void* self) { delete static_cast<Lamb*>(self); }

km_status update(void* self, km_graph* graph, km_value parameter, km_value gradient) {
  const Lamb& lamb = *static_cast<const Lamb*>(self);
  const km_graph_service& s = *lamb.graph;
  auto op = [&](const char* name, std::initializer_list<km_value> inputs) {
    return s.add_node(graph, name, inputs.begin(), static_cast<uint32_t>(inputs.size()), nullptr, 0, nullptr);
  };
  auto scaled = [&](km_value x, double factor) {
    const km_attribute attribute = km_f64("factor", factor);
    return s.add_node(graph, "scale", &x, 1, &attribute, 1, nullptr);
  };
  auto constant = [&](double value) { return s.constant(graph, value); };
  km_value_info info = {};
  info.struct_size = sizeof info;
  if (km_status status = s.value_info(graph, parameter, &info); status != KM_OK) return status;
  const km_tensor tensor = info.tensor;

  const km_value g = op("multiply", {gradient, s.step_scalar(graph, "gradient_scale")});
  const km_value m = s.add_state(graph, parameter, "m", &tensor), v = s.add_state(graph, parameter, "v", &tensor);
  const km_value m_now = op("add", {scaled(m, lamb.beta1), scaled(g, 1 - lamb.beta1)});
  const km_value v_now = op("add", {scaled(v, lamb.beta2), scaled(op("square", {g}), 1 - lamb.beta2)});
  auto unbiased = [&](km_value mean, double beta) {
    const km_value weight = op("power", {constant(beta), s.step_scalar(graph, "step")});
    return op("divide", {mean, op("subtract", {constant(1), weight})});
  };
  const km_value root = op("sqrt", {unbiased(v_now, lamb.beta2)});
  km_value r = op("divide", {unbiased(m_now, lamb.beta1), op("add", {root, constant(lamb.epsilon)})});
  km_value rate = s.step_scalar(graph, "learning_rate");
  if (info.decay) {
    if (lamb.weight_decay > 0) r = op("add", {r, scaled(parameter, lamb.weight_decay)});
    const km_value p_norm = op("tensor_norm", {parameter}), r_norm = op("tensor_norm", {r}), one = constant(1);
    km_value ratio = op("select", {p_norm, op("select", {r_norm, op("divide", {p_norm, r_norm}), one}), one});
    if (lamb.ratio_maximum > 0) ratio = op("minimum", {ratio, constant(lamb.ratio_maximum)});
    rate = op("multiply", {rate, ratio});
  }
  if (km_status status = s.assign(graph, m, m_now); status != KM_OK) return status;
  if (km_status status = s.assign(graph, v, v_now); status != KM_OK) return status;
  return s.assign(graph, parameter, op("subtract", {parameter, op("multiply", {r, rate})}));
}

const km_optimizer kTable = {sizeof(km_optimizer), KM_UPDATE_PER_TENSOR, open, close, update};
const km_component kComponents[] = {{"optimizer", "lamb", KM_OPTIMIZER_VERSION, sizeof kOptions / sizeof *kOptions,
                                     &kTable, kOptions, "Adam scaled by the norms of tensors, for large batches"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "lamb", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace

KM_PLUGIN(kPlugin)
