#include "plugins/kernels/generic/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "plugins/kernels/generic/update/update.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>

#include "plugins/kernels/generic/kernels.h"
#include "plugins/kernels/generic/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kumiki::generic {
namespace HWY_NAMESPACE {
namespace {

double SumSquares(const float* x, int64_t n) {
  const F d;
  const int64_t step = lanes();
  double total = 0.0;
  for (int64_t begin = 0; begin < n; begin += 4096) {
    const int64_t end = std::min(n, begin + 4096);
    V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = begin;
    for (; i + 4 * step <= end; i += 4 * step) {
      const V a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + step);
      const V c = hn::LoadU(d, x + i + 2 * step), e = hn::LoadU(d, x + i + 3 * step);
      s0 = hn::MulAdd(a, a, s0);
      s1 = hn::MulAdd(b, b, s1);
      s2 = hn::MulAdd(c, c, s2);
      s3 = hn::MulAdd(e, e, s3);
    }
    for (; i < end; i += step) {
      const V a = load_upto(x + i, end - i);
      s0 = hn::MulAdd(a, a, s0);
    }
    total += static_cast<double>(sum_lanes(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  }
  return total;
}

void AdamWLoop(const AdamW& a, const AdamWArrays& x, int64_t begin, int64_t end) {
  const V b1 = set(a.beta1), b2 = set(a.beta2), c1 = set(a.rest1), c2 = set(a.rest2);
  const V scale = set(a.gradient_scale), step1 = set(a.step1), inverse2 = set(a.inverse2), epsilon = set(a.epsilon);
  const V decay = set(a.decay);
  const int64_t n = lanes();
  for (int64_t i = begin; i < end; i += n) {
    const int64_t left = end - i;
    const V p = load_upto(x.p + i, left), g = hn::Mul(load_upto(x.g + i, left), scale);
    const V m = hn::MulAdd(b1, load_upto(x.m + i, left), hn::Mul(c1, g));
    const V v = hn::MulAdd(b2, load_upto(x.v + i, left), hn::Mul(c2, hn::Mul(g, g)));
    const V root = hn::Add(hn::Sqrt(hn::Mul(v, inverse2)), epsilon);
    const V change = hn::MulAdd(decay, p, hn::Div(hn::Mul(step1, m), root));
    store_upto(m, x.m_out + i, left);
    store_upto(v, x.v_out + i, left);
    store_upto(hn::Sub(p, change), x.p_out + i, left);
  }
}

} // namespace
} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kumiki::generic {
HWY_EXPORT(SumSquares);
HWY_EXPORT(AdamWLoop);

namespace {

double sum_squares(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(SumSquares)(x, n); }
void adamw(const AdamW& step, const AdamWArrays& arrays, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(AdamWLoop)(step, arrays, begin, end);
}

} // namespace

const UpdateFunctions kUpdates = {.sum_squares = sum_squares, .adamw = adamw};
} // namespace kumiki::generic
#endif
