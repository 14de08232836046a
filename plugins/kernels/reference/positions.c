/* positions.c: what depends on the place of a token: rope, learned positions, caches. */
#include <math.h>

#include "ops.h"

/* An optional input `past` at place i. */
static km_status check_past(const km_host* host, const km_op* op, uint32_t i) {
  REFERENCE_REQUIRE(op->n_inputs <= i || reference_is(&op->inputs[i], KM_I32, 0), "past must be i32 []");
  return KM_OK;
}

static int64_t past_of(const reference_call* c, uint32_t i) {
  return c->op->n_inputs > i ? *(const int32_t*)c->in[i] : 0;
}

static km_status refuse_past(const reference_call* c, int64_t past, int64_t tokens, int64_t room) {
  return c->host->fail(c->host, KM_ERROR_USER, "reference: %s: %lld tokens after %lld are more than %lld", c->op->name,
                       (long long)tokens, (long long)past, (long long)room);
}

km_status check_rope(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, op->n_inputs == 2 ? 2 : 1, 1, 0));
  REFERENCE_TRY(check_past(host, op, 1));
  const km_tensor* x = &op->inputs[0];
  int64_t width = km_attribute_i64(op, "head_width", 0);
  REFERENCE_REQUIRE(reference_is(x, KM_F32, 3) && reference_same(x, &op->outputs[0]),
                    "x and y must be f32 [B, T, H·D]");
  REFERENCE_REQUIRE(width >= 2 && width % 2 == 0 && x->dims[2] % width == 0, "head_width must be even and divide x");
  REFERENCE_REQUIRE(reference_positions_fit(reference_positions_of(op, x->dims[1]), INT64_MAX), "no such positions");
  support->in_place[0] |= 1u;
  return KM_OK;
}

km_status run_rope(const reference_call* c) {
  const float* x = c->in[0];
  float* y = c->out[0];
  int64_t tokens = c->op->inputs[0].dims[1], n = c->op->inputs[0].dims[2], rows = c->op->inputs[0].dims[0] * tokens;
  int64_t width = km_attribute_i64(c->op, "head_width", 0), half = width / 2, past = past_of(c, 1);
  reference_positions positions = reference_positions_of(c->op, tokens);
  double base = km_attribute_f64(c->op, "base", 10000), sign = km_attribute_f64(c->op, "sign", 1);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < half; ++i) {
      double angle = sign * (double)(past + reference_position(positions, r % tokens)) *
                     pow(base, -2.0 * (double)i / (double)width);
      double cosine = cos(angle), sine = sin(angle);
      for (int64_t head = r * n; head < (r + 1) * n; head += width) {
        double first = x[head + i], second = x[head + i + half];
        y[head + i] = (float)(first * cosine - second * sine);
        y[head + i + half] = (float)(second * cosine + first * sine);
      }
    }
  return KM_OK;
}

km_status check_add_position(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, op->n_inputs == 3 ? 3 : 2, 1, 0));
  REFERENCE_TRY(check_past(host, op, 2));
  const km_tensor *x = &op->inputs[0], *table = &op->inputs[1];
  REFERENCE_REQUIRE(reference_is(x, KM_F32, 3) && reference_same(x, &op->outputs[0]), "x and y must be f32 [B, T, N]");
  REFERENCE_REQUIRE(reference_is(table, KM_F32, 2) && table->dims[1] == x->dims[2], "table must be f32 [P, N]");
  REFERENCE_REQUIRE(reference_positions_fit(reference_positions_of(op, x->dims[1]), table->dims[0]),
                    "the table has fewer rows than x has tokens");
  support->in_place[0] |= 1u;
  return KM_OK;
}

km_status run_add_position(const reference_call* c) {
  const float *x = c->in[0], *table = c->in[1];
  float* y = c->out[0];
  int64_t tokens = c->op->inputs[0].dims[1], n = c->op->inputs[0].dims[2], rows = c->op->inputs[0].dims[0] * tokens;
  int64_t past = past_of(c, 2), room = c->op->inputs[1].dims[0];
  reference_positions positions = reference_positions_of(c->op, tokens);
  if (past < 0 || !reference_positions_fit(positions, room - past)) return refuse_past(c, past, tokens, room);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < n; ++j)
      y[r * n + j] = (float)((double)x[r * n + j] + table[(past + reference_position(positions, r % tokens)) * n + j]);
  return KM_OK;
}

km_status check_add_position_backward(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 1, 1, 1));
  const km_tensor *dy = &op->inputs[0], *table = &op->outputs[0];
  REFERENCE_REQUIRE(reference_is(dy, KM_F32, 3) && reference_is(table, KM_F32, 2),
                    "dy must be f32 [B, T, N], the output [P, N]");
  REFERENCE_REQUIRE(table->dims[0] == km_attribute_i64(op, "rows", 0) && table->dims[1] == dy->dims[2],
                    "the output is not [rows, N]");
  REFERENCE_REQUIRE(reference_positions_fit(reference_positions_of(op, dy->dims[1]), table->dims[0]),
                    "the table has fewer rows than dy has tokens");
  return KM_OK;
}

km_status run_add_position_backward(const reference_call* c) {
  const float *dy = c->in[0], *addend = reference_addend(c, 0);
  int64_t batch = c->op->inputs[0].dims[0], tokens = c->op->inputs[0].dims[1], n = c->op->inputs[0].dims[2];
  reference_positions p = reference_positions_of(c->op, tokens);
  for (int64_t row = 0; row < c->op->outputs[0].dims[0]; ++row)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t t = 0; t < tokens; ++t)
          if (reference_position(p, t) == row) sum += dy[(b * tokens + t) * n + j];
      reference_put(c->out[0], addend, row * n + j, sum);
    }
  return KM_OK;
}

km_status check_cache_append(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 3, 1, 0));
  REFERENCE_TRY(check_past(host, op, 2));
  const km_tensor *cache = &op->inputs[0], *x = &op->inputs[1];
  REFERENCE_REQUIRE(reference_is(cache, KM_F32, 3) && reference_same(cache, &op->outputs[0]),
                    "cache must be f32 [B, S, N]");
  REFERENCE_REQUIRE(reference_is(x, KM_F32, 3) && x->dims[0] == cache->dims[0] && x->dims[2] == cache->dims[2],
                    "x must be f32 [B, T, N]");
  REFERENCE_REQUIRE(x->dims[1] <= cache->dims[1], "x has more tokens than the cache");
  support->in_place[0] |= 1u;
  return KM_OK;
}

km_status run_cache_append(const reference_call* c) {
  int64_t batch = c->op->inputs[0].dims[0], room = c->op->inputs[0].dims[1], n = c->op->inputs[0].dims[2];
  int64_t tokens = c->op->inputs[1].dims[1], past = past_of(c, 2);
  if (past < 0 || past + tokens > room) return refuse_past(c, past, tokens, room);
  float* cache = c->out[0];
  if (cache != c->in[0]) memcpy(cache, c->in[0], km_bytes(&c->op->outputs[0]));
  for (int64_t b = 0; b < batch; ++b)
    memcpy(cache + (b * room + past) * n, (const float*)c->in[1] + b * tokens * n,
           (uint64_t)(tokens * n) * sizeof(float));
  return KM_OK;
}

km_status check_last_token(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 1, 1, 0));
  const km_tensor *x = &op->inputs[0], *y = &op->outputs[0];
  REFERENCE_REQUIRE(reference_is(x, KM_F32, 3) && x->dims[1] >= 1, "x must be f32 [B, T, N]");
  REFERENCE_REQUIRE(reference_is(y, KM_F32, 2) && y->dims[0] == x->dims[0] && y->dims[1] == x->dims[2],
                    "y must be f32 [B, N]");
  return KM_OK;
}

km_status run_last_token(const reference_call* c) {
  int64_t batch = c->op->inputs[0].dims[0], tokens = c->op->inputs[0].dims[1], n = c->op->inputs[0].dims[2];
  for (int64_t b = 0; b < batch; ++b)
    memcpy((float*)c->out[0] + b * n, (const float*)c->in[0] + (b * tokens + tokens - 1) * n,
           (uint64_t)n * sizeof(float));
  return KM_OK;
}
