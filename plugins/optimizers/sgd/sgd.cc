// sgd: stochastic gradient descent with momentum (Polyak 1964), Nesterov's form if asked (Sutskever et al. 2013), and
// L2 weight decay that goes through the momentum:
//   ĝ = gradient_scale · g + weight_decay · p;  b ← momentum · b + ĝ;  p ← p − learning_rate · (b, or ĝ + momentum · b)
#include <initializer_list>
#include <new>

#include "kumiki/optimizer.h"
#include "kumiki/plugin.h"

namespace {

const km_option kOptions[] = {
    {"momentum", KM_OPTION_F64, 0, "0.0", 0, 0.9999999, nullptr,
     "how much of the former direction stays; 0 = none, no state"},
    {"nesterov", KM_OPTION_BOOL, 0, "false", 0, 0, nullptr, "look ahead along the momentum"},
    {"weight_decay", KM_OPTION_F64, 0, "0.0", 0, 1e3, nullptr, "of matrices and embeddings; vectors do not decay"},
};

struct Sgd {
  const km_host* host;
  const km_graph_service* graph;
  double momentum, weight_decay;
  bool nesterov;
};

km_status open(const km_host* host, const km_options* options, void** self) {
  Sgd sgd = {host, static_cast<const km_graph_service*>(host->service(host, KM_GRAPH_SERVICE)),
             km_option_f64(options, "momentum"), km_option_f64(options, "weight_decay"),
             km_option_i64(options, "nesterov") != 0};
  if (sgd.graph == nullptr) return host->fail(host, KM_ERROR_HOST, "sgd: the host has no service %s", KM_GRAPH_SERVICE);
  if (sgd.nesterov && sgd.momentum == 0)
    return host->fail(host, KM_ERROR_USER,
                      "sgd: nesterov = true needs a momentum: set momentum = 0.9, or leave nesterov out");
  *self = new (std::nothrow) Sgd(sgd);
  return *self ? KM_OK : host->fail(host, KM_ERROR_SYSTEM, "sgd: out of memory");
}

void close(void* self) { delete static_cast<Sgd*>(self); }

km_status update(void* self, km_graph* graph, km_value parameter, km_value gradient) {
  const Sgd& sgd = *static_cast<const Sgd*>(self);
  const km_graph_service& s = *sgd.graph;
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

  km_value g = op("multiply", {gradient, s.step_scalar(graph, "gradient_scale")});
  if (info.decay && sgd.weight_decay > 0) g = op("add", {g, scaled(parameter, sgd.weight_decay)});
  km_value direction = g;
  if (sgd.momentum > 0) {
    const km_value state = s.add_state(graph, parameter, "momentum", &tensor);
    const km_value b = op("add", {scaled(state, sgd.momentum), g});
    if (km_status status = s.assign(graph, state, b); status != KM_OK) return status;
    direction = sgd.nesterov ? op("add", {g, scaled(b, sgd.momentum)}) : b;
  }
  const km_value step = op("multiply", {direction, s.step_scalar(graph, "learning_rate")});
  return s.assign(graph, parameter, op("subtract", {parameter, step}));
}

const km_optimizer kTable = {sizeof(km_optimizer), KM_UPDATE_ELEMENTWISE, open, close, update};
const km_component kComponents[] = {{"optimizer", "sgd", KM_OPTIMIZER_VERSION, sizeof kOptions / sizeof *kOptions,
                                     &kTable, kOptions, "gradient descent with momentum"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "sgd", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace

KM_PLUGIN(kPlugin)
