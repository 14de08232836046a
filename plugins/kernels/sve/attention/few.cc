#include <algorithm>
#include <cmath>

#include "plugins/kernels/sve/attention/attention.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

constexpr int64_t kKeys = 256; /* of a block */

/* scores[r] = query · key row r. */
void score_rows(const float* query, const HeadRows& keys, int64_t k0, int64_t nk, int64_t width, float* scores) {
  const int64_t n = lanes();
  int64_t r = 0;
  for (; r + 4 <= nk; r += 4) {
    const float* k = keys.data + (k0 + r) * keys.pitch;
    V s0 = set(0.0f), s1 = s0, s2 = s0, s3 = s0;
    for (int64_t d = 0; d < width; d += n) {
      const svbool_t p = first(width - d); // other lanes are loaded as zero
      const V x = svld1(p, query + d);
      s0 = mla(s0, x, svld1(p, k + d));
      s1 = mla(s1, x, svld1(p, k + keys.pitch + d));
      s2 = mla(s2, x, svld1(p, k + 2 * keys.pitch + d));
      s3 = mla(s3, x, svld1(p, k + 3 * keys.pitch + d));
    }
    scores[r] = sum_lanes(s0);
    scores[r + 1] = sum_lanes(s1);
    scores[r + 2] = sum_lanes(s2);
    scores[r + 3] = sum_lanes(s3);
  }
  for (; r < nk; ++r) {
    const float* k = keys.data + (k0 + r) * keys.pitch;
    V s = set(0.0f);
    for (int64_t d = 0; d < width; d += n) {
      const svbool_t p = first(width - d);
      s = mla(s, svld1(p, query + d), svld1(p, k + d));
    }
    scores[r] = sum_lanes(s);
  }
}

float largest(const float* x, int64_t count, float m) {
  V v = set(m);
  for (int64_t i = 0; i < count; i += lanes()) {
    const svbool_t p = first(count - i);
    v = svmax_m(p, v, svld1(p, x + i));
  }
  return svmaxv(all(), v);
}

/* x = e^(x - maximum), in place; gives their sum. */
float soften_row(float* x, int64_t count, float maximum) {
  V sum = set(0.0f);
  for (int64_t i = 0; i < count; i += lanes()) {
    const svbool_t p = first(count - i);
    const V e = exp_bounded(sub(svld1(p, x + i), set(maximum)));
    svst1(p, x + i, e);
    sum = svadd_m(p, sum, e);
  }
  return sum_lanes(sum);
}

/* output = factor output + Σ weights[r] · value row r. */
void add_values(const float* weights, const HeadRows& values, int64_t k0, int64_t nk, int64_t width, float factor,
                float* output) {
  const int64_t n = lanes();
  for (int64_t j = 0; j < width; j += 4 * n) {
    const svbool_t p0 = first(width - j), p1 = first(width - j - n), p2 = first(width - j - 2 * n),
                   p3 = first(width - j - 3 * n);
    float* at = output + j;
    V s0 = mul(svld1(p0, at), set(factor)), s1 = mul(svld1_vnum(p1, at, 1), set(factor)),
      s2 = mul(svld1_vnum(p2, at, 2), set(factor)), s3 = mul(svld1_vnum(p3, at, 3), set(factor));
    const float* v = values.data + k0 * values.pitch + j;
    for (int64_t r = 0; r < nk; ++r, v += values.pitch) {
      const V w = set(weights[r]);
      s0 = mla(s0, svld1(p0, v), w);
      s1 = mla(s1, svld1_vnum(p1, v, 1), w);
      s2 = mla(s2, svld1_vnum(p2, v, 2), w);
      s3 = mla(s3, svld1_vnum(p3, v, 3), w);
    }
    svst1(p0, at, s0);
    svst1_vnum(p1, at, 1, s1);
    svst1_vnum(p2, at, 2, s2);
    svst1_vnum(p3, at, 3, s3);
  }
}

} // namespace

int64_t few_scratch(int64_t width) { return 2 * width + kKeys; }

void attention_few(const Head& head, const HeadRows& q, const HeadRows& keys, const HeadRows& values, float* o,
                   float* lse, float* scratch) {
  const int64_t width = head.width;
  float *query = scratch, *output = query + width, *weights = output + width;
  for (int64_t t = 0; t < head.tokens; ++t) {
    map(q.data + t * q.pitch, query, 0, width, [&](V v) { return mul(v, set(head.scale)); });
    std::fill(output, output + width, 0.0f);
    float maximum = kMasked, sum = 0.0f;
    const int64_t seen = head.past + t + 1;
    for (int64_t k0 = 0; k0 < seen; k0 += kKeys) {
      const int64_t nk = std::min(kKeys, seen - k0);
      score_rows(query, keys, k0, nk, width, weights);
      const float before = maximum;
      maximum = largest(weights, nk, before);
      const float factor = std::exp(before - maximum);
      sum = sum * factor + soften_row(weights, nk, maximum);
      add_values(weights, values, k0, nk, width, factor, output);
    }
    lse[t] = maximum + std::log(sum);
    const float factor = 1.0f / sum;
    map(output, o + t * q.pitch, 0, width, [=](V v) { return mul(v, set(factor)); });
  }
}

} // namespace kumiki::sve
