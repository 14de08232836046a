/* elementwise.c: ops that compute each element from the elements at the same place. Any output may lie in the buffer of
 * an input of the same shape and type: all inputs of a place are read before an output is written there. */
#include <math.h>

#include "ops.h"

/* in_place of output o for the inputs 0 … n-1 of its type and shape. */
static void allow_in_place(const km_op* op, km_support* support, uint32_t o, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i)
    if (reference_same(&op->inputs[i], &op->outputs[o])) support->in_place[o] |= 1u << i;
}

/* ---- two operands ------------------------------------------------------------------------------------------------ */

static double add(double a, double b) { return a + b; }
static double subtract(double a, double b) { return a - b; }
static double multiply(double a, double b) { return a * b; }
static double divide(double a, double b) { return a / b; }
static double maximum(double a, double b) { return a > b ? a : b; }
static double minimum(double a, double b) { return a < b ? a : b; }

static const struct {
  const char* name;
  double (*f)(double, double);
} binary[] = {{"add", add},         {"subtract", subtract}, {"multiply", multiply}, {"divide", divide},
              {"maximum", maximum}, {"minimum", minimum},   {"power", pow}};

km_status check_binary(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 2, 1, 0));
  const km_tensor *a = &op->inputs[0], *b = &op->inputs[1], *y = &op->outputs[0];
  REFERENCE_REQUIRE(a->dtype == KM_F32 && b->dtype == KM_F32 && y->dtype == KM_F32, "only f32");
  REFERENCE_REQUIRE(reference_same_dims(a, b) || a->rank == 0 || b->rank == 0, "a and b differ in shape");
  REFERENCE_REQUIRE(reference_same_dims(y, a->rank ? a : b), "y has not the shape of a and b");
  allow_in_place(op, support, 0, 2);
  return KM_OK;
}

km_status run_binary(const reference_call* c) {
  uint32_t which = 0;
  while (!km_same_text(binary[which].name, c->op->name)) ++which;
  const float *a = c->in[0], *b = c->in[1];
  float* y = c->out[0];
  int64_t a_step = c->op->inputs[0].rank != 0, b_step = c->op->inputs[1].rank != 0;
  for (int64_t i = 0, n = km_elements(&c->op->outputs[0]); i < n; ++i)
    y[i] = (float)binary[which].f(a[i * a_step], b[i * b_step]);
  return KM_OK;
}

/* ---- one operand ------------------------------------------------------------------------------------------------- */

static double copy(double x) { return x; }
static double negate(double x) { return -x; }
static double square(double x) { return x * x; }
static double reciprocal(double x) { return 1 / x; }
static double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : x; }
double reference_gelu(double x) {
  return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}
double reference_silu(double x) { return x / (1 + exp(-x)); }

static const struct {
  const char* name;
  double (*f)(double);
} unary[] = {{"copy", copy},
             {"negate", negate},
             {"square", square},
             {"sqrt", sqrt},
             {"reciprocal", reciprocal},
             {"exp", exp},
             {"log", log},
             {"abs", fabs},
             {"sign", sign},
             {"tanh", tanh},
             {"gelu", reference_gelu},
             {"silu", reference_silu}};

km_status check_unary(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 1, 1, 0));
  REFERENCE_REQUIRE(op->inputs[0].dtype == KM_F32, "only f32");
  REFERENCE_REQUIRE(reference_same(&op->inputs[0], &op->outputs[0]), "y has not the type and shape of x");
  allow_in_place(op, support, 0, 1);
  return KM_OK;
}

km_status run_unary(const reference_call* c) {
  uint32_t which = 0;
  while (!km_same_text(unary[which].name, c->op->name)) ++which;
  const float* x = c->in[0];
  float* y = c->out[0];
  for (int64_t i = 0, n = km_elements(&c->op->outputs[0]); i < n; ++i) y[i] = (float)unary[which].f(x[i]);
  return KM_OK;
}

km_status run_scale(const reference_call* c) {
  double factor = km_attribute_f64(c->op, "factor", 1);
  const float* x = c->in[0];
  float* y = c->out[0];
  for (int64_t i = 0, n = km_elements(&c->op->outputs[0]); i < n; ++i) y[i] = (float)(factor * x[i]);
  return KM_OK;
}

km_status check_cast(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 1, 1, 0));
  REFERENCE_REQUIRE(reference_is_product_type(op->inputs[0].dtype) && reference_is_product_type(op->outputs[0].dtype),
                    "only f32 and bf16");
  REFERENCE_REQUIRE(reference_same_dims(&op->inputs[0], &op->outputs[0]), "y has not the shape of x");
  allow_in_place(op, support, 0, 1);
  return KM_OK;
}

km_status run_cast(const reference_call* c) {
  uint32_t from = c->op->inputs[0].dtype, to = c->op->outputs[0].dtype;
  for (int64_t i = 0, n = km_elements(&c->op->outputs[0]); i < n; ++i)
    reference_store(c->out[0], to, i, reference_load(c->in[0], from, i));
  return KM_OK;
}

/* ---- activations and their derivatives --------------------------------------------------------------------------- */

static double gelu_slope(double x) {
  double root = sqrt(2 / 3.14159265358979323846), t = tanh(root * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
}

static double silu_slope(double x) {
  double s = 1 / (1 + exp(-x));
  return s * (1 + x * (1 - s));
}

km_status check_activation_backward(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 2, 1, 1));
  REFERENCE_REQUIRE(op->inputs[1].dtype == KM_F32, "only f32");
  REFERENCE_REQUIRE(reference_same(&op->inputs[0], &op->inputs[1]) && reference_same(&op->inputs[1], &op->outputs[0]),
                    "dy, x and dx differ in type or shape");
  allow_in_place(op, support, 0, 2);
  return KM_OK;
}

km_status run_activation_backward(const reference_call* c) {
  double (*slope)(double) = km_same_text(c->op->name, "gelu_backward") ? gelu_slope : silu_slope;
  const float *dy = c->in[0], *x = c->in[1], *addend = reference_addend(c, 0);
  for (int64_t i = 0, n = km_elements(&c->op->outputs[0]); i < n; ++i)
    reference_put(c->out[0], addend, i, dy[i] * slope(x[i]));
  return KM_OK;
}

static km_status check_alike(const km_host* host, const km_op* op, km_support* support, uint32_t inputs,
                             uint32_t outputs) {
  REFERENCE_TRY(reference_check_counts(host, op, support, inputs, outputs, 0));
  REFERENCE_REQUIRE(op->inputs[0].dtype == KM_F32, "only f32");
  for (uint32_t i = 1; i < inputs; ++i)
    REFERENCE_REQUIRE(reference_same(&op->inputs[0], &op->inputs[i]), "the inputs differ in type or shape");
  for (uint32_t o = 0; o < outputs; ++o) {
    REFERENCE_REQUIRE(reference_same(&op->inputs[0], &op->outputs[o]), "an output has not the shape of the inputs");
    allow_in_place(op, support, o, inputs);
  }
  return KM_OK;
}

km_status check_swiglu(const km_host* host, const km_op* op, km_support* s) { return check_alike(host, op, s, 2, 1); }
km_status check_swiglu_backward(const km_host* host, const km_op* op, km_support* s) {
  return check_alike(host, op, s, 3, 2);
}

km_status run_swiglu(const reference_call* c) {
  const float *gate = c->in[0], *up = c->in[1];
  float* y = c->out[0];
  for (int64_t i = 0, n = km_elements(&c->op->outputs[0]); i < n; ++i) y[i] = (float)(reference_silu(gate[i]) * up[i]);
  return KM_OK;
}

km_status run_swiglu_backward(const reference_call* c) {
  const float *dy = c->in[0], *gate = c->in[1], *up = c->in[2];
  float *d_gate = c->out[0], *d_up = c->out[1];
  for (int64_t i = 0, n = km_elements(&c->op->outputs[0]); i < n; ++i) {
    double to_gate = (double)dy[i] * up[i] * silu_slope(gate[i]), to_up = dy[i] * reference_silu(gate[i]);
    d_gate[i] = (float)to_gate;
    d_up[i] = (float)to_up;
  }
  return KM_OK;
}

/* ---- the others -------------------------------------------------------------------------------------------------- */

km_status check_select(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 3, 1, 0));
  const km_tensor *condition = &op->inputs[0], *a = &op->inputs[1];
  REFERENCE_REQUIRE(condition->dtype == KM_F32 && a->dtype == KM_F32, "only f32");
  REFERENCE_REQUIRE(condition->rank == 0 || reference_same_dims(condition, a),
                    "c has neither rank 0 nor the shape of a");
  REFERENCE_REQUIRE(reference_same(a, &op->inputs[2]) && reference_same(a, &op->outputs[0]), "a, b and y differ");
  allow_in_place(op, support, 0, 3);
  return KM_OK;
}

km_status run_select(const reference_call* c) {
  const float *condition = c->in[0], *a = c->in[1], *b = c->in[2];
  float* y = c->out[0];
  int64_t step = c->op->inputs[0].rank != 0;
  for (int64_t i = 0, n = km_elements(&c->op->outputs[0]); i < n; ++i) y[i] = condition[i * step] != 0 ? a[i] : b[i];
  return KM_OK;
}

km_status check_bias_add(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 2, 1, 0));
  const km_tensor* x = &op->inputs[0];
  REFERENCE_REQUIRE(x->dtype == KM_F32 && x->rank >= 1 && reference_same(x, &op->outputs[0]),
                    "x and y must be alike, f32");
  REFERENCE_REQUIRE(reference_is_vector(&op->inputs[1], reference_last(x)), "bias must be f32 [N]");
  allow_in_place(op, support, 0, 1);
  return KM_OK;
}

km_status run_bias_add(const reference_call* c) {
  const float *x = c->in[0], *bias = c->in[1];
  float* y = c->out[0];
  int64_t width = reference_last(&c->op->inputs[0]);
  for (int64_t i = 0, n = km_elements(&c->op->outputs[0]); i < n; ++i) y[i] = (float)((double)x[i] + bias[i % width]);
  return KM_OK;
}
