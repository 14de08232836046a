#include "plugins/kernels/generic/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "plugins/kernels/generic/position/position.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "plugins/kernels/generic/kernels.h"
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

void Add(const float* a, const float* b, float* y, int64_t n) {
  const F d;
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step) hn::StoreU(hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i);
  if (i < n) store_n(hn::Add(load_n(a + i, n - i), load_n(b + i, n - i)), y + i, n - i);
}

void AddTokenRows(const TokenRows& r, int64_t begin, int64_t end) {
  for (int64_t t = 0; t < r.count; ++t) {
    const int64_t at = r.part.row(r.tokens[t]);
    if (at < 0) continue;
    float* row = r.y + at * r.width + begin;
    Add(row, r.dy + t * r.width + begin, row, end - begin);
  }
}

} // namespace
} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kumiki::generic {
HWY_EXPORT(RopeToken);
HWY_EXPORT(Add);
HWY_EXPORT(AddTokenRows);

namespace {

void rope_token(const float* x, const float* cosine, const float* sine, int64_t heads, int64_t width, float* y) {
  HWY_DYNAMIC_DISPATCH(RopeToken)(x, cosine, sine, heads, width, y);
}
void add_rows(const float* a, const float* b, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(Add)(a, b, y, n); }
void add_token_rows(const TokenRows& rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(AddTokenRows)(rows, begin, end);
}

} // namespace

const PositionFunctions kPositions = {.rope_token = rope_token, .add = add_rows, .add_token_rows = add_token_rows};
} // namespace kumiki::generic
#endif
