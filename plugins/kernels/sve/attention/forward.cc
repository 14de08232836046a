#include <algorithm>
#include <cmath>

#include "plugins/kernels/sve/attention/attention.h"
#include "plugins/kernels/sve/gemm/gemm.h"
#include "plugins/kernels/sve/gemm/microkernel.h"

namespace kumiki::sve {
namespace {

constexpr int64_t kKeys = 128; /* of a block: 128 x 48 scores are 24 KiB */

/* Scores [nk][pitch] of a block: masks what a query does not see. Key r is seen by the queries c >= r + shift. */
void mask_block(const Head& head, int64_t k0, int64_t nk, int64_t q0, int64_t nq, float* scores, int64_t pitch) {
  const int64_t n = lanes(), shift = k0 - head.past - q0;
  for (int64_t r = 0; r < nk; ++r) {
    float* row = scores + r * pitch;
    for (int64_t j = 0; j < nq; j += n) {
      if (!head.key_segments && j >= r + shift) break;
      // lanes c of this vector with j + c < r + shift
      svbool_t hidden = first(r + shift - j);
      if (head.key_segments) {
        const svbool_t p = first(nq - j);
        hidden = svorr_z(all(), hidden, svcmpne(p, svld1(p, head.query_segments + q0 + j), head.key_segments[k0 + r]));
      }
      svst1(hidden, row + j, set(kMasked));
    }
  }
}

/* One block of the online softmax, for a vector of queries: scores become e^(s - maximum), `maxima` and `sums` go on,
 * factors is what older sums shrink by. */
void soften(float* scores, int64_t pitch, int64_t nk, float* maxima, float* sums, float* factors) {
  const svbool_t p = all();
  const V before = svld1(p, maxima);
  V m0 = before, m1 = before, m2 = before, m3 = before;
  int64_t r = 0;
  for (; r + 4 <= nk; r += 4) {
    const float* x = scores + r * pitch;
    m0 = svmax_x(p, m0, svld1(p, x));
    m1 = svmax_x(p, m1, svld1(p, x + pitch));
    m2 = svmax_x(p, m2, svld1(p, x + 2 * pitch));
    m3 = svmax_x(p, m3, svld1(p, x + 3 * pitch));
  }
  for (; r < nk; ++r) m0 = svmax_x(p, m0, svld1(p, scores + r * pitch));
  const V m = svmax_x(p, svmax_x(p, m0, m1), svmax_x(p, m2, m3));
  const V factor = exp_bounded(sub(before, m));
  V s0 = mul(factor, svld1(p, sums)), s1 = set(0.0f), s2 = s1, s3 = s1;
  for (r = 0; r + 4 <= nk; r += 4) {
    float* x = scores + r * pitch;
    const V e0 = exp_bounded(sub(svld1(p, x), m)), e1 = exp_bounded(sub(svld1(p, x + pitch), m));
    const V e2 = exp_bounded(sub(svld1(p, x + 2 * pitch), m)), e3 = exp_bounded(sub(svld1(p, x + 3 * pitch), m));
    svst1(p, x, e0);
    svst1(p, x + pitch, e1);
    svst1(p, x + 2 * pitch, e2);
    svst1(p, x + 3 * pitch, e3);
    s0 = add(s0, e0);
    s1 = add(s1, e1);
    s2 = add(s2, e2);
    s3 = add(s3, e3);
  }
  for (; r < nk; ++r) {
    float* x = scores + r * pitch;
    const V e = exp_bounded(sub(svld1(p, x), m));
    svst1(p, x, e);
    s0 = add(s0, e);
  }
  svst1(p, maxima, m);
  svst1(p, sums, add(add(s0, s1), add(s2, s3)));
  svst1(p, factors, factor);
}

} // namespace

bool segments_meet(const int32_t* a, int64_t n, const int32_t* b, int64_t m) {
  const auto x = std::minmax_element(a, a + n), y = std::minmax_element(b, b + m);
  return *x.first <= *y.second && *y.first <= *x.second;
}

int64_t forward_queries() { return panel_width(); }

int64_t packed_keys_floats(int64_t count, int64_t width) { return tiles_of(count) * kTileHeight * width; }
int64_t packed_values_floats(int64_t count, int64_t width) { return panels_of(width) * panel_width() * count; }

void pack_head(const HeadRows& keys, const HeadRows& values, int64_t count, int64_t width, float* packed_keys,
               float* packed_values) {
  pack_left(keys.data, keys.pitch, false, width, count, 0, tiles_of(count), packed_keys);
  for (int64_t p = 0; p < panels_of(width); ++p)
    pack_right(values.data, values.pitch, false, count, width, p, packed_values + p * count * panel_width());
}

int64_t forward_scratch(int64_t width) {
  const int64_t q = forward_queries();
  return width * q + kKeys * q + q * panels_of(width) * panel_width() + 3 * q;
}

void attention_forward(const Head& head, const HeadRows& q, const float* packed_keys, const float* packed_values,
                       int64_t begin, float* o, float* lse, float* scratch) {
  const int64_t n = lanes(), pitch = forward_queries(), width = head.width, panels = panels_of(width);
  const int64_t o_row = panels * panel_width();
  const int64_t nq = std::min(pitch, head.tokens - begin), vectors = (nq + n - 1) / n;
  const int64_t diagonal = head.past + begin,    // the key that the first query sees last,
      last = std::min(head.keys, diagonal + nq); // and the end
  float* queries = scratch;                      // [width][pitch]
  float* scores = queries + width * pitch;
  float* output = scores + kKeys * pitch; // [pitch][o_row]
  float* maxima = output + pitch * o_row;
  float* sums = maxima + pitch;
  float* factors = sums + pitch;

  for (int64_t j = 0; j < nq; j += n) {
    transpose_to_vectors(q.data + (begin + j) * q.pitch, q.pitch, std::min(n, nq - j), width, queries + j, pitch);
    for (int64_t d = 0; d < width; ++d) {
      float* x = queries + d * pitch + j;
      svst1(all(), x, mul(svld1(all(), x), set(head.scale)));
    }
    svst1(all(), maxima + j, set(kMasked));
    svst1(all(), sums + j, set(0.0f));
  }

  bool is_first = true;
  for (int64_t k0 = 0; k0 < last; k0 += kKeys) {
    const int64_t nk = std::min(kKeys, last - k0), shift = k0 - diagonal;
    if (head.key_segments && !segments_meet(head.key_segments + k0, nk, head.query_segments + begin, nq)) continue;
    for (int64_t i = 0; i < nk; i += kTileHeight) {
      const int64_t rows = std::min(kTileHeight, nk - i);
      tile_of<true>(rows, vectors)({width, packed_keys + (k0 + i) * width, kTileHeight, queries, pitch, nullptr, 0,
                                    scores + i * pitch, pitch, vectors * n});
    }
    if (nk - 1 + shift > 0 || head.key_segments) mask_block(head, k0, nk, begin, nq, scores, pitch);
    for (int64_t j = 0; j < nq; j += n) soften(scores + j, pitch, nk, maxima + j, sums + j, factors + j);
    if (!is_first)
      for (int64_t i = 0; i < nq; ++i) {
        if (factors[i] == 1.0f) continue;
        float *row = output + i * o_row, factor = factors[i];
        for_vectors(0, width, [=](int64_t j, svbool_t p) { svst1(p, row + j, mul(svld1(p, row + j), set(factor))); });
      }
    // Keys past the diagonal weigh exactly 0: a tile of queries stops at the last key that it sees.
    for (int64_t p = 0; p < panels; ++p) {
      const int64_t column = panel_begin(p, width), columns = panel_columns(p, width);
      const float* v = packed_values + (p * head.keys + k0) * panel_width();
      for (int64_t i = 0; i < nq; i += kTileHeight) {
        const int64_t rows = std::min(kTileHeight, nq - i), k1 = std::min(nk, i + rows - shift);
        if (k1 <= 0) continue;
        float* c = output + i * o_row + column;
        tile_of<false>(rows, (columns + n - 1) / n)(
            {k1, scores + i, pitch, v, panel_width(), is_first ? nullptr : c, o_row, c, o_row, columns});
      }
    }
    is_first = false;
  }

  for (int64_t i = 0; i < nq; ++i) {
    float* to = o + (begin + i) * q.pitch;
    if (maxima[i] <= kMasked) { // it sees no key
      lse[begin + i] = -INFINITY;
      std::fill_n(to, width, 0.0f);
      continue;
    }
    lse[begin + i] = maxima[i] + std::log(sums[i]);
    const float *from = output + i * o_row, factor = 1.0f / sums[i];
    for_vectors(0, width, [=](int64_t j, svbool_t p) { svst1(p, to + j, mul(svld1(p, from + j), set(factor))); });
  }
}

} // namespace kumiki::sve
