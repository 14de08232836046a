// sgd: stochastic gradient descent with momentum (Polyak 1964), Nesterov's form if asked (Sutskever et al. 2013), and
// L2 weight decay that goes through the momentum:
//   ĝ = gradient_scale · g + weight_decay · p;  b ← momentum · b + ĝ;  p ← p − learning_rate · (b, or ĝ + momentum · b)
#include "kumiki/plugin.h"
#include "plugins/optimizers/standard/update.h"

namespace {

using kumiki::optimizers::Update;

const km_option kOptions[] = {
    {"momentum", KM_OPTION_F64, 0, "0.0", 0, 0.9999999, nullptr,
     "how much of the former direction stays; 0 = none, no state"},
    {"nesterov", KM_OPTION_BOOL, 0, "false", 0, 0, nullptr, "look ahead along the momentum"},
    {"weight_decay", KM_OPTION_F64, 0, "0.0", 0, 1e3, nullptr, "of matrices and embeddings; vectors do not decay"},
};

struct Sgd : kumiki::optimizers::Instance {
  double momentum = 0, weight_decay = 0;
  bool nesterov = false;
};

km_status open(const km_host* host, const km_options* options, void** self) {
  return kumiki::optimizers::open_as<Sgd>(host, self, [&](Sgd& sgd) -> km_status {
    sgd.momentum = km_option_f64(options, "momentum");
    sgd.weight_decay = km_option_f64(options, "weight_decay");
    sgd.nesterov = km_option_i64(options, "nesterov") != 0;
    if (sgd.nesterov && sgd.momentum == 0)
      return host->fail(host, KM_ERROR_USER,
                        "sgd: nesterov = true needs a momentum: set momentum = 0.9, or leave nesterov out");
    return KM_OK;
  });
}

void close(void* self) { delete static_cast<Sgd*>(self); }

km_status update(void* self, km_graph* graph, km_value parameter, km_value gradient) {
  const Sgd& sgd = *static_cast<const Sgd*>(self);
  const Update u(*sgd.service, graph, parameter, gradient);
  const km_value g = u.decayed(u.gradient(), sgd.weight_decay);
  km_value direction = g;
  if (sgd.momentum > 0) {
    const km_value state = u.state("momentum");
    const km_value b = u.op("add", {u.scaled(state, sgd.momentum), g});
    u.assign(state, b);
    direction = sgd.nesterov ? u.op("add", {g, u.scaled(b, sgd.momentum)}) : b;
  }
  u.descend(direction, u.scalar("learning_rate"));
  return KM_OK;
}

const km_optimizer kTable = {sizeof(km_optimizer), KM_UPDATE_ELEMENTWISE, open, close, update};
const km_component kComponents[] = {{"optimizer", "sgd", KM_OPTIMIZER_VERSION, sizeof kOptions / sizeof *kOptions,
                                     &kTable, kOptions, "gradient descent with momentum"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "sgd", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace

KM_PLUGIN(kPlugin)
