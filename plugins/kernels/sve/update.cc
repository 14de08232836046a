#include <algorithm>

#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

double sum_squares(const float* x, int64_t n) {
  const int64_t step = lanes();
  double total = 0.0;
  for (int64_t begin = 0; begin < n; begin += 4096) {
    const int64_t end = std::min(n, begin + 4096);
    V s0 = set(0.0f), s1 = s0, s2 = s0, s3 = s0;
    // Lanes past the end load as zero.
    for (int64_t i = begin; i < end; i += 4 * step) {
      const V a = svld1(first(end - i), x + i), b = svld1(first(end - i - step), x + i + step);
      const V c = svld1(first(end - i - 2 * step), x + i + 2 * step);
      const V d = svld1(first(end - i - 3 * step), x + i + 3 * step);
      s0 = mla(s0, a, a);
      s1 = mla(s1, b, b);
      s2 = mla(s2, c, c);
      s3 = mla(s3, d, d);
    }
    total += static_cast<double>(sum_lanes(add(add(s0, s1), add(s2, s3))));
  }
  return total;
}

/* One vector of AdamW in registers: m and v become the new ones, p the new p. */
inline __attribute__((always_inline)) void step_vector(const AdamW& a, V& p, V g, V& m, V& v) {
  g = mul(g, set(a.gradient_scale));
  m = mla(mul(g, set(a.rest1)), m, set(a.beta1));
  v = mla(mul(mul(g, g), set(a.rest2)), v, set(a.beta2));
  const V root = add(square_root(mul(v, set(a.inverse2))), set(a.epsilon));
  p = sub(p, mla(mul(mul(m, set(a.step1)), reciprocal(root)), p, set(a.decay)));
}

void adamw(const AdamW& constants, const AdamWArrays& x, int64_t begin, int64_t end) {
  const AdamW a = constants; // in registers: what is stored could be taken for it
  const float *ps = x.p, *gs = x.g, *ms = x.m, *vs = x.v;
  float *p_out = x.p_out, *m_out = x.m_out, *v_out = x.v_out;
  const int64_t n = lanes();
  int64_t i = begin;
  for (; i + 2 * n <= end; i += 2 * n) {
    V p0 = svld1(all(), ps + i), m0 = svld1(all(), ms + i), v0 = svld1(all(), vs + i);
    V p1 = svld1_vnum(all(), ps + i, 1), m1 = svld1_vnum(all(), ms + i, 1), v1 = svld1_vnum(all(), vs + i, 1);
    const V g0 = svld1(all(), gs + i), g1 = svld1_vnum(all(), gs + i, 1);
    step_vector(a, p0, g0, m0, v0);
    step_vector(a, p1, g1, m1, v1);
    svst1(all(), m_out + i, m0);
    svst1_vnum(all(), m_out + i, 1, m1);
    svst1(all(), v_out + i, v0);
    svst1_vnum(all(), v_out + i, 1, v1);
    svst1(all(), p_out + i, p0);
    svst1_vnum(all(), p_out + i, 1, p1);
  }
  for (; i < end; i += n) {
    const svbool_t lane = first(end - i);
    V p = svld1(lane, ps + i), m = svld1(lane, ms + i), v = svld1(lane, vs + i);
    step_vector(a, p, svld1(lane, gs + i), m, v);
    svst1(lane, m_out + i, m);
    svst1(lane, v_out + i, v);
    svst1(lane, p_out + i, p);
  }
}

} // namespace

const UpdateFunctions kUpdates = {.sum_squares = sum_squares, .adamw = adamw};

} // namespace kumiki::sve
