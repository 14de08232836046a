// lamb: Adam's direction scaled by the norm of each tensor, for large batches (You et al. 2020, algorithm 2, φ(z) = z):
//   ĝ = gradient_scale · g;  m ← β₁ m + (1 − β₁) ĝ;  v ← β₂ v + (1 − β₂) ĝ²
//   r = m/(1 − β₁ˢ) / (√(v/(1 − β₂ˢ)) + ε) + weight_decay · p;  p ← p − learning_rate · ‖p‖/‖r‖ · r
// Where either norm is 0 the ratio is 1. As in the authors' code, tensors without weight decay (vectors) keep ratio 1.
#include "kumiki/plugin.h"
#include "plugins/optimizers/standard/update.h"

namespace {

using kumiki::optimizers::Update;

const km_option kOptions[] = {
    {"beta1", KM_OPTION_F64, 0, "0.9", 0, 0.9999999, nullptr, "decay of the mean of gradients"},
    {"beta2", KM_OPTION_F64, 0, "0.999", 0, 0.9999999, nullptr, "decay of the mean of squared gradients"},
    {"epsilon", KM_OPTION_F64, 0, "1e-6", 0, 1, nullptr, "added to the root of the mean of squares"},
    {"weight_decay", KM_OPTION_F64, 0, "0.01", 0, 1e3, nullptr, "of matrices and embeddings; vectors do not decay"},
    {"ratio_maximum", KM_OPTION_F64, 0, "0.0", 0, 1e6, nullptr, "limit of the ratio of norms; 0 = none"},
};

struct Lamb : kumiki::optimizers::Instance {
  double beta1 = 0, beta2 = 0, epsilon = 0, weight_decay = 0, ratio_maximum = 0;
};

km_status open(const km_host* host, const km_options* options, void** self) {
  return kumiki::optimizers::open_as<Lamb>(host, self, [&](Lamb& lamb) -> km_status {
    lamb.beta1 = km_option_f64(options, "beta1");
    lamb.beta2 = km_option_f64(options, "beta2");
    lamb.epsilon = km_option_f64(options, "epsilon");
    lamb.weight_decay = km_option_f64(options, "weight_decay");
    lamb.ratio_maximum = km_option_f64(options, "ratio_maximum");
    return KM_OK;
  });
}

void close(void* self) { delete static_cast<Lamb*>(self); }

// ‖p‖ / ‖r‖, or 1 where either is 0.
km_value trust_ratio(const Lamb& lamb, const Update& u, km_value r) {
  const km_value p_norm = u.op("tensor_norm", {u.parameter()}), r_norm = u.op("tensor_norm", {r}), one = u.constant(1);
  const km_value quotient = u.op("select", {r_norm, u.op("divide", {p_norm, r_norm}), one});
  const km_value ratio = u.op("select", {p_norm, quotient, one});
  return lamb.ratio_maximum > 0 ? u.op("minimum", {ratio, u.constant(lamb.ratio_maximum)}) : ratio;
}

km_status update(void* self, km_graph* graph, km_value parameter, km_value gradient) {
  const Lamb& lamb = *static_cast<const Lamb*>(self);
  const Update u(*lamb.service, graph, parameter, gradient);
  const km_value g = u.gradient(), m_state = u.state("m"), v_state = u.state("v");
  const km_value m = u.mix(m_state, g, lamb.beta1), v = u.mix(v_state, u.op("square", {g}), lamb.beta2);
  auto unbiased = [&](km_value mean, double beta) {
    const km_value weight = u.op("power", {u.constant(beta), u.scalar("step")});
    return u.op("divide", {mean, u.op("subtract", {u.constant(1), weight})});
  };
  const km_value root = u.op("add", {u.op("sqrt", {unbiased(v, lamb.beta2)}), u.constant(lamb.epsilon)});
  const km_value r = u.decayed(u.op("divide", {unbiased(m, lamb.beta1), root}), lamb.weight_decay);
  const km_value rate = u.scalar("learning_rate");
  u.assign(m_state, m);
  u.assign(v_state, v);
  u.descend(r, u.info().decay ? u.op("multiply", {rate, trust_ratio(lamb, u, r)}) : rate);
  return KM_OK;
}

const km_optimizer kTable = {sizeof(km_optimizer), KM_UPDATE_PER_TENSOR, open, close, update};
const km_component kComponents[] = {{"optimizer", "lamb", KM_OPTIMIZER_VERSION, sizeof kOptions / sizeof *kOptions,
                                     &kTable, kOptions, "Adam scaled by the norms of tensors, for large batches"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "lamb", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace

KM_PLUGIN(kPlugin)
