#include "plugins/kernels/sve/update/update.h"

#include <algorithm>

#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {

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

void adamw(const AdamW& a, const AdamWArrays& x, int64_t begin, int64_t end) {
  const float *ps = x.p, *gs = x.g, *ms = x.m, *vs = x.v;
  float *p_out = x.p_out, *m_out = x.m_out, *v_out = x.v_out;
  for_vectors(begin, end, [&](int64_t i, svbool_t lane) {
    const V p = svld1(lane, ps + i), g = mul(svld1(lane, gs + i), set(a.gradient_scale));
    const V m = mla(mul(g, set(a.rest1)), svld1(lane, ms + i), set(a.beta1));
    const V v = mla(mul(mul(g, g), set(a.rest2)), svld1(lane, vs + i), set(a.beta2));
    const V root = add(square_root(mul(v, set(a.inverse2))), set(a.epsilon));
    const V change = mla(mul(mul(m, set(a.step1)), reciprocal(root)), p, set(a.decay));
    svst1(lane, m_out + i, m);
    svst1(lane, v_out + i, v);
    svst1(lane, p_out + i, sub(p, change));
  });
}

} // namespace kumiki::sve
