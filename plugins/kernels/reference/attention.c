/* attention.c: softmax attention and its gradient, one row of scores at a time.
 *
 * q is [B, T, Hq·D], k and v are [B, S, Hk·D]; query head h reads key head h / (Hq/Hk). */
#include <math.h>

#include "ops.h"

typedef struct shape {
  int64_t batch, tokens, keys, query_heads, key_heads, width;
  double scale;
  int64_t first, seen; /* of a part: queries from `first` on see the keys before `seen` */
} shape;

/* The vector of one head at one token of x [B, tokens, heads · width]. */
static int64_t at(int64_t b, int64_t t, int64_t h, int64_t tokens, int64_t heads, int64_t width) {
  return ((b * tokens + t) * heads + h) * width;
}

static shape shape_of(const km_op* op) {
  const km_tensor *q = &op->inputs[0], *k = &op->inputs[1];
  int64_t width = km_attribute_i64(op, "head_width", 0);
  shape s = {q->dims[0],
             q->dims[1],
             k->dims[1],
             q->dims[2] / width,
             k->dims[2] / width,
             width,
             km_attribute_f64(op, "scale", 1 / sqrt((double)width)),
             km_attribute_i64(op, "first", 0),
             km_attribute_i64(op, "keys", k->dims[1])};
  return s;
}

static int is_mask(const km_op* op, const char* mask) {
  return km_same_text(km_attribute_string(op, "mask", "causal"), mask);
}

/* q, k, v and head_width. */
static km_status check_heads(const km_host* host, const km_op* op) {
  const km_tensor *q = &op->inputs[0], *k = &op->inputs[1], *v = &op->inputs[2];
  int64_t width = km_attribute_i64(op, "head_width", 0);
  REFERENCE_REQUIRE(reference_is(q, KM_F32, 3) && reference_is(k, KM_F32, 3), "q, k, v must be f32 [B, T, H·D]");
  REFERENCE_REQUIRE(reference_same(k, v), "k and v differ");
  REFERENCE_REQUIRE(width >= 1 && q->dims[2] % width == 0 && k->dims[2] % width == 0 && k->dims[2] > 0,
                    "head_width does not divide the last dimension");
  REFERENCE_REQUIRE(q->dims[2] % k->dims[2] == 0, "the key heads do not divide the query heads");
  REFERENCE_REQUIRE(q->dims[0] == k->dims[0], "q and k differ in batch");
  return KM_OK;
}

static int is_segments(const km_tensor* t, const km_tensor* x) {
  return reference_is(t, KM_I32, 2) && t->dims[0] == x->dims[0] && t->dims[1] == x->dims[1];
}

/* And the mask; `extra` is the place of the input that it brings. */
static km_status check_common(const km_host* host, const km_op* op, uint32_t extra) {
  const km_tensor *q = &op->inputs[0], *k = &op->inputs[1];
  REFERENCE_TRY(check_heads(host, op));
  REFERENCE_REQUIRE(is_mask(op, "cached") || q->dims[1] == k->dims[1], "q and k differ in tokens");
  REFERENCE_REQUIRE(!is_mask(op, "segments") || is_segments(&op->inputs[extra], q), "segments must be i32 [B, T]");
  REFERENCE_REQUIRE(!is_mask(op, "cached") || reference_is(&op->inputs[extra], KM_I32, 0), "past must be i32 []");
  return KM_OK;
}

static int is_lse(const km_tensor* t, shape s) {
  return reference_is(t, KM_F32, 3) && t->dims[0] == s.batch && t->dims[1] == s.query_heads && t->dims[2] == s.tokens;
}

km_status check_attention(const km_host* host, const km_op* op, km_support* support) {
  int causal = is_mask(op, "causal");
  REFERENCE_REQUIRE(causal || is_mask(op, "cached") || is_mask(op, "segments"), "unknown mask");
  REFERENCE_TRY(reference_check_counts(host, op, support, causal ? 3 : 4, 2, 0));
  REFERENCE_TRY(check_common(host, op, 3));
  shape s = shape_of(op);
  REFERENCE_REQUIRE(reference_same(&op->outputs[0], &op->inputs[0]), "o has not the shape of q");
  REFERENCE_REQUIRE(is_lse(&op->outputs[1], s), "lse must be f32 [B, Hq, T]");
  support->workspace_bytes = (uint64_t)(s.keys + s.width) * sizeof(double);
  return KM_OK;
}

static double dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += (double)a[i] * b[i];
  return sum;
}

/* What a query sees: the keys 0 … visible-1, and of these those of its own segment. keys: the segments of this sample's
 * keys, or NULL. */
typedef struct view {
  int64_t visible;
  const int32_t* keys;
  int32_t segment;
} view;

static int sees(view w, int64_t j) { return !w.keys || w.segment == w.keys[j]; }

static view view_of(int64_t visible, const int32_t* query_segments, const int32_t* key_segments, int64_t t) {
  view w = {visible, key_segments, query_segments ? query_segments[t] : 0};
  return w;
}

/* A query that sees no key gets o = 0 and lse = -infinity. */
static void attend(const float* q, const float* k, const float* v, shape s, view w, double* scores, double* sums,
                   float* o, float* lse) {
  int64_t stride = s.key_heads * s.width;
  double largest = -INFINITY, total = 0;
  for (int64_t j = 0; j < w.visible; ++j) {
    if (!sees(w, j)) continue;
    scores[j] = s.scale * dot(q, k + j * stride, s.width);
    if (scores[j] > largest) largest = scores[j];
  }
  for (int64_t i = 0; i < s.width; ++i) sums[i] = 0;
  for (int64_t j = 0; j < w.visible; ++j) {
    if (!sees(w, j)) continue;
    double weight = exp(scores[j] - largest);
    total += weight;
    for (int64_t i = 0; i < s.width; ++i) sums[i] += weight * v[j * stride + i];
  }
  for (int64_t i = 0; i < s.width; ++i) o[i] = total > 0 ? (float)(sums[i] / total) : 0.0f;
  *lse = total > 0 ? (float)(largest + log(total)) : -INFINITY;
}

km_status run_attention(const reference_call* c) {
  shape s = shape_of(c->op);
  const float *q = c->in[0], *k = c->in[1], *v = c->in[2];
  float *o = c->out[0], *lse = c->out[1];
  int64_t past = is_mask(c->op, "cached") ? *(const int32_t*)c->in[3] : 0;
  if (past < 0 || past + s.tokens > s.keys)
    return c->host->fail(c->host, KM_ERROR_USER,
                         "reference: attention: %lld tokens after %lld do not fit a cache of %lld", (long long)s.tokens,
                         (long long)past, (long long)s.keys);
  const int32_t* segments = is_mask(c->op, "segments") ? c->in[3] : NULL;
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.query_heads; ++h)
      for (int64_t t = 0; t < s.tokens; ++t) {
        int64_t query = at(b, t, h, s.tokens, s.query_heads, s.width);
        int64_t key = at(b, 0, h / (s.query_heads / s.key_heads), s.keys, s.key_heads, s.width);
        const int32_t* row = segments ? segments + b * s.tokens : NULL;
        attend(q + query, k + key, v + key, s, view_of(past + t + 1, row, row, t), c->workspace,
               (double*)c->workspace + s.keys, o + query, lse + (b * s.query_heads + h) * s.tokens + t);
      }
  return KM_OK;
}

/* ---- a part: the keys of one rank, and a merge of parts ----------------------------------------------------------- */

static int is_causal_part(const km_op* op) { return km_same_text(km_attribute_string(op, "mask", "none"), "causal"); }

/* `plain` inputs, and behind them the segments of queries and keys, or none. */
static km_status check_part(const km_host* host, const km_op* op, uint32_t plain) {
  const km_tensor *q = &op->inputs[0], *k = &op->inputs[1];
  REFERENCE_TRY(check_heads(host, op));
  shape s = shape_of(op);
  REFERENCE_REQUIRE(is_causal_part(op) || km_same_text(km_attribute_string(op, "mask", "none"), "none"),
                    "unknown mask");
  REFERENCE_REQUIRE(s.first >= 0 && s.first < s.tokens && s.seen >= 1 && s.seen <= s.keys,
                    "there are no such queries or keys (attributes first, keys)");
  REFERENCE_REQUIRE(!is_causal_part(op) || (s.tokens == s.keys && s.first == 0 && s.seen == s.keys),
                    "with mask causal the part is all of as many queries as keys");
  REFERENCE_REQUIRE(
      op->n_inputs == plain || (is_segments(&op->inputs[plain], q) && is_segments(&op->inputs[plain + 1], k)),
      "segments must be i32, [B, T] of the queries and [B, S] of the keys");
  return KM_OK;
}

static int64_t part_visible(const km_op* op, shape s, int64_t t) {
  return t < s.first ? 0 : is_causal_part(op) ? t + 1 : s.seen;
}

km_status check_attention_part(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, op->n_inputs == 5 ? 5 : 3, 2, 0));
  REFERENCE_TRY(check_part(host, op, 3));
  shape s = shape_of(op);
  REFERENCE_REQUIRE(reference_same(&op->outputs[0], &op->inputs[0]), "o has not the shape of q");
  REFERENCE_REQUIRE(is_lse(&op->outputs[1], s), "lse must be f32 [B, Hq, T]");
  support->workspace_bytes = (uint64_t)(s.keys + s.width) * sizeof(double);
  return KM_OK;
}

km_status run_attention_part(const reference_call* c) {
  shape s = shape_of(c->op);
  const float *q = c->in[0], *k = c->in[1], *v = c->in[2];
  const int32_t *of_queries = c->op->n_inputs > 3 ? c->in[3] : NULL, *of_keys = of_queries ? c->in[4] : NULL;
  float *o = c->out[0], *lse = c->out[1];
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.query_heads; ++h)
      for (int64_t t = 0; t < s.tokens; ++t) {
        int64_t query = at(b, t, h, s.tokens, s.query_heads, s.width);
        int64_t key = at(b, 0, h / (s.query_heads / s.key_heads), s.keys, s.key_heads, s.width);
        view w = view_of(part_visible(c->op, s, t), of_queries ? of_queries + b * s.tokens : NULL,
                         of_keys ? of_keys + b * s.keys : NULL, t);
        attend(q + query, k + key, v + key, s, w, c->workspace, (double*)c->workspace + s.keys, o + query,
               lse + (b * s.query_heads + h) * s.tokens + t);
      }
  return KM_OK;
}

km_status check_attention_merge(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, op->n_inputs, 2, 0));
  const km_tensor *o = &op->outputs[0], *lse = &op->outputs[1];
  int64_t width = km_attribute_i64(op, "head_width", 0);
  REFERENCE_REQUIRE(op->n_inputs >= 2 && op->n_inputs % 2 == 0, "the inputs are pairs of o and lse");
  REFERENCE_REQUIRE(reference_is(o, KM_F32, 3) && width >= 1 && o->dims[2] % width == 0,
                    "o must be f32 [B, T, H·D], head_width its D");
  REFERENCE_REQUIRE(reference_is(lse, KM_F32, 3) && lse->dims[0] == o->dims[0] && lse->dims[1] == o->dims[2] / width &&
                        lse->dims[2] == o->dims[1],
                    "lse must be f32 [B, H, T]");
  for (uint32_t i = 0; i < op->n_inputs; ++i)
    REFERENCE_REQUIRE(reference_same(&op->inputs[i], &op->outputs[i % 2]), "parts differ in shape");
  return KM_OK;
}

/* lse = log Σ e^lse_i, o = Σ e^(lse_i - lse) o_i. */
km_status run_attention_merge(const reference_call* c) {
  const km_tensor* whole = &c->op->outputs[0];
  int64_t tokens = whole->dims[1], width = km_attribute_i64(c->op, "head_width", 0), heads = whole->dims[2] / width;
  for (int64_t row = 0; row < whole->dims[0] * heads * tokens; ++row) {
    int64_t b = row / (heads * tokens), h = row / tokens % heads, t = row % tokens;
    double largest = -INFINITY, total = 0;
    for (uint32_t i = 1; i < c->op->n_inputs; i += 2) largest = fmax(largest, (double)((const float*)c->in[i])[row]);
    for (uint32_t i = 1; i < c->op->n_inputs && largest > -INFINITY; i += 2)
      total += exp((double)((const float*)c->in[i])[row] - largest);
    double lse = total > 0 ? largest + log(total) : -INFINITY;
    for (int64_t d = 0; d < width; ++d) {
      int64_t e = at(b, t, h, tokens, heads, width) + d;
      double sum = 0;
      for (uint32_t i = 0; i < c->op->n_inputs && total > 0; i += 2)
        sum += exp((double)((const float*)c->in[i + 1])[row] - lse) * (double)((const float*)c->in[i])[e];
      ((float*)c->out[0])[e] = (float)sum;
    }
    ((float*)c->out[1])[row] = (float)lse;
  }
  return KM_OK;
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* o, lse, d_o behind q, k, v; and the outputs. */
static km_status check_gradients(const km_host* host, const km_op* op, km_support* support) {
  shape s = shape_of(op);
  const km_tensor *q = &op->inputs[0], *k = &op->inputs[1];
  REFERENCE_REQUIRE(reference_same(q, &op->inputs[3]) && reference_same(q, &op->inputs[5]), "o and d_o must be as q");
  REFERENCE_REQUIRE(is_lse(&op->inputs[4], s), "lse must be f32 [B, Hq, T]");
  REFERENCE_REQUIRE(
      reference_same(q, &op->outputs[0]) && reference_same(k, &op->outputs[1]) && reference_same(k, &op->outputs[2]),
      "dq, dk, dv must be as q, k, v");
  support->workspace_bytes = (uint64_t)(2 * s.keys + 1) * (uint64_t)s.width * sizeof(double);
  return KM_OK;
}

km_status check_attention_backward(const km_host* host, const km_op* op, km_support* support) {
  int causal = is_mask(op, "causal");
  REFERENCE_REQUIRE(causal || is_mask(op, "segments"), "a gradient is only for the masks causal and segments");
  REFERENCE_TRY(reference_check_counts(host, op, support, causal ? 6 : 7, 3, 0));
  REFERENCE_TRY(check_common(host, op, 6));
  return check_gradients(host, op, support);
}

km_status check_attention_part_backward(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, op->n_inputs == 8 ? 8 : 6, 3, 0));
  REFERENCE_TRY(check_part(host, op, 6));
  return check_gradients(host, op, support);
}

typedef struct sums {
  double *dq, *dk, *dv; /* [D], [S, D], [S, D] */
} sums;

/* With P = softmax(scale q kᵀ) and delta = d_o · o of the row: dS = P (d_o vᵀ − delta), dq = scale dS k, dk = scale dSᵀ
 * q, dv = Pᵀ d_o. */
static void attend_backward(const float* q, const float* k, const float* v, const float* o, double lse,
                            const float* d_o, shape s, view w, sums to) {
  int64_t stride = s.key_heads * s.width;
  double delta = dot(o, d_o, s.width);
  for (int64_t j = 0; j < w.visible; ++j) {
    if (!sees(w, j)) continue;
    double p = exp(s.scale * dot(q, k + j * stride, s.width) - lse);
    double ds = s.scale * p * (dot(d_o, v + j * stride, s.width) - delta);
    for (int64_t i = 0; i < s.width; ++i) {
      to.dq[i] += ds * k[j * stride + i];
      to.dk[j * s.width + i] += ds * q[i];
      to.dv[j * s.width + i] += p * d_o[i];
    }
  }
}

/* Of attention, or of a part: then o and lse are those of the whole. */
km_status run_attention_backward(const reference_call* c) {
  shape s = shape_of(c->op);
  const float *q = c->in[0], *k = c->in[1], *v = c->in[2], *o = c->in[3], *lse = c->in[4], *d_o = c->in[5];
  float *dq = c->out[0], *dk = c->out[1], *dv = c->out[2];
  int part = km_same_text(c->op->name, "attention_part_backward");
  const int32_t *of_queries = c->op->n_inputs > 6 ? c->in[6] : NULL,
                *of_keys = c->op->n_inputs > 7 ? c->in[7] : of_queries;
  double* workspace = c->workspace;
  sums to = {workspace, workspace + s.width, workspace + s.width + s.keys * s.width};
  int64_t group = s.query_heads / s.key_heads;
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t hk = 0; hk < s.key_heads; ++hk) {
      int64_t key = at(b, 0, hk, s.keys, s.key_heads, s.width);
      for (int64_t i = 0; i < s.keys * s.width; ++i) to.dk[i] = to.dv[i] = 0;
      for (int64_t h = hk * group; h < (hk + 1) * group; ++h)
        for (int64_t t = 0; t < s.tokens; ++t) {
          int64_t query = at(b, t, h, s.tokens, s.query_heads, s.width);
          view w = view_of(part ? part_visible(c->op, s, t) : t + 1, of_queries ? of_queries + b * s.tokens : NULL,
                           of_keys ? of_keys + b * s.keys : NULL, t);
          for (int64_t i = 0; i < s.width; ++i) to.dq[i] = 0;
          attend_backward(q + query, k + key, v + key, o + query, lse[(b * s.query_heads + h) * s.tokens + t],
                          d_o + query, s, w, to);
          for (int64_t i = 0; i < s.width; ++i) dq[query + i] = (float)to.dq[i];
        }
      for (int64_t t = 0; t < s.keys; ++t)
        for (int64_t i = 0; i < s.width; ++i) {
          dk[key + t * s.key_heads * s.width + i] = (float)to.dk[t * s.width + i];
          dv[key + t * s.key_heads * s.width + i] = (float)to.dv[t * s.width + i];
        }
    }
  return KM_OK;
}
