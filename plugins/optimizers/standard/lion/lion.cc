// lion: the sign of an interpolated momentum (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms"):
//   ĝ = gradient_scale · g;  p ← p − learning_rate · (sign(β₁ m + (1 − β₁) ĝ) + weight_decay · p)
//   m ← β₂ m + (1 − β₂) ĝ
// The paper takes learning rates 3 to 10 times smaller than AdamW's, and as much more decay.
#include "kumiki/plugin.h"
#include "plugins/optimizers/standard/update.h"

namespace {

using kumiki::optimizers::Update;

const km_option kOptions[] = {
    {"beta1", KM_OPTION_F64, 0, "0.9", 0, 1, nullptr, "share of the momentum in the direction of this step"},
    {"beta2", KM_OPTION_F64, 0, "0.99", 0, 1, nullptr, "decay of the momentum"},
    {"weight_decay", KM_OPTION_F64, 0, "1.0", 0, 1e3, nullptr, "of matrices and embeddings; vectors do not decay"},
};

struct Lion : kumiki::optimizers::Instance {
  double beta1 = 0, beta2 = 0, weight_decay = 0;
};

km_status open(const km_host* host, const km_options* options, void** self) {
  return kumiki::optimizers::open_as<Lion>(host, self, [&](Lion& lion) -> km_status {
    lion.beta1 = km_option_f64(options, "beta1");
    lion.beta2 = km_option_f64(options, "beta2");
    lion.weight_decay = km_option_f64(options, "weight_decay");
    return KM_OK;
  });
}

void close(void* self) { delete static_cast<Lion*>(self); }

km_status update(void* self, km_graph* graph, km_value parameter, km_value gradient) {
  const Lion& lion = *static_cast<const Lion*>(self);
  const Update u(*lion.service, graph, parameter, gradient);
  const km_value g = u.gradient(), m = u.state("m");
  u.assign(m, u.mix(m, g, lion.beta2));
  u.descend(u.decayed(u.op("sign", {u.mix(m, g, lion.beta1)}), lion.weight_decay), u.scalar("learning_rate"));
  return KM_OK;
}

const km_optimizer kTable = {sizeof(km_optimizer), KM_UPDATE_ELEMENTWISE, open, close, update};
const km_component kComponents[] = {{"optimizer", "lion", KM_OPTIMIZER_VERSION, sizeof kOptions / sizeof *kOptions,
                                     &kTable, kOptions, "the sign of an interpolated momentum"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "lion", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace

KM_PLUGIN(kPlugin)
