#include "plugins/kernels/generic/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "plugins/kernels/generic/position/rope.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "plugins/kernels/generic/position/rope.h"
#include "plugins/kernels/generic/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kumiki::generic {
namespace HWY_NAMESPACE {
namespace {

void RopeToken(const float* x, const float* cosine, const float* sine, int64_t heads, int64_t width, float* y) {
  const int64_t half = width / 2, n = lanes();
  for (int64_t h = 0; h < heads; ++h, x += width, y += width) {
    for (int64_t i = 0; i < half; i += n) {
      const int64_t left = half - i;
      const V a = load_upto(x + i, left), b = load_upto(x + half + i, left);
      const V c = load_upto(cosine + i, left), s = load_upto(sine + i, left);
      store_upto(hn::NegMulAdd(b, s, hn::Mul(a, c)), y + i, left);
      store_upto(hn::MulAdd(a, s, hn::Mul(b, c)), y + half + i, left);
    }
    if (width % 2) y[width - 1] = x[width - 1];
  }
}

} // namespace
} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kumiki::generic {
HWY_EXPORT(RopeToken);
void rope_token(const float* x, const float* cosine, const float* sine, int64_t heads, int64_t width, float* y) {
  HWY_DYNAMIC_DISPATCH(RopeToken)(x, cosine, sine, heads, width, y);
}
} // namespace kumiki::generic
#endif
