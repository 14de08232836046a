#include "plugins/kernels/sve/loss/loss.h"

#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

float row_maximum(const float* x, int64_t n) {
  const int64_t step = lanes();
  V m0 = set(x[0]), m1 = m0, m2 = m0, m3 = m0;
  // Lanes past the end stay as they are.
  for (int64_t i = 0; i < n; i += 4 * step) {
    const svbool_t p0 = first(n - i), p1 = first(n - i - step), p2 = first(n - i - 2 * step),
                   p3 = first(n - i - 3 * step);
    m0 = svmax_m(p0, m0, svld1(p0, x + i));
    m1 = svmax_m(p1, m1, svld1(p1, x + i + step));
    m2 = svmax_m(p2, m2, svld1(p2, x + i + 2 * step));
    m3 = svmax_m(p3, m3, svld1(p3, x + i + 3 * step));
  }
  return svmaxv(all(), svmax_x(all(), svmax_x(all(), m0, m1), svmax_x(all(), m2, m3)));
}

float row_sum_exp(const float* x, int64_t n, float maximum) {
  const int64_t step = lanes();
  V s0 = set(0.0f), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t i = 0; i < n; i += 4 * step) {
    const svbool_t p0 = first(n - i), p1 = first(n - i - step), p2 = first(n - i - 2 * step),
                   p3 = first(n - i - 3 * step);
    s0 = svadd_m(p0, s0, exp_bounded(sub(svld1(p0, x + i), set(maximum))));
    s1 = svadd_m(p1, s1, exp_bounded(sub(svld1(p1, x + i + step), set(maximum))));
    s2 = svadd_m(p2, s2, exp_bounded(sub(svld1(p2, x + i + 2 * step), set(maximum))));
    s3 = svadd_m(p3, s3, exp_bounded(sub(svld1(p3, x + i + 3 * step), set(maximum))));
  }
  return sum_lanes(add(add(s0, s1), add(s2, s3)));
}

void row_gradient(const float* x, int64_t n, float log_sum, float scale, float* y) {
  for_vectors(0, n, [=](int64_t i, svbool_t p) {
    svst1(p, y + i, mul(set(scale), exp_bounded(sub(svld1(p, x + i), set(log_sum)))));
  });
}

} // namespace

const LossFunctions kLosses = {.row_maximum = row_maximum, .row_sum_exp = row_sum_exp, .row_gradient = row_gradient};

void tile_statistics(const float* tile, int64_t rows, int64_t columns, int64_t pitch, float* maximum, float* sum) {
  const int64_t n = lanes();
  const svbool_t p = all();
  for (int64_t j = 0; j < columns; j += n) {
    const float* x = tile + j;
    V m0 = svld1(p, x), m1 = m0, m2 = m0, m3 = m0;
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
      m0 = svmax_x(p, m0, svld1(p, x + i * pitch));
      m1 = svmax_x(p, m1, svld1(p, x + (i + 1) * pitch));
      m2 = svmax_x(p, m2, svld1(p, x + (i + 2) * pitch));
      m3 = svmax_x(p, m3, svld1(p, x + (i + 3) * pitch));
    }
    for (; i < rows; ++i) m0 = svmax_x(p, m0, svld1(p, x + i * pitch));
    const V m = svmax_x(p, svmax_x(p, m0, m1), svmax_x(p, m2, m3));
    V s0 = set(0.0f), s1 = s0, s2 = s0, s3 = s0;
    for (i = 0; i + 4 <= rows; i += 4) {
      s0 = add(s0, exp_bounded(sub(svld1(p, x + i * pitch), m)));
      s1 = add(s1, exp_bounded(sub(svld1(p, x + (i + 1) * pitch), m)));
      s2 = add(s2, exp_bounded(sub(svld1(p, x + (i + 2) * pitch), m)));
      s3 = add(s3, exp_bounded(sub(svld1(p, x + (i + 3) * pitch), m)));
    }
    for (; i < rows; ++i) s0 = add(s0, exp_bounded(sub(svld1(p, x + i * pitch), m)));
    svst1(p, maximum + j, m);
    svst1(p, sum + j, add(add(s0, s1), add(s2, s3)));
  }
}

void tile_gradient(float* tile, int64_t rows, int64_t columns, int64_t pitch, const float* log_sum,
                   const float* scale) {
  const int64_t n = lanes();
  const svbool_t p = all();
  for (int64_t j = 0; j < columns; j += n) {
    const V l = svld1(p, log_sum + j), s = svld1(p, scale + j);
    float* x = tile + j;
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
      float* at = x + i * pitch;
      const V e0 = exp_bounded(sub(svld1(p, at), l)), e1 = exp_bounded(sub(svld1(p, at + pitch), l));
      const V e2 = exp_bounded(sub(svld1(p, at + 2 * pitch), l)), e3 = exp_bounded(sub(svld1(p, at + 3 * pitch), l));
      svst1(p, at, mul(s, e0));
      svst1(p, at + pitch, mul(s, e1));
      svst1(p, at + 2 * pitch, mul(s, e2));
      svst1(p, at + 3 * pitch, mul(s, e3));
    }
    for (; i < rows; ++i) svst1(p, x + i * pitch, mul(s, exp_bounded(sub(svld1(p, x + i * pitch), l))));
  }
}

} // namespace kumiki::sve
