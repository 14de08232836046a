/* norms.c: LayerNorm and RMSNorm over the last dimension, and the sums over rows and over all. */
#include <math.h>

#include "ops.h"

/* ---- sums -------------------------------------------------------------------------------------------------------- */

km_status check_sum_rows(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 1, 1, 1));
  const km_tensor* x = &op->inputs[0];
  REFERENCE_REQUIRE(x->dtype == KM_F32 && x->rank >= 1, "x must be f32 [..., N]");
  REFERENCE_REQUIRE(reference_is_vector(&op->outputs[0], reference_last(x)), "y must be f32 [N]");
  return KM_OK;
}

km_status run_sum_rows(const reference_call* c) {
  const float *x = c->in[0], *addend = reference_addend(c, 0);
  int64_t rows = reference_rows(&c->op->inputs[0]), n = reference_last(&c->op->inputs[0]);
  for (int64_t j = 0; j < n; ++j) {
    double sum = 0;
    for (int64_t r = 0; r < rows; ++r) sum += x[r * n + j];
    reference_put(c->out[0], addend, j, sum);
  }
  return KM_OK;
}

km_status check_sum_all(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 1, 1, 0));
  REFERENCE_REQUIRE(op->inputs[0].dtype == KM_F32 && reference_is(&op->outputs[0], KM_F32, 0),
                    "x and y must be f32, y []");
  return KM_OK;
}

static double sum_squares(const reference_call* c) {
  const float* x = c->in[0];
  double sum = 0;
  for (int64_t i = 0, n = km_elements(&c->op->inputs[0]); i < n; ++i) sum += (double)x[i] * x[i];
  return sum;
}

km_status run_sum_squares(const reference_call* c) {
  *(float*)c->out[0] = (float)sum_squares(c);
  return KM_OK;
}

km_status run_tensor_norm(const reference_call* c) {
  *(float*)c->out[0] = (float)sqrt(sum_squares(c));
  return KM_OK;
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

/* Is this tensor f32 and of the shape of x / of one vector / of one number for each row of x? */
static int is_like(const km_tensor* t, const km_tensor* x) { return t->dtype == KM_F32 && reference_same_dims(t, x); }
static int is_width(const km_tensor* t, const km_tensor* x) { return reference_is_vector(t, reference_last(x)); }
static int is_rows(const km_tensor* t, const km_tensor* x) { return t->dtype == KM_F32 && reference_is_rows_of(t, x); }

/* adds: 1 with a second operand b that is added first. mean: 1 for layernorm (bias, mean), 0 for rmsnorm. */
static km_status check_norm(const km_host* host, const km_op* op, km_support* support, uint32_t adds, uint32_t mean) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 2 + adds + mean, 2 + adds + mean, 0));
  const km_tensor* x = &op->inputs[0];
  REFERENCE_REQUIRE(x->dtype == KM_F32 && x->rank >= 1, "x must be f32 [..., N]");
  REFERENCE_REQUIRE(!adds || is_like(&op->inputs[1], x), "a and b differ");
  for (uint32_t i = 0; i < 1 + mean; ++i)
    REFERENCE_REQUIRE(is_width(&op->inputs[1 + adds + i], x), "weight and bias must be f32 [N]");
  for (uint32_t o = 0; o < 1 + adds; ++o) {
    REFERENCE_REQUIRE(is_like(&op->outputs[o], x), "y must be f32 of the shape of x");
    support->in_place[o] |= adds ? 3u : 1u;
  }
  for (uint32_t o = 1 + adds; o < op->n_outputs; ++o)
    REFERENCE_REQUIRE(is_rows(&op->outputs[o], x), "mean and rstd must be f32, one for each row");
  return KM_OK;
}

km_status check_layernorm(const km_host* host, const km_op* op, km_support* s) { return check_norm(host, op, s, 0, 1); }
km_status check_add_layernorm(const km_host* host, const km_op* op, km_support* s) {
  return check_norm(host, op, s, 1, 1);
}
km_status check_rmsnorm(const km_host* host, const km_op* op, km_support* s) { return check_norm(host, op, s, 0, 0); }
km_status check_add_rmsnorm(const km_host* host, const km_op* op, km_support* s) {
  return check_norm(host, op, s, 1, 0);
}

static void normalize_row(const float* x, const float* weight, const float* bias, int64_t n, double epsilon, float* y,
                          float* mean_out, float* rstd_out) {
  double mean = 0, squares = 0;
  if (mean_out) {
    for (int64_t j = 0; j < n; ++j) mean += x[j];
    mean /= (double)n;
    *mean_out = (float)mean;
  }
  for (int64_t j = 0; j < n; ++j) squares += (x[j] - mean) * (x[j] - mean);
  double rstd = 1 / sqrt(squares / (double)n + epsilon);
  for (int64_t j = 0; j < n; ++j) y[j] = (float)((x[j] - mean) * rstd * weight[j] + (bias ? bias[j] : 0.0f));
  *rstd_out = (float)rstd;
}

static km_status run_norm(const reference_call* c, int adds, int has_mean) {
  const float *a = c->in[0], *b = adds ? c->in[1] : NULL, *weight = c->in[1 + adds];
  const float* bias = has_mean ? c->in[2 + adds] : NULL;
  float *y = c->out[adds], *mean = has_mean ? c->out[1 + adds] : NULL, *rstd = c->out[1 + adds + has_mean];
  double epsilon = km_attribute_f64(c->op, "epsilon", 1e-5);
  int64_t rows = reference_rows(&c->op->inputs[0]), n = reference_last(&c->op->inputs[0]);
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = a + r * n;
    if (adds) {
      float* sum = (float*)c->out[0] + r * n;
      for (int64_t j = 0; j < n; ++j) sum[j] = a[r * n + j] + b[r * n + j];
      x = sum;
    }
    normalize_row(x, weight, bias, n, epsilon, y + r * n, mean ? mean + r : NULL, rstd + r);
  }
  return KM_OK;
}

km_status run_layernorm(const reference_call* c) { return run_norm(c, 0, 1); }
km_status run_add_layernorm(const reference_call* c) { return run_norm(c, 1, 1); }
km_status run_rmsnorm(const reference_call* c) { return run_norm(c, 0, 0); }
km_status run_add_rmsnorm(const reference_call* c) { return run_norm(c, 1, 0); }

/* ---- backward ---------------------------------------------------------------------------------------------------- */

static km_status check_backward(const km_host* host, const km_op* op, km_support* support, uint32_t mean) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 4 + mean, 1, 1));
  const km_tensor* x = &op->inputs[1];
  REFERENCE_REQUIRE(x->dtype == KM_F32 && x->rank >= 1, "x must be f32 [..., N]");
  REFERENCE_REQUIRE(is_like(&op->inputs[0], x) && is_like(&op->outputs[0], x), "dy, x and dx differ");
  REFERENCE_REQUIRE(is_width(&op->inputs[2], x), "weight must be f32 [N]");
  for (uint32_t i = 3; i < 4 + mean; ++i)
    REFERENCE_REQUIRE(is_rows(&op->inputs[i], x), "mean and rstd: one for each row");
  support->in_place[0] |= 3u;
  return KM_OK;
}

km_status check_layernorm_backward(const km_host* host, const km_op* op, km_support* s) {
  return check_backward(host, op, s, 1);
}
km_status check_rmsnorm_backward(const km_host* host, const km_op* op, km_support* s) {
  return check_backward(host, op, s, 0);
}

/* With g = dy · weight and h = (x − mean) · rstd: dx = rstd (g − average(g) − h · average(g h)); RMSNorm has no
 * average(g). */
static km_status run_backward(const reference_call* c, int has_mean) {
  const float *dy = c->in[0], *x = c->in[1], *weight = c->in[2], *addend = reference_addend(c, 0);
  const float *mean = has_mean ? c->in[3] : NULL, *rstd = c->in[3 + has_mean];
  int64_t rows = reference_rows(&c->op->inputs[1]), n = reference_last(&c->op->inputs[1]);
  for (int64_t r = 0; r < rows; ++r) {
    double m = mean ? mean[r] : 0, s = rstd[r], g_sum = 0, gh_sum = 0;
    for (int64_t j = r * n; j < (r + 1) * n; ++j) {
      double g = (double)dy[j] * weight[j - r * n];
      g_sum += g;
      gh_sum += g * (x[j] - m) * s;
    }
    if (!mean) g_sum = 0;
    for (int64_t j = r * n; j < (r + 1) * n; ++j) {
      double g = (double)dy[j] * weight[j - r * n], h = (x[j] - m) * s;
      reference_put(c->out[0], addend, j, s * (g - g_sum / (double)n - h * gh_sum / (double)n));
    }
  }
  return KM_OK;
}

km_status run_layernorm_backward(const reference_call* c) { return run_backward(c, 1); }
km_status run_rmsnorm_backward(const reference_call* c) { return run_backward(c, 0); }

static km_status check_backward_weight(const km_host* host, const km_op* op, km_support* support, uint32_t mean) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 3 + mean, 1 + mean, mean ? 3 : 1));
  const km_tensor* x = &op->inputs[1];
  REFERENCE_REQUIRE(x->dtype == KM_F32 && x->rank >= 1 && is_like(&op->inputs[0], x), "dy and x must be alike, f32");
  for (uint32_t i = 2; i < 3 + mean; ++i)
    REFERENCE_REQUIRE(is_rows(&op->inputs[i], x), "mean and rstd: one for each row");
  for (uint32_t o = 0; o < 1 + mean; ++o)
    REFERENCE_REQUIRE(is_width(&op->outputs[o], x), "d_weight and d_bias must be [N]");
  return KM_OK;
}

km_status check_layernorm_backward_weight(const km_host* host, const km_op* op, km_support* s) {
  return check_backward_weight(host, op, s, 1);
}
km_status check_rmsnorm_backward_weight(const km_host* host, const km_op* op, km_support* s) {
  return check_backward_weight(host, op, s, 0);
}

static km_status run_backward_weight(const reference_call* c, int has_mean) {
  const float *dy = c->in[0], *x = c->in[1], *mean = has_mean ? c->in[2] : NULL, *rstd = c->in[2 + has_mean];
  int64_t rows = reference_rows(&c->op->inputs[1]), n = reference_last(&c->op->inputs[1]);
  for (int64_t j = 0; j < n; ++j) {
    double weight = 0, bias = 0;
    for (int64_t r = 0; r < rows; ++r) {
      double d = dy[r * n + j];
      weight += d * (x[r * n + j] - (mean ? (double)mean[r] : 0.0)) * rstd[r];
      bias += d;
    }
    reference_put(c->out[0], reference_addend(c, 0), j, weight);
    if (has_mean) reference_put(c->out[1], reference_addend(c, 1), j, bias);
  }
  return KM_OK;
}

km_status run_layernorm_backward_weight(const reference_call* c) { return run_backward_weight(c, 1); }
km_status run_rmsnorm_backward_weight(const reference_call* c) { return run_backward_weight(c, 0); }
