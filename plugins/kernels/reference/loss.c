/* loss.c: embedding, cross entropy, and both together with the projection to the vocabulary. */
#include <math.h>

#include "ops.h"

/* ---- embedding --------------------------------------------------------------------------------------------------- */

static km_status refuse_number(const reference_call* c, const char* what, int64_t number, int64_t limit) {
  return c->host->fail(c->host, KM_ERROR_USER, "reference: %s: %s %lld is not below %lld", c->op->name, what,
                       (long long)number, (long long)limit);
}

/* The row of the table that holds a token: with attribute offset -1 where the table, a part of the whole, has none. */
static km_status row_of_token(const reference_call* c, int64_t token, int64_t vocabulary, int64_t* row) {
  int part = km_find_attribute(c->op, "offset") != NULL;
  *row = token - km_attribute_i64(c->op, "offset", 0);
  if (*row >= 0 && *row < vocabulary) return KM_OK;
  if (!part) return refuse_number(c, "token", token, vocabulary);
  *row = -1;
  return KM_OK;
}

/* tokens i32 [B, T] and x f32 [B, T, N]. */
static int fits_tokens(const km_tensor* tokens, const km_tensor* x) {
  return tokens->dtype == KM_I32 && x->dtype == KM_F32 && x->rank >= 1 && reference_is_rows_of(tokens, x);
}

km_status check_embedding(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 2, 1, 0));
  const km_tensor* table = &op->inputs[1];
  REFERENCE_REQUIRE(fits_tokens(&op->inputs[0], &op->outputs[0]),
                    "tokens must be i32 [B, T], the output f32 [B, T, N]");
  REFERENCE_REQUIRE(reference_is(table, KM_F32, 2) && table->dims[1] == reference_last(&op->outputs[0]),
                    "table must be f32 [V, N]");
  return KM_OK;
}

km_status run_embedding(const reference_call* c) {
  const int32_t* tokens = c->in[0];
  const float* table = c->in[1];
  int64_t vocabulary = c->op->inputs[1].dims[0], n = c->op->inputs[1].dims[1];
  for (int64_t r = 0, rows = km_elements(&c->op->inputs[0]); r < rows; ++r) {
    float* y = (float*)c->out[0] + r * n;
    int64_t row;
    REFERENCE_TRY(row_of_token(c, tokens[r], vocabulary, &row));
    if (row >= 0)
      memcpy(y, table + row * n, (uint64_t)n * sizeof(float));
    else
      memset(y, 0, (uint64_t)n * sizeof(float));
  }
  return KM_OK;
}

km_status check_embedding_backward(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 2, 1, 1));
  const km_tensor *dy = &op->inputs[1], *table = &op->outputs[0];
  REFERENCE_REQUIRE(fits_tokens(&op->inputs[0], dy), "tokens must be i32 [B, T], dy f32 [B, T, N]");
  REFERENCE_REQUIRE(reference_is(table, KM_F32, 2) && table->dims[0] == km_attribute_i64(op, "rows", 0) &&
                        table->dims[1] == reference_last(dy),
                    "the output is not [rows, N]");
  support->workspace_bytes = (uint64_t)km_elements(table) * sizeof(double);
  return KM_OK;
}

km_status run_embedding_backward(const reference_call* c) {
  const int32_t* tokens = c->in[0];
  const float *dy = c->in[1], *addend = reference_addend(c, 0);
  double* sums = c->workspace;
  int64_t vocabulary = c->op->outputs[0].dims[0], n = c->op->outputs[0].dims[1];
  for (int64_t i = 0; i < vocabulary * n; ++i) sums[i] = 0;
  for (int64_t r = 0, rows = km_elements(&c->op->inputs[0]); r < rows; ++r) {
    int64_t row;
    REFERENCE_TRY(row_of_token(c, tokens[r], vocabulary, &row));
    for (int64_t j = 0; row >= 0 && j < n; ++j) sums[row * n + j] += dy[r * n + j];
  }
  for (int64_t i = 0; i < vocabulary * n; ++i) reference_put(c->out[0], addend, i, sums[i]);
  return KM_OK;
}

/* ---- cross entropy ----------------------------------------------------------------------------------------------- */

static km_status check_targets(const reference_call* c, const int32_t* targets, int64_t rows, int64_t vocabulary) {
  for (int64_t r = 0; r < rows; ++r)
    if (targets[r] >= vocabulary) return refuse_number(c, "target", targets[r], vocabulary);
  return KM_OK;
}

km_status check_cross_entropy(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 2, 2, 0));
  REFERENCE_REQUIRE(fits_tokens(&op->inputs[1], &op->inputs[0]), "logits must be f32 [..., V], targets i32 [...]");
  REFERENCE_REQUIRE(reference_is(&op->outputs[0], KM_F32, 0) && reference_is(&op->outputs[1], KM_F32, 0),
                    "loss and tokens must be f32 []");
  return KM_OK;
}

static double log_sum_exp(const float* x, int64_t n) {
  double largest = x[0], sum = 0;
  for (int64_t i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  for (int64_t i = 0; i < n; ++i) sum += exp(x[i] - largest);
  return largest + log(sum);
}

km_status run_cross_entropy(const reference_call* c) {
  const float* logits = c->in[0];
  const int32_t* targets = c->in[1];
  int64_t rows = reference_rows(&c->op->inputs[0]), n = reference_last(&c->op->inputs[0]);
  REFERENCE_TRY(check_targets(c, targets, rows, n));
  double loss = 0, tokens = 0;
  for (int64_t r = 0; r < rows; ++r) {
    if (targets[r] < 0) continue;
    loss += log_sum_exp(logits + r * n, n) - logits[r * n + targets[r]];
    tokens += 1;
  }
  *(float*)c->out[0] = (float)loss;
  *(float*)c->out[1] = (float)tokens;
  return KM_OK;
}

km_status check_cross_entropy_backward(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 3, 1, 0));
  REFERENCE_REQUIRE(fits_tokens(&op->inputs[1], &op->inputs[0]), "logits must be f32 [..., V], targets i32 [...]");
  REFERENCE_REQUIRE(reference_is(&op->inputs[2], KM_F32, 0), "d_loss must be f32 []");
  REFERENCE_REQUIRE(reference_same(&op->inputs[0], &op->outputs[0]), "d_logits has not the shape of logits");
  support->in_place[0] |= 1u;
  return KM_OK;
}

km_status run_cross_entropy_backward(const reference_call* c) {
  const float* logits = c->in[0];
  const int32_t* targets = c->in[1];
  double d_loss = *(const float*)c->in[2];
  float* d_logits = c->out[0];
  int64_t rows = reference_rows(&c->op->inputs[0]), n = reference_last(&c->op->inputs[0]);
  REFERENCE_TRY(check_targets(c, targets, rows, n));
  for (int64_t r = 0; r < rows; ++r) {
    int counted = targets[r] >= 0;
    double lse = counted ? log_sum_exp(logits + r * n, n) : 0;
    for (int64_t i = 0; i < n; ++i)
      d_logits[r * n + i] = counted ? (float)(d_loss * (exp(logits[r * n + i] - lse) - (i == targets[r]))) : 0.0f;
  }
  return KM_OK;
}

/* ---- projection and cross entropy -------------------------------------------------------------------------------- */

static km_status check_projection(const km_host* host, const km_op* op, km_support* support, int train) {
  REFERENCE_TRY(reference_check_counts(host, op, support, train ? 4 : 3, train ? 4 : 2, train ? 12 : 0));
  const km_tensor *x = &op->inputs[0], *w = &op->inputs[1], *targets = &op->inputs[2];
  REFERENCE_REQUIRE(reference_is_product_type(x->dtype) && x->dtype == w->dtype,
                    "x and w must be both f32 or both bf16");
  REFERENCE_REQUIRE(x->rank >= 1 && w->rank == 2 && w->dims[1] == reference_last(x), "w must be [V, K]");
  REFERENCE_REQUIRE(targets->dtype == KM_I32 && reference_is_rows_of(targets, x), "targets must be i32 [...]");
  REFERENCE_REQUIRE(reference_is(&op->outputs[0], KM_F32, 0) && reference_is(&op->outputs[1], KM_F32, 0),
                    "loss and tokens must be f32 []");
  int64_t v = w->dims[0], k = w->dims[1];
  support->workspace_bytes = (uint64_t)(v + k) * sizeof(double);
  if (!train) return KM_OK;
  REFERENCE_REQUIRE(reference_is(&op->inputs[3], KM_F32, 0), "d_loss must be f32 []");
  REFERENCE_REQUIRE(op->outputs[2].dtype == KM_F32 && reference_same_dims(&op->outputs[2], x), "d_x must be f32, as x");
  REFERENCE_REQUIRE(op->outputs[3].dtype == KM_F32 && reference_same_dims(&op->outputs[3], w), "d_w must be f32, as w");
  support->workspace_bytes += (uint64_t)(v * k) * sizeof(double);
  return KM_OK;
}

km_status check_projection_cross_entropy(const km_host* host, const km_op* op, km_support* s) {
  return check_projection(host, op, s, 0);
}
km_status check_projection_cross_entropy_train(const km_host* host, const km_op* op, km_support* s) {
  return check_projection(host, op, s, 1);
}

/* Eight sums side by side: the order of additions is free in double, and compilers make it several times faster. */
static double dot(const void* x, const void* y, uint32_t dtype, int64_t x_first, int64_t y_first, int64_t n) {
  double sums[8] = {0}, rest = 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j)
      sums[j] += reference_load(x, dtype, x_first + i + j) * reference_load(y, dtype, y_first + i + j);
  for (; i < n; ++i) rest += reference_load(x, dtype, x_first + i) * reference_load(y, dtype, y_first + i);
  for (int j = 0; j < 8; ++j) rest += sums[j];
  return rest;
}

/* Replaces the logits of a row by their softmax; gives log Σ eˣ. */
static double softmax(double* x, int64_t n) {
  double largest = x[0], sum = 0;
  for (int64_t i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  for (int64_t i = 0; i < n; ++i) sum += x[i] = exp(x[i] - largest);
  for (int64_t i = 0; i < n; ++i) x[i] /= sum;
  return largest + log(sum);
}

/* d_x (f32, with its addend) of one row from d_logits, and its share of the sums of d_w [V, K]. */
static void project_backward(const reference_call* c, int64_t row, const double* d_logits, double* d_x, double* d_w) {
  uint32_t dtype = c->op->inputs[1].dtype;
  int64_t v = c->op->inputs[1].dims[0], k = c->op->inputs[1].dims[1];
  for (int64_t i = 0; i < k; ++i) d_x[i] = 0;
  for (int64_t j = 0; d_logits && j < v; ++j)
    for (int64_t i = 0; i < k; ++i) {
      d_x[i] += d_logits[j] * reference_load(c->in[1], dtype, j * k + i);
      d_w[j * k + i] += d_logits[j] * reference_load(c->in[0], dtype, row * k + i);
    }
  for (int64_t i = 0; i < k; ++i) reference_put(c->out[2], reference_addend(c, 2), row * k + i, d_x[i]);
}

static km_status run_projection(const reference_call* c, int train) {
  const int32_t* targets = c->in[2];
  uint32_t dtype = c->op->inputs[0].dtype;
  int64_t rows = reference_rows(&c->op->inputs[0]), v = c->op->inputs[1].dims[0], k = c->op->inputs[1].dims[1];
  REFERENCE_TRY(check_targets(c, targets, rows, v));
  double d_loss = train ? *(const float*)c->in[3] : 0, loss = 0, tokens = 0;
  double *logits = c->workspace, *d_x = logits + v, *d_w = d_x + k;
  for (int64_t i = 0; train && i < v * k; ++i) d_w[i] = 0;
  for (int64_t r = 0; r < rows; ++r) {
    if (targets[r] < 0) {
      if (train) project_backward(c, r, NULL, d_x, d_w);
      continue;
    }
    for (int64_t j = 0; j < v; ++j) logits[j] = dot(c->in[0], c->in[1], dtype, r * k, j * k, k);
    double of_target = logits[targets[r]];
    loss += softmax(logits, v) - of_target;
    tokens += 1;
    if (!train) continue;
    logits[targets[r]] -= 1;
    for (int64_t j = 0; j < v; ++j) logits[j] *= d_loss;
    project_backward(c, r, logits, d_x, d_w);
  }
  *(float*)c->out[0] = (float)loss;
  *(float*)c->out[1] = (float)tokens;
  for (int64_t i = 0; train && i < v * k; ++i) reference_put(c->out[3], reference_addend(c, 3), i, d_w[i]);
  return KM_OK;
}

km_status run_projection_cross_entropy(const reference_call* c) { return run_projection(c, 0); }
km_status run_projection_cross_entropy_train(const reference_call* c) { return run_projection(c, 1); }
