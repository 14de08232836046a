// muon: momentum made orthogonal by Newton–Schulz iterations (Jordan et al. 2024, "Muon: an optimizer for hidden
// layers in neural networks"):
//   ĝ = gradient_scale · g;  b ← μ b + (1 − μ) ĝ;  u = (1 − μ) ĝ + μ b if nesterov, else b;  X = u / (‖u‖ + 1e-7)
//   ns_steps times: A = X Xᵀ, X ← a X + (b A + c A²) X with (a, b, c) = (3.4445, −4.7750, 2.0315)
//   p ← p − learning_rate · (s · X + weight_decay · p),  s = √max(1, rows / columns), or 0.2 · √max(rows, columns)
// for matrices inside the layers. Embeddings, the head and vectors take AdamW at adam_rate · learning_rate.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <new>

#include "kumiki/optimizer.h"
#include "kumiki/plugin.h"

namespace {

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

struct Muon {
  const km_host* host;
  const km_graph_service* graph;
  double momentum, weight_decay, adam_rate, adam_beta1, adam_beta2, adam_epsilon;
  int64_t ns_steps;
  bool nesterov, rms;
};

km_status open(const km_host* host, const km_options* options, void** self) {
  Muon muon = {host,
               static_cast<const km_graph_service*>(host->service(host, KM_GRAPH_SERVICE)),
               km_option_f64(options, "momentum"),
               km_option_f64(options, "weight_decay"),
               km_option_f64(options, "adam_rate"),
               km_option_f64(options, "adam_beta1"),
               km_option_f64(options, "adam_beta2"),
               km_option_f64(options, "adam_epsilon"),
               km_option_i64(options, "ns_steps"),
               km_option_i64(options, "nesterov") != 0,
               km_same_text(km_option_string(options, "scale"), "rms") != 0};
  if (muon.graph == nullptr)
    return host->fail(host, KM_ERROR_HOST, "muon: the host has no service %s", KM_GRAPH_SERVICE);
  *self = new (std::nothrow) Muon(muon);
  return *self ? KM_OK : host->fail(host, KM_ERROR_SYSTEM, "muon: out of memory");
}

void close(void* self) { delete static_cast<Muon*>(self); }

// The update of one parameter.
class Update {
 public:
  Update(const Muon& muon, km_graph* graph, km_value parameter, const km_value_info& info, km_value gradient)
      : muon_(muon),
        s_(*muon.graph),
        graph_(graph),
        parameter_(parameter),
        gradient_(gradient),
        tensor_(info.tensor),
        decay_(info.decay ? muon.weight_decay : 0) {}

  km_status matrix() const {
    const km_value g = op("multiply", {gradient_, s_.step_scalar(graph_, "gradient_scale")});
    const km_value state = s_.add_state(graph_, parameter_, "momentum", &tensor_);
    const km_value b = op("add", {scaled(state, muon_.momentum), scaled(g, 1 - muon_.momentum)});
    const km_value u = muon_.nesterov ? op("add", {scaled(g, 1 - muon_.momentum), scaled(b, muon_.momentum)}) : b;
    const double rows = static_cast<double>(tensor_.dims[0]), columns = static_cast<double>(tensor_.dims[1]);
    const double size = muon_.rms ? 0.2 * std::sqrt(std::max(rows, columns)) : std::sqrt(std::max(1.0, rows / columns));
    km_value direction = scaled(orthogonal(u), size);
    if (decay_ > 0) direction = op("add", {direction, scaled(parameter_, decay_)});
    const km_value step = op("multiply", {direction, s_.step_scalar(graph_, "learning_rate")});
    if (km_status status = s_.assign(graph_, state, b); status != KM_OK) return status;
    return s_.assign(graph_, parameter_, op("subtract", {parameter_, step}));
  }

  km_status adamw() const {
    const km_value m = s_.add_state(graph_, parameter_, "m", &tensor_);
    const km_value v = s_.add_state(graph_, parameter_, "v", &tensor_);
    const km_value inputs[] = {parameter_,
                               gradient_,
                               m,
                               v,
                               scaled(s_.step_scalar(graph_, "learning_rate"), muon_.adam_rate),
                               s_.step_scalar(graph_, "step"),
                               s_.step_scalar(graph_, "gradient_scale"),
                               s_.step_scalar(graph_, "apply")};
    const km_attribute attributes[] = {km_f64("beta1", muon_.adam_beta1), km_f64("beta2", muon_.adam_beta2),
                                       km_f64("epsilon", muon_.adam_epsilon), km_f64("weight_decay", decay_)};
    km_value now[KM_MAX_OUTPUTS] = {};
    s_.add_node(graph_, "adamw_update", inputs, 8, attributes, 4, now);
    if (km_status status = s_.assign(graph_, parameter_, now[0]); status != KM_OK) return status;
    if (km_status status = s_.assign(graph_, m, now[1]); status != KM_OK) return status;
    return s_.assign(graph_, v, now[2]);
  }

 private:
  // The square products are made on the shorter side: X Xᵀ from the left, or Xᵀ X from the right, the same for Xᵀ.
  km_value orthogonal(km_value u) const {
    const bool wide = tensor_.dims[0] <= tensor_.dims[1];
    km_value x = op("divide", {u, op("add", {op("tensor_norm", {u}), s_.constant(graph_, 1e-7)})});
    for (int64_t i = 0; i < muon_.ns_steps; ++i) {
      const km_value a = op("matmul", {x, x}, {wide ? km_i64("transpose_b", 1) : km_i64("transpose_a", 1)});
      const km_value polynomial = op("add", {scaled(a, -4.7750), scaled(op("matmul", {a, a}), 2.0315)});
      x = op("add", {scaled(x, 3.4445), wide ? op("matmul", {polynomial, x}) : op("matmul", {x, polynomial})});
    }
    return x;
  }

  km_value op(const char* name, std::initializer_list<km_value> inputs,
              std::initializer_list<km_attribute> attributes = {}) const {
    return s_.add_node(graph_, name, inputs.begin(), static_cast<uint32_t>(inputs.size()), attributes.begin(),
                       static_cast<uint32_t>(attributes.size()), nullptr);
  }
  km_value scaled(km_value x, double factor) const { return op("scale", {x}, {km_f64("factor", factor)}); }

  const Muon& muon_;
  const km_graph_service& s_;
  km_graph* graph_;
  km_value parameter_, gradient_;
  km_tensor tensor_;
  double decay_;
};

km_status update(void* self, km_graph* graph, km_value parameter, km_value gradient) {
  const Muon& muon = *static_cast<const Muon*>(self);
  km_value_info info = {};
  info.struct_size = sizeof info;
  if (km_status status = muon.graph->value_info(graph, parameter, &info); status != KM_OK) return status;
  const bool hidden = info.tensor.rank == 2 && info.layer >= 0 && info.role != KM_ROLE_VOCABULARY;
  const Update update(muon, graph, parameter, info, gradient);
  return hidden ? update.matrix() : update.adamw();
}

const km_optimizer kTable = {sizeof(km_optimizer), KM_UPDATE_WHOLE_MATRIX, open, close, update};
const km_component kComponents[] = {{"optimizer", "muon", KM_OPTIMIZER_VERSION, sizeof kOptions / sizeof *kOptions,
                                     &kTable, kOptions, "orthogonal momentum for matrices, AdamW for the rest"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "muon", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace

KM_PLUGIN(kPlugin)
