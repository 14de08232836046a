/* update.c: the factor of all gradients, and AdamW. */
#include <math.h>

#include "ops.h"

static int all_scalars(const km_tensor* t, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i)
    if (!reference_is(&t[i], KM_F32, 0)) return 0;
  return 1;
}

km_status check_gradient_scale(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 3, 3, 0));
  REFERENCE_REQUIRE(all_scalars(op->inputs, 3) && all_scalars(op->outputs, 3), "all inputs and outputs must be f32 []");
  return KM_OK;
}

km_status run_gradient_scale(const reference_call* c) {
  double sum_squares = *(const float*)c->in[0], tokens = *(const float*)c->in[1], loss_scale = *(const float*)c->in[2];
  double clip = km_attribute_f64(c->op, "clip", 0), unit = 1 / (tokens * loss_scale), norm = unit * sqrt(sum_squares);
  double factor = clip != 0 && clip / (norm + 1e-6) < 1 ? clip / (norm + 1e-6) : 1;
  float norm_out = (float)norm;
  int apply = isfinite(norm_out);
  *(float*)c->out[0] = apply ? (float)(unit * factor) : 0.0f;
  *(float*)c->out[1] = norm_out;
  *(float*)c->out[2] = apply ? 1.0f : 0.0f;
  return KM_OK;
}

km_status check_adamw_update(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 8, 3, 0));
  const km_tensor* p = &op->inputs[0];
  REFERENCE_REQUIRE(p->dtype == KM_F32, "only f32");
  for (uint32_t i = 1; i < 4; ++i) REFERENCE_REQUIRE(reference_same(p, &op->inputs[i]), "p, g, m and v differ");
  for (uint32_t o = 0; o < 3; ++o) REFERENCE_REQUIRE(reference_same(p, &op->outputs[o]), "p', m' and v' must be as p");
  REFERENCE_REQUIRE(all_scalars(op->inputs + 4, 4), "learning_rate, step, gradient_scale and apply must be f32 []");
  support->in_place[0] = 1u << 0;
  support->in_place[1] = 1u << 2;
  support->in_place[2] = 1u << 3;
  return KM_OK;
}

km_status run_adamw_update(const reference_call* c) {
  const float *p = c->in[0], *g = c->in[1], *m = c->in[2], *v = c->in[3];
  float *p_new = c->out[0], *m_new = c->out[1], *v_new = c->out[2];
  double learning_rate = *(const float*)c->in[4], step = *(const float*)c->in[5],
         gradient_scale = *(const float*)c->in[6];
  int apply = *(const float*)c->in[7] != 0;
  double beta1 = km_attribute_f64(c->op, "beta1", 0.9), beta2 = km_attribute_f64(c->op, "beta2", 0.999);
  double epsilon = km_attribute_f64(c->op, "epsilon", 1e-8), weight_decay = km_attribute_f64(c->op, "weight_decay", 0);
  double m_unbias = 1 - pow(beta1, step), v_unbias = 1 - pow(beta2, step);
  for (int64_t i = 0, n = km_elements(&c->op->inputs[0]); i < n; ++i) {
    double gradient = gradient_scale * g[i];
    double m_next = beta1 * m[i] + (1 - beta1) * gradient, v_next = beta2 * v[i] + (1 - beta2) * gradient * gradient;
    double p_next =
        p[i] - learning_rate * (m_next / m_unbias / (sqrt(v_next / v_unbias) + epsilon) + weight_decay * p[i]);
    p_new[i] = apply ? (float)p_next : p[i];
    m_new[i] = apply ? (float)m_next : m[i];
    v_new[i] = apply ? (float)v_next : v[i];
  }
  return KM_OK;
}
