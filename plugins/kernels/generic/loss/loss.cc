#include "plugins/kernels/generic/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "plugins/kernels/generic/loss/loss.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>
#include <cmath>

#include "plugins/kernels/generic/kernels.h"
#include "plugins/kernels/generic/loss/loss.h"
#include "plugins/kernels/generic/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kumiki::generic {
namespace HWY_NAMESPACE {
namespace {

constexpr float kLowest = -3.0e38f;

float RowMaximum(const float* x, int64_t n) {
  const F d;
  const int64_t step = lanes(), whole = n / step * step;
  V m0 = hn::Set(d, kLowest), m1 = m0;
  int64_t i = 0;
  for (; i + 2 * step <= whole; i += 2 * step) {
    m0 = hn::Max(m0, hn::LoadU(d, x + i));
    m1 = hn::Max(m1, hn::LoadU(d, x + i + step));
  }
  for (; i < whole; i += step) m0 = hn::Max(m0, hn::LoadU(d, x + i));
  float maximum = hn::GetLane(hn::MaxOfLanes(d, hn::Max(m0, m1)));
  for (; i < n; ++i) maximum = std::max(maximum, x[i]);
  return maximum;
}

float RowSumExp(const float* x, int64_t n, float maximum) {
  const F d;
  const int64_t step = lanes(), whole = n / step * step;
  const V m = hn::Set(d, maximum);
  V s0 = hn::Zero(d), s1 = s0;
  int64_t i = 0;
  for (; i + 2 * step <= whole; i += 2 * step) {
    s0 = hn::Add(s0, exp_fast(hn::Sub(hn::LoadU(d, x + i), m)));
    s1 = hn::Add(s1, exp_fast(hn::Sub(hn::LoadU(d, x + i + step), m)));
  }
  for (; i < whole; i += step) s0 = hn::Add(s0, exp_fast(hn::Sub(hn::LoadU(d, x + i), m)));
  float sum = sum_lanes(hn::Add(s0, s1));
  for (; i < n; ++i) sum += std::exp(x[i] - maximum);
  return sum;
}

float RowLogSum(const float* x, int64_t n) {
  const float maximum = RowMaximum(x, n);
  return maximum + std::log(RowSumExp(x, n, maximum));
}

void RowGradient(const float* x, int64_t n, float log_sum, float scale, float* y) {
  const V l = set(log_sum), s = set(scale);
  for (int64_t i = 0; i < n; i += lanes())
    store_upto(hn::Mul(s, exp_fast(hn::Sub(load_upto(x + i, n - i), l))), y + i, n - i);
}

/* Columns in whole vectors: a tile's pitch is a multiple of the vector width, and what stands past `columns` is
 * unused. */
void TileStatistics(const float* tile, int64_t rows, int64_t columns, int64_t pitch, float* maximum, float* sum) {
  const F d;
  const int64_t n = lanes();
  for (int64_t j = 0; j < columns; j += n) {
    const float* x = tile + j;
    V m0 = hn::Set(d, kLowest), m1 = m0;
    int64_t i = 0;
    for (; i + 2 <= rows; i += 2) {
      m0 = hn::Max(m0, hn::LoadU(d, x + i * pitch));
      m1 = hn::Max(m1, hn::LoadU(d, x + (i + 1) * pitch));
    }
    if (i < rows) m0 = hn::Max(m0, hn::LoadU(d, x + i * pitch));
    m0 = hn::Max(m0, m1);
    V s0 = hn::Zero(d), s1 = s0;
    for (i = 0; i + 2 <= rows; i += 2) {
      s0 = hn::Add(s0, exp_fast(hn::Sub(hn::LoadU(d, x + i * pitch), m0)));
      s1 = hn::Add(s1, exp_fast(hn::Sub(hn::LoadU(d, x + (i + 1) * pitch), m0)));
    }
    if (i < rows) s0 = hn::Add(s0, exp_fast(hn::Sub(hn::LoadU(d, x + i * pitch), m0)));
    hn::StoreU(m0, d, maximum + j);
    hn::StoreU(hn::Add(s0, s1), d, sum + j);
  }
}

void TileGradient(float* tile, int64_t rows, int64_t columns, int64_t pitch, const float* log_sum, const float* scale) {
  const F d;
  const int64_t n = lanes();
  for (int64_t j = 0; j < columns; j += n) {
    const V l = hn::LoadU(d, log_sum + j), s = hn::LoadU(d, scale + j);
    float* x = tile + j;
    int64_t i = 0;
    for (; i + 2 <= rows; i += 2) {
      const V a = hn::Mul(s, exp_fast(hn::Sub(hn::LoadU(d, x + i * pitch), l)));
      const V b = hn::Mul(s, exp_fast(hn::Sub(hn::LoadU(d, x + (i + 1) * pitch), l)));
      hn::StoreU(a, d, x + i * pitch);
      hn::StoreU(b, d, x + (i + 1) * pitch);
    }
    if (i < rows) hn::StoreU(hn::Mul(s, exp_fast(hn::Sub(hn::LoadU(d, x + i * pitch), l))), d, x + i * pitch);
  }
}

} // namespace
} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kumiki::generic {
HWY_EXPORT(RowMaximum);
HWY_EXPORT(RowSumExp);
HWY_EXPORT(RowLogSum);
HWY_EXPORT(RowGradient);
HWY_EXPORT(TileStatistics);
HWY_EXPORT(TileGradient);

float row_maximum(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(RowMaximum)(x, n); }
float row_sum_exp(const float* x, int64_t n, float maximum) { return HWY_DYNAMIC_DISPATCH(RowSumExp)(x, n, maximum); }
float row_log_sum(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(RowLogSum)(x, n); }
void row_gradient(const float* x, int64_t n, float log_sum, float scale, float* y) {
  HWY_DYNAMIC_DISPATCH(RowGradient)(x, n, log_sum, scale, y);
}
void tile_statistics(const float* tile, int64_t rows, int64_t columns, int64_t pitch, float* maximum, float* sum) {
  HWY_DYNAMIC_DISPATCH(TileStatistics)(tile, rows, columns, pitch, maximum, sum);
}
void tile_gradient(float* tile, int64_t rows, int64_t columns, int64_t pitch, const float* log_sum,
                   const float* scale) {
  HWY_DYNAMIC_DISPATCH(TileGradient)(tile, rows, columns, pitch, log_sum, scale);
}

const LossFunctions kLosses = {.row_maximum = row_maximum, .row_sum_exp = row_sum_exp, .row_gradient = row_gradient};
} // namespace kumiki::generic
#endif
