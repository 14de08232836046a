/* loss_parts.c: cross entropy where the vocabulary is divided over ranks: what each makes of its own columns of the
 * logits, and the loss from what all of them made. */
#include <math.h>

#include "ops.h"

/* logits f32 [..., V], then at i = 1 targets i32 [...], then numbers f32 [...] up to input `end`. */
static km_status check_rows(const km_host* host, const km_op* op, uint32_t end) {
  const km_tensor* logits = &op->inputs[0];
  REFERENCE_REQUIRE(logits->dtype == KM_F32 && logits->rank >= 1, "logits must be f32 [..., V]");
  for (uint32_t i = 1; i < end; ++i)
    REFERENCE_REQUIRE(op->inputs[i].dtype == (i == 1 ? KM_I32 : KM_F32) && reference_is_rows_of(&op->inputs[i], logits),
                      "targets must be i32 [...], what belongs to the rows f32 [...]");
  return KM_OK;
}

km_status check_row_max(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 1, 1, 0));
  REFERENCE_TRY(check_rows(host, op, 1));
  REFERENCE_REQUIRE(op->outputs[0].dtype == KM_F32 && reference_is_rows_of(&op->outputs[0], &op->inputs[0]),
                    "the maximum must be f32 [...]");
  return KM_OK;
}

km_status run_row_max(const reference_call* c) {
  const float* logits = c->in[0];
  int64_t rows = reference_rows(&c->op->inputs[0]), n = reference_last(&c->op->inputs[0]);
  for (int64_t r = 0; r < rows; ++r) {
    float largest = logits[r * n];
    for (int64_t i = 1; i < n; ++i) largest = logits[r * n + i] > largest ? logits[r * n + i] : largest;
    ((float*)c->out[0])[r] = largest;
  }
  return KM_OK;
}

km_status check_row_exp_pick(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 3, 2, 0));
  REFERENCE_TRY(check_rows(host, op, 3));
  for (uint32_t o = 0; o < 2; ++o)
    REFERENCE_REQUIRE(reference_same(&op->outputs[o], &op->inputs[2]), "sum_exp and picked must be f32 [...]");
  return KM_OK;
}

km_status run_row_exp_pick(const reference_call* c) {
  const float *logits = c->in[0], *maximum = c->in[2];
  const int32_t* targets = c->in[1];
  float *sum_exp = c->out[0], *picked = c->out[1];
  int64_t rows = reference_rows(&c->op->inputs[0]), n = reference_last(&c->op->inputs[0]);
  int64_t offset = km_attribute_i64(c->op, "offset", 0);
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += exp((double)logits[r * n + i] - maximum[r]);
    int64_t target = targets[r] - offset;
    sum_exp[r] = (float)sum;
    picked[r] = target >= 0 && target < n ? logits[r * n + target] : 0.0f;
  }
  return KM_OK;
}

km_status check_cross_entropy_parts(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 5, 2, 0));
  REFERENCE_TRY(check_rows(host, op, 5));
  REFERENCE_REQUIRE(reference_is(&op->outputs[0], KM_F32, 0) && reference_is(&op->outputs[1], KM_F32, 0),
                    "loss and tokens must be f32 []");
  return KM_OK;
}

km_status run_cross_entropy_parts(const reference_call* c) {
  const int32_t* targets = c->in[1];
  const float *maximum = c->in[2], *sum_exp = c->in[3], *picked = c->in[4];
  double loss = 0, tokens = 0;
  for (int64_t r = 0, rows = reference_rows(&c->op->inputs[0]); r < rows; ++r) {
    if (targets[r] < 0) continue;
    loss += log(sum_exp[r]) + maximum[r] - picked[r];
    tokens += 1;
  }
  *(float*)c->out[0] = (float)loss;
  *(float*)c->out[1] = (float)tokens;
  return KM_OK;
}

km_status check_cross_entropy_parts_backward(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 5, 1, 0));
  REFERENCE_TRY(check_rows(host, op, 4));
  REFERENCE_REQUIRE(reference_is(&op->inputs[4], KM_F32, 0), "d_loss must be f32 []");
  REFERENCE_REQUIRE(reference_same(&op->inputs[0], &op->outputs[0]), "d_logits has not the shape of logits");
  support->in_place[0] |= 1u;
  return KM_OK;
}

km_status run_cross_entropy_parts_backward(const reference_call* c) {
  const float *logits = c->in[0], *maximum = c->in[2], *sum_exp = c->in[3];
  const int32_t* targets = c->in[1];
  double d_loss = *(const float*)c->in[4];
  float* d_logits = c->out[0];
  int64_t rows = reference_rows(&c->op->inputs[0]), n = reference_last(&c->op->inputs[0]);
  int64_t offset = km_attribute_i64(c->op, "offset", 0);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < n; ++i) {
      double p = exp((double)logits[r * n + i] - maximum[r]) / sum_exp[r];
      d_logits[r * n + i] = targets[r] < 0 ? 0.0f : (float)(d_loss * (p - (i + offset == targets[r])));
    }
  return KM_OK;
}
