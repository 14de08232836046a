#include <algorithm>
#include <cmath>

#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

constexpr int64_t kGroup = 256; /* rows summed before they go to the total: keeps rounding small over long batches */

/* Four sums, so that additions need not wait for each other: f(i, p, s) gives the new s for the vector at i. Lanes
 * outside of p must stay as they are in s. */
template <class F>
inline __attribute__((always_inline)) float sum_over(int64_t width, const F& f) {
  const int64_t n = lanes();
  V s0 = set(0.0f), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * n <= width; i += 4 * n) {
    s0 = f(i, all(), s0);
    s1 = f(i + n, all(), s1);
    s2 = f(i + 2 * n, all(), s2);
    s3 = f(i + 3 * n, all(), s3);
  }
  for (; i < width; i += n) s0 = f(i, first(width - i), s0);
  return sum_lanes(add(add(s0, s1), add(s2, s3)));
}

void norm_forward(const NormForward& a, int64_t row_begin, int64_t row_end) {
  const int64_t w = a.width;
  const float inverse = 1.0f / static_cast<float>(w);
  for (int64_t r = row_begin; r < row_end; ++r) {
    const float* x = a.x + r * w;
    float mean = 0.0f;
    if (a.added) {
      const float *left = x, *right = a.added + r * w;
      float* to = a.sum + r * w;
      mean = inverse * sum_over(w, [=](int64_t i, svbool_t p, V s) {
               const V v = add(svld1(p, left + i), svld1(p, right + i));
               svst1(p, to + i, v);
               return svadd_m(p, s, v);
             });
      x = to;
    } else if (a.mean) {
      mean = inverse * sum_over(w, [=](int64_t i, svbool_t p, V s) { return svadd_m(p, s, svld1(p, x + i)); });
    }
    if (!a.mean) mean = 0.0f;
    const float squares = sum_over(w, [=](int64_t i, svbool_t p, V s) {
      const V d = sub(svld1(p, x + i), set(mean));
      return svmla_m(p, s, d, d);
    });
    const float rstd = 1.0f / std::sqrt(squares * inverse + a.epsilon);
    if (a.mean) a.mean[r] = mean;
    a.rstd[r] = rstd;
    const float *weight = a.weight, *bias = a.bias;
    float* y = a.y + r * w;
    for_vectors(0, w, [=](int64_t i, svbool_t p) {
      const V hat = mul(sub(svld1(p, x + i), set(mean)), set(rstd));
      const V g = svld1(p, weight + i);
      svst1(p, y + i, bias ? mla(svld1(p, bias + i), hat, g) : mul(hat, g));
    });
  }
}

/* dx = rstd (g - mean(g) - x̂ mean(g x̂)), g = dy weight; RMSNorm has no mean(g). */
void norm_backward(const NormBackward& a, int64_t row_begin, int64_t row_end) {
  const int64_t w = a.width, n = lanes();
  const float inverse = 1.0f / static_cast<float>(w);
  const float* weight = a.weight;
  for (int64_t r = row_begin; r < row_end; ++r) {
    const float *dy = a.dy + r * w, *x = a.x + r * w;
    const float mean = a.mean ? a.mean[r] : 0.0f, rstd = a.rstd[r];
    // Both sums in one pass, each in two parts; lanes past the end load as zero, which g = 0 makes harmless.
    V g0 = set(0.0f), g1 = g0, q0 = g0, q1 = g0;
    const auto g_at = [=](int64_t i, svbool_t p) { return mul(svld1(p, dy + i), svld1(p, weight + i)); };
    const auto hat_at = [=](int64_t i, svbool_t p) { return mul(sub(svld1(p, x + i), set(mean)), set(rstd)); };
    for (int64_t i = 0; i < w; i += 2 * n) {
      const svbool_t p = first(w - i), p1 = first(w - i - n);
      const V a0 = g_at(i, p), a1 = g_at(i + n, p1);
      g0 = add(g0, a0);
      g1 = add(g1, a1);
      q0 = mla(q0, a0, hat_at(i, p));
      q1 = mla(q1, a1, hat_at(i + n, p1));
    }
    const float mean_g = a.mean ? sum_lanes(add(g0, g1)) * inverse : 0.0f;
    const float mean_gx = sum_lanes(add(q0, q1)) * inverse;
    const float* addend = a.addend ? a.addend + r * w : nullptr;
    float* dx = a.dx + r * w;
    for_vectors(0, w, [=](int64_t i, svbool_t p) {
      V v = mul(set(rstd), sub(g_at(i, p), mla(set(mean_g), hat_at(i, p), set(mean_gx))));
      if (addend) v = add(v, svld1(p, addend + i));
      svst1(p, dx + i, v);
    });
  }
}

/* Column sums: four vectors of columns run down the rows together. Row r gives its part by add_row(r, offset, p,
 * sum). */
template <class AddRow>
inline __attribute__((always_inline)) void column_sums(int64_t rows, int64_t begin, int64_t end, const float* addend,
                                                       float* y, const AddRow& add_row) {
  const int64_t n = lanes();
  for (int64_t j = begin; j < end; j += 4 * n) {
    const svbool_t p0 = first(end - j), p1 = first(end - j - n), p2 = first(end - j - 2 * n),
                   p3 = first(end - j - 3 * n);
    V t0 = set(0.0f), t1 = t0, t2 = t0, t3 = t0;
    for (int64_t r0 = 0; r0 < rows; r0 += kGroup) {
      V s0 = set(0.0f), s1 = s0, s2 = s0, s3 = s0;
      for (int64_t r = r0; r < std::min(rows, r0 + kGroup); ++r) {
        s0 = add_row(r, j, p0, s0);
        s1 = add_row(r, j + n, p1, s1);
        s2 = add_row(r, j + 2 * n, p2, s2);
        s3 = add_row(r, j + 3 * n, p3, s3);
      }
      t0 = add(t0, s0);
      t1 = add(t1, s1);
      t2 = add(t2, s2);
      t3 = add(t3, s3);
    }
    const auto put = [=](svbool_t p, int64_t at, V v) { svst1(p, y + at, addend ? add(v, svld1(p, addend + at)) : v); };
    put(p0, j, t0);
    put(p1, j + n, t1);
    put(p2, j + 2 * n, t2);
    put(p3, j + 3 * n, t3);
  }
}

void sum_rows(const float* x, int64_t rows, int64_t width, int64_t begin, int64_t end, const float* addend, float* y) {
  column_sums(rows, begin, end, addend, y,
              [=](int64_t r, int64_t at, svbool_t p, V s) { return add(s, svld1(p, x + r * width + at)); });
}

void norm_backward_weight(const NormBackward& a, int64_t rows, int64_t begin, int64_t end, const float* weight_addend,
                          const float* bias_addend, float* d_weight, float* d_bias) {
  const int64_t w = a.width;
  const float *dy = a.dy, *x = a.x, *means = a.mean, *rstds = a.rstd;
  column_sums(rows, begin, end, weight_addend, d_weight, [=](int64_t r, int64_t at, svbool_t p, V s) {
    const V hat = mul(sub(svld1(p, x + r * w + at), set(means ? means[r] : 0.0f)), set(rstds[r]));
    return mla(s, svld1(p, dy + r * w + at), hat);
  });
  if (d_bias) sum_rows(dy, rows, w, begin, end, bias_addend, d_bias);
}

} // namespace

const NormFunctions kNorms = {
    .forward = norm_forward, .backward = norm_backward, .backward_weight = norm_backward_weight, .sum_rows = sum_rows};

} // namespace kumiki::sve
