/* adamw: Adam with decoupled weight decay (Loshchilov and Hutter 2019), as the one fused op of the vocabulary. Decay
 * applies to the parameters that the model marks for it. */
#include "kumiki/optimizer.h"
#include "kumiki/plugin.h"

static const km_option options[] = {
    {"beta1", KM_OPTION_F64, 0, "0.9", 0, 0.9999999, NULL, "decay of the mean of gradients"},
    {"beta2", KM_OPTION_F64, 0, "0.95", 0, 0.9999999, NULL, "decay of the mean of squared gradients"},
    {"epsilon", KM_OPTION_F64, 0, "1e-8", 0, 1, NULL, "added to the root of the mean of squares"},
    {"weight_decay", KM_OPTION_F64, 0, "0.1", 0, 1e3, NULL, "of matrices and embeddings; vectors do not decay"},
};

typedef struct adamw {
  const km_host* host;
  const km_graph_service* graph;
  double beta1, beta2, epsilon, weight_decay;
} adamw;

static km_status open_adamw(const km_host* host, const km_options* values, void** self) {
  const km_graph_service* graph = host->service(host, KM_GRAPH_SERVICE);
  if (!graph) return host->fail(host, KM_ERROR_HOST, "adamw: the host has no service %s", KM_GRAPH_SERVICE);
  adamw* a = host->allocate(host, sizeof *a, 16);
  if (!a) return host->fail(host, KM_ERROR_SYSTEM, "adamw: out of memory");
  a->host = host;
  a->graph = graph;
  a->beta1 = km_option_f64(values, "beta1");
  a->beta2 = km_option_f64(values, "beta2");
  a->epsilon = km_option_f64(values, "epsilon");
  a->weight_decay = km_option_f64(values, "weight_decay");
  *self = a;
  return KM_OK;
}

static void close_adamw(void* self) {
  if (self) ((adamw*)self)->host->release(((adamw*)self)->host, self);
}

static km_status update(void* self, km_graph* graph, km_value parameter, km_value gradient) {
  const adamw* a = self;
  const km_graph_service* s = a->graph;
  km_value_info info = {.struct_size = sizeof info};
  km_status status = s->value_info(graph, parameter, &info);
  if (status != KM_OK) return status;
  const km_tensor tensor = info.tensor;
  const km_value m = s->add_state(graph, parameter, "m", &tensor);
  const km_value v = s->add_state(graph, parameter, "v", &tensor);
  const km_value inputs[] = {parameter,
                             gradient,
                             m,
                             v,
                             s->step_scalar(graph, "learning_rate"),
                             s->step_scalar(graph, "step"),
                             s->step_scalar(graph, "gradient_scale"),
                             s->step_scalar(graph, "apply")};
  const km_attribute attributes[] = {km_f64("beta1", a->beta1), km_f64("beta2", a->beta2),
                                     km_f64("epsilon", a->epsilon),
                                     km_f64("weight_decay", info.decay ? a->weight_decay : 0.0)};
  km_value now[KM_MAX_OUTPUTS] = {0};
  s->add_node(graph, "adamw_update", inputs, 8, attributes, 4, now);
  if ((status = s->assign(graph, parameter, now[0])) != KM_OK) return status;
  if ((status = s->assign(graph, m, now[1])) != KM_OK) return status;
  return s->assign(graph, v, now[2]);
}

static const km_optimizer table = {sizeof(km_optimizer), KM_UPDATE_ELEMENTWISE, open_adamw, close_adamw, update};
static const km_component components[] = {{"optimizer", "adamw", KM_OPTIMIZER_VERSION, sizeof options / sizeof *options,
                                           &table, options, "Adam with decoupled weight decay"}};
static const km_plugin plugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "adamw", "0.1.0", "Kumiki", "Apache-2.0", components, 1,
    sizeof(km_component), sizeof(km_option), 0};
KM_PLUGIN(plugin)
