/* A kernels component from outside, in plain C. It brings
 *   example.bias_gelu   gelu(x + bias) in one pass over memory: an op that kumiki does not know, with its derivative,
 *   layernorm           a kernel for an op that it does know; the gradients of layernorm are left to the chain's others.
 * README.md goes through this file from top to bottom. */
#include <math.h>

#include "kumiki/kernels.h"
#include "kumiki/parallel_for.h"
#include "kumiki/plugin.h"
#include "kumiki/rewrite.h"

/* ---- 1. what the new ops are: shapes and derivative ---- */
enum { BIAS_GELU, BIAS_GELU_BACKWARD, LAYERNORM, OPS };
static const char* const names[OPS] = {"example.bias_gelu", "example.bias_gelu_backward", "layernorm"};
static const uint32_t n_inputs[OPS] = {2, 3, 3};  /* x, bias; d_y, x, bias; x, weight, bias */
static const uint32_t n_outputs[OPS] = {1, 1, 3}; /* y; d_x; y, mean, rstd */

static int find_op(const char* name) {
  int i = 0;
  while (i < OPS && !km_same_text(name, names[i])) ++i;
  return i;
}
static uint32_t knows(void* self, const char* op) { return find_op(op) < LAYERNORM; }

static km_status shape(void* self, const km_host* host, const km_op* op, km_tensor* outputs, uint32_t* count) {
  const km_tensor *x = &op->inputs[0], *bias = &op->inputs[op->n_inputs - 1]; /* d_y has the shape of x */
  if (op->n_inputs != n_inputs[find_op(op->name)] || x->rank == 0 || x->dims[x->rank - 1] != km_elements(bias))
    return host->fail(host, KM_ERROR_USER, "%s: takes x [..., N] and bias [N]", op->name);
  outputs[0] = *x;
  *count = 1;
  return KM_OK;
}

/* d_x = d_y gelu'(x + bias); d_bias is its sum over rows, an op that everybody has. */
static km_status derivative(void* self, const km_host* host, km_graph* graph, km_node node, uint32_t input,
                            const km_value* output_gradients, km_value* gradient) {
  const km_graph_service* g = host->service(host, KM_GRAPH_SERVICE);
  km_node_info info = {.struct_size = sizeof info};
  if (g->node_info(graph, node, &info) != KM_OK) return KM_ERROR_PLUGIN;
  const km_value in[] = {output_gradients[0], info.inputs[0], info.inputs[1]};
  const km_value d_x = g->add_node(graph, names[BIAS_GELU_BACKWARD], in, 3, NULL, 0, NULL);
  *gradient = input == 0 ? d_x : g->add_node(graph, "sum_rows", &d_x, 1, NULL, 0, NULL);
  return KM_OK;
}
static const km_op_rules rules = {sizeof rules, 0, knows, shape, derivative, km_place_elements};

/* ---- 2. where they go: each gelu(bias_add(x, bias)) whose sum nobody else reads ---- */
static km_status rewrite_forward(void* self, const km_host* host, km_graph* graph) {
  const km_graph_service* g = host->service(host, KM_GRAPH_SERVICE);
  for (km_node node = g->next_node(graph, 0), next; node; node = next) {
    next = g->next_node(graph, node);
    km_node_info gelu = {.struct_size = sizeof gelu}, add = {.struct_size = sizeof add};
    km_value_info sum = {.struct_size = sizeof sum};
    if (g->node_info(graph, node, &gelu) != KM_OK || !km_same_text(gelu.op, "gelu")) continue;
    const km_value y = gelu.outputs[0], u = gelu.inputs[0];
    if (g->value_info(graph, u, &sum) != KM_OK || !sum.producer || g->users(graph, u, NULL, 0) != 1) continue;
    if (g->node_info(graph, sum.producer, &add) != KM_OK || !km_same_text(add.op, "bias_add")) continue;
    const km_value in[] = {add.inputs[0], add.inputs[1]};
    g->before(graph, node);
    g->replace_uses(graph, y, g->add_node(graph, names[BIAS_GELU], in, 2, NULL, 0, NULL), 0);
    g->erase(graph, node);
    g->erase(graph, sum.producer);
  }
  return KM_OK;
}
static const km_rewrite rewrite = {sizeof rewrite, 0, rewrite_forward, NULL};

/* ---- 3. how they are computed: one row, then all of them over the threads that the core owns ---- */
struct km_kernel {
  int op;
  int64_t rows, width;
  double epsilon;
  const km_address* buffers; /* of the run that goes on: the inputs in order, then the outputs */
};

static void layernorm_row(const float* x, const float* weight, const float* bias, float* y, float* mean_out,
                          float* rstd_out, int64_t n, double epsilon) {
  double mean = 0, variance = 0;
  for (int64_t i = 0; i < n; ++i) mean += x[i] / (double)n;
  for (int64_t i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean) / (double)n;
  const double rstd = 1 / sqrt(variance + epsilon);
  for (int64_t i = 0; i < n; ++i) y[i] = (float)((x[i] - mean) * rstd * weight[i] + bias[i]);
  *mean_out = (float)mean, *rstd_out = (float)rstd;
}

/* y = gelu(x + bias), or with d_y: y = d_y gelu'(x + bias). */
static void bias_gelu_row(const float* d_y, const float* x, const float* bias, float* y, int64_t n) {
  const double c = 0.7978845608028654; /* sqrt(2 / pi) */
  for (int64_t i = 0; i < n; ++i) {
    const double u = x[i] + bias[i], t = tanh(c * (u + 0.044715 * u * u * u));
    const double slope = 0.5 * (1 + t) + 0.5 * u * (1 - t * t) * c * (1 + 3 * 0.044715 * u * u);
    y[i] = (float)(d_y ? d_y[i] * slope : 0.5 * u * (1 + t));
  }
}

static void run_row(void* context, uint32_t row, uint32_t worker) {
  const km_kernel* k = context;
  const int64_t n = k->width, at = row * n;
  float* b[6] = {0};
  for (uint32_t i = 0; i < n_inputs[k->op] + n_outputs[k->op]; ++i) b[i] = (float*)(uintptr_t)k->buffers[i];
  if (k->op == BIAS_GELU) bias_gelu_row(NULL, b[0] + at, b[1], b[2] + at, n);
  if (k->op == BIAS_GELU_BACKWARD) bias_gelu_row(b[0] + at, b[1] + at, b[2], b[3] + at, n);
  if (k->op == LAYERNORM) layernorm_row(b[0] + at, b[1], b[2], b[3] + at, b[4] + row, b[5] + row, n, k->epsilon);
}

static km_status run(void* self, km_kernel* kernel, const km_address* buffers, km_address workspace, km_queue* queue) {
  const km_parallel* pool = ((const km_host*)self)->service(self, KM_PARALLEL_SERVICE);
  kernel->buffers = buffers;
  pool->run(self, (uint32_t)kernel->rows, run_row, kernel);
  return KM_OK;
}

/* Which ops with which types: "no" is no error, the chain asks the next component. */
static km_status query(void* self, const km_request* request, km_support* support) {
  const km_op* op = request->op;
  const int which = find_op(op->name);
  if (which == OPS || op->n_inputs != n_inputs[which] || op->inputs[0].dtype != KM_F32) return KM_UNSUPPORTED;
  support->in_place[0] = which != LAYERNORM; /* bit 0: the output may lie in the buffer of input 0 */
  return KM_OK;
}

static km_status create(void* self, const km_request* request, km_kernel** kernel) {
  const km_host* host = self;
  const km_tensor* x = &request->op->inputs[0];
  const int64_t n = x->dims[x->rank - 1];
  const double epsilon = km_attribute_f64(request->op, "epsilon", 1e-5);
  *kernel = host->allocate(host, sizeof **kernel, 16);
  if (!*kernel) return host->fail(host, KM_ERROR_SYSTEM, "example: out of memory");
  **kernel = (km_kernel){find_op(request->op->name), km_elements(x) / n, n, epsilon, NULL};
  return KM_OK;
}
static void destroy(void* self, km_kernel* kernel) { ((const km_host*)self)->release(self, kernel); }

/* ---- 4. the component: an instance keeps nothing but the host ---- */
static km_status open_example(const km_host* host, const km_options* options, void** self) {
  *self = (void*)(uintptr_t)host;
  return KM_OK;
}
static void close_example(void* self) {}
static const void* ability(void* self, const char* id) {
  if (km_same_text(id, KM_REWRITE_ABILITY)) return &rewrite;
  return km_same_text(id, KM_OP_ABILITY) ? &rules : NULL;
}
static const km_kernels table = {sizeof table, 0,       open_example, close_example, query,
                                 create,       destroy, NULL,         run,           ability};
static const km_component components[] = {{"kernels", "example", 1, 0, &table, NULL, "bias and GELU in one pass"}};
static const km_plugin plugin = {sizeof plugin,      KM_ABI_MINOR,      "example", "1.0", "you", "MIT", components, 1,
                                 sizeof *components, sizeof(km_option), 0};
KM_PLUGIN(plugin)
