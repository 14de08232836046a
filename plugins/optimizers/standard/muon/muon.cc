// muon: momentum made orthogonal by Newton–Schulz iterations (Jordan et al. 2024, "Muon: an optimizer for hidden
// layers in neural networks"):
//   ĝ = gradient_scale · g;  b ← μ b + (1 − μ) ĝ;  u = (1 − μ) ĝ + μ b if nesterov, else b;  X = u / (‖u‖ + 1e-7)
//   ns_steps times: A = X Xᵀ, X ← a X + (b A + c A²) X with (a, b, c) = (3.4445, −4.7750, 2.0315)
//   p ← p − learning_rate · (s · X + weight_decay · p),  s = √max(1, rows / columns), or 0.2 · √max(rows, columns)
// for matrices inside the layers. Embeddings, the head and vectors take AdamW at adam_rate · learning_rate.
#include <algorithm>
#include <cmath>

#include "kumiki/plugin.h"
#include "plugins/optimizers/standard/update.h"

namespace {

using kumiki::optimizers::Update;

const km_option kOptions[] = {
    {"momentum", KM_OPTION_F64, 0, "0.95", 0, 0.9999999, nullptr, "decay of the mean of gradients of matrices"},
    {"nesterov", KM_OPTION_BOOL, 0, "true", 0, 0, nullptr, "look ahead along the momentum"},
    {"ns_steps", KM_OPTION_I64, 0, "5", 1, 20, nullptr, "Newton-Schulz iterations"},
    {"scale", KM_OPTION_STRING, 0, "shape", 0, 0, "shape|rms",
     "size of a matrix's update: shape = Jordan's, for rates such as 0.02; rms = Liu et al. 2025, for AdamW's rates"},
    {"weight_decay", KM_OPTION_F64, 0, "0.0", 0, 1e3, nullptr, "of matrices and embeddings; vectors do not decay"},
    {"adam_rate", KM_OPTION_F64, 0, "0.015", 0, 1e3, nullptr,
     "AdamW's part of learning_rate; 1.0 goes with scale = rms"},
    {"adam_beta1", KM_OPTION_F64, 0, "0.9", 0, 0.9999999, nullptr, "of AdamW: decay of the mean of gradients"},
    {"adam_beta2", KM_OPTION_F64, 0, "0.95", 0, 0.9999999, nullptr, "of AdamW: decay of the mean of squared gradients"},
    {"adam_epsilon", KM_OPTION_F64, 0, "1e-8", 0, 1, nullptr, "of AdamW: added to the root of the mean of squares"},
};

struct Muon : kumiki::optimizers::Instance {
  double momentum = 0, weight_decay = 0, adam_rate = 0, adam_beta1 = 0, adam_beta2 = 0, adam_epsilon = 0;
  int64_t ns_steps = 0;
  bool nesterov = false, rms = false;
};

km_status open(const km_host* host, const km_options* options, void** self) {
  return kumiki::optimizers::open_as<Muon>(host, self, [&](Muon& muon) -> km_status {
    muon.momentum = km_option_f64(options, "momentum");
    muon.weight_decay = km_option_f64(options, "weight_decay");
    muon.adam_rate = km_option_f64(options, "adam_rate");
    muon.adam_beta1 = km_option_f64(options, "adam_beta1");
    muon.adam_beta2 = km_option_f64(options, "adam_beta2");
    muon.adam_epsilon = km_option_f64(options, "adam_epsilon");
    muon.ns_steps = km_option_i64(options, "ns_steps");
    muon.nesterov = km_option_i64(options, "nesterov") != 0;
    muon.rms = km_same_text(km_option_string(options, "scale"), "rms") != 0;
    return KM_OK;
  });
}

void close(void* self) { delete static_cast<Muon*>(self); }

// Newton–Schulz. The square products are made on the shorter side: X Xᵀ from the left, or Xᵀ X from the right, which is
// the same for Xᵀ.
km_value orthogonal(const Muon& muon, const Update& u, km_value direction) {
  const bool wide = u.info().tensor.dims[0] <= u.info().tensor.dims[1];
  const km_attribute transposed = km_i64(wide ? "transpose_b" : "transpose_a", 1);
  km_value x = u.op("divide", {direction, u.op("add", {u.op("tensor_norm", {direction}), u.constant(1e-7)})});
  for (int64_t i = 0; i < muon.ns_steps; ++i) {
    const km_value a = u.op("matmul", {x, x}, {transposed});
    const km_value polynomial = u.op("add", {u.scaled(a, -4.7750), u.scaled(u.op("matmul", {a, a}), 2.0315)});
    const km_value product = wide ? u.op("matmul", {polynomial, x}) : u.op("matmul", {x, polynomial});
    x = u.op("add", {u.scaled(x, 3.4445), product});
  }
  return x;
}

void update_matrix(const Muon& muon, const Update& u) {
  const km_value g = u.gradient(), state = u.state("momentum");
  const km_value b = u.mix(state, g, muon.momentum);
  const km_value x = orthogonal(muon, u, muon.nesterov ? u.mix(b, g, muon.momentum) : b);
  const double rows = static_cast<double>(u.info().tensor.dims[0]);
  const double columns = static_cast<double>(u.info().tensor.dims[1]);
  const double size = muon.rms ? 0.2 * std::sqrt(std::max(rows, columns)) : std::sqrt(std::max(1.0, rows / columns));
  u.assign(state, b);
  u.descend(u.decayed(u.scaled(x, size), muon.weight_decay), u.scalar("learning_rate"));
}

void update_by_adamw(const Muon& muon, const Update& u) {
  const km_value m = u.state("m"), v = u.state("v");
  const km_value rate = u.scaled(u.scalar("learning_rate"), muon.adam_rate);
  km_value now[KM_MAX_OUTPUTS] = {};
  u.op("adamw_update",
       {u.parameter(), u.raw_gradient(), m, v, rate, u.scalar("step"), u.scalar("gradient_scale"), u.scalar("apply")},
       {km_f64("beta1", muon.adam_beta1), km_f64("beta2", muon.adam_beta2), km_f64("epsilon", muon.adam_epsilon),
        km_f64("weight_decay", u.info().decay ? muon.weight_decay : 0)},
       now);
  u.assign(u.parameter(), now[0]);
  u.assign(m, now[1]);
  u.assign(v, now[2]);
}

km_status update(void* self, km_graph* graph, km_value parameter, km_value gradient) {
  const Muon& muon = *static_cast<const Muon*>(self);
  const Update u(*muon.service, graph, parameter, gradient);
  const bool hidden = u.info().tensor.rank == 2 && u.info().layer >= 0 && u.info().role != KM_ROLE_VOCABULARY;
  hidden ? update_matrix(muon, u) : update_by_adamw(muon, u);
  return KM_OK;
}

const km_optimizer kTable = {sizeof(km_optimizer), KM_UPDATE_WHOLE_MATRIX, open, close, update};
const km_component kComponents[] = {{"optimizer", "muon", KM_OPTIMIZER_VERSION, sizeof kOptions / sizeof *kOptions,
                                     &kTable, kOptions, "orthogonal momentum for matrices, AdamW for the rest"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "muon", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace

KM_PLUGIN(kPlugin)
