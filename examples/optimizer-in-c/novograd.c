/* An optimizer from outside, in plain C: NovoGrad (Ginsburg et al. 2019), which keeps one second moment for a whole tensor
 * instead of one for each element, so that it needs half of Adam's memory:
 *   v = beta2 v + (1 - beta2) |g|^2, at the first step |g|^2;  m = beta1 m + g / (sqrt(v) + epsilon) + weight_decay p
 *   p = p - learning_rate m
 * An optimizer computes nothing itself: it adds ops of the vocabulary (docs/ops.md) to the graph, once, before the run. So
 * it runs on every device, and under every parallel strategy, that has these ops. */
#include "kumiki/optimizer.h"
#include "kumiki/plugin.h"

static const km_option options[] = {
    {"beta1", KM_OPTION_F64, 0, "0.95", 0, 0.9999999, NULL, "how much of the former direction stays"},
    {"beta2", KM_OPTION_F64, 0, "0.98", 0, 0.9999999, NULL, "decay of the mean of squared gradient norms"},
    {"epsilon", KM_OPTION_F64, 0, "1e-8", 0, 1, NULL, "added to the root of the mean of squares"},
    {"weight_decay", KM_OPTION_F64, 0, "0.001", 0, 1e3, NULL, "of matrices and embeddings; vectors do not decay"},
};

/* An instance. The host hands over the values of the options once, in open. */
typedef struct novograd {
  const km_host* host;
  const km_graph_service* service;
  double beta1, beta2, epsilon, weight_decay;
} novograd;

static km_status open_novograd(const km_host* host, const km_options* values, void** self) {
  const km_graph_service* service = host->service(host, KM_GRAPH_SERVICE);
  if (!service) return host->fail(host, KM_ERROR_HOST, "novograd: the host has no service %s", KM_GRAPH_SERVICE);
  novograd* n = host->allocate(host, sizeof *n, 16);
  if (!n) return host->fail(host, KM_ERROR_SYSTEM, "novograd: out of memory");
  *n = (novograd){host,
                  service,
                  km_option_f64(values, "beta1"),
                  km_option_f64(values, "beta2"),
                  km_option_f64(values, "epsilon"),
                  km_option_f64(values, "weight_decay")};
  *self = n;
  return KM_OK;
}

static void close_novograd(void* self) {
  const novograd* n = self;
  if (n) n->host->release(n->host, self);
}

/* Nodes with one, two or three inputs; the graph keeps the first error of all and fails the whole update with it. */
static km_value op1(const novograd* n, km_graph* g, const char* op, km_value a) {
  return n->service->add_node(g, op, &a, 1, NULL, 0, NULL);
}
static km_value op2(const novograd* n, km_graph* g, const char* op, km_value a, km_value b) {
  const km_value in[] = {a, b};
  return n->service->add_node(g, op, in, 2, NULL, 0, NULL);
}
static km_value op3(const novograd* n, km_graph* g, const char* op, km_value a, km_value b, km_value c) {
  const km_value in[] = {a, b, c};
  return n->service->add_node(g, op, in, 3, NULL, 0, NULL);
}
static km_value scale(const novograd* n, km_graph* g, km_value a, double factor) {
  const km_attribute attribute = km_f64("factor", factor);
  return n->service->add_node(g, "scale", &a, 1, &attribute, 1, NULL);
}

/* Called once for each parameter. The gradient is summed over tokens, micro-batches and ranks, and not yet scaled. */
static km_status update(void* self, km_graph* g, km_value parameter, km_value gradient) {
  const novograd* n = self;
  const km_graph_service* s = n->service;
  km_value_info info = {.struct_size = sizeof info};
  km_status status = s->value_info(g, parameter, &info);
  if (status != KM_OK) return status;
  const km_tensor whole = info.tensor, one = {.dtype = KM_F32};      /* rank 0: one element */
  const km_value m_before = s->add_state(g, parameter, "m", &whole); /* zero at the start, saved in checkpoints */
  const km_value v_before = s->add_state(g, parameter, "v", &one);

  const km_value mean_gradient = op2(n, g, "multiply", gradient, s->step_scalar(g, "gradient_scale"));
  const km_value square = op1(n, g, "square", op1(n, g, "tensor_norm", mean_gradient));
  const km_value mixed = op2(n, g, "add", scale(n, g, v_before, n->beta2), scale(n, g, square, 1 - n->beta2));
  const km_value is_later =
      op2(n, g, "subtract", s->step_scalar(g, "step"), s->constant(g, 1)); /* 0 at the first step */
  const km_value v = op3(n, g, "select", is_later, mixed, square);

  const km_value root = op2(n, g, "add", op1(n, g, "sqrt", v), s->constant(g, n->epsilon));
  km_value direction = op2(n, g, "divide", mean_gradient, root);
  if (info.decay) direction = op2(n, g, "add", direction, scale(n, g, parameter, n->weight_decay));
  const km_value m = op2(n, g, "add", scale(n, g, m_before, n->beta1), direction);
  const km_value step = op2(n, g, "multiply", m, s->step_scalar(g, "learning_rate"));

  s->assign(g, v_before, v);
  s->assign(g, m_before, m);
  return s->assign(g, parameter, op2(n, g, "subtract", parameter, step));
}

/* per_tensor: it reads a norm of the whole tensor, which strategies that cut tensors up must know. */
static const km_optimizer table = {sizeof table, KM_UPDATE_PER_TENSOR, open_novograd, close_novograd, update};
static const km_component components[] = {{"optimizer", "novograd", 1, sizeof options / sizeof *options, &table,
                                           options, "Adam with one second moment a tensor"}};
static const km_plugin plugin = {sizeof plugin,      KM_ABI_MINOR,      "novograd", "1.0", "you", "MIT", components, 1,
                                 sizeof *components, sizeof(km_option), 0};
KM_PLUGIN(plugin)
