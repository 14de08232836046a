/* Vector helpers shared by the SIMD files: loads and stores of part of a vector, exp and the activations made of it,
 * a 4x4 transpose. Compiled once for each target (see Highway's foreach_target.h), hence the toggled guard. */
#if defined(KUMIKI_GENERIC_SIMD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef KUMIKI_GENERIC_SIMD_INL_H
#undef KUMIKI_GENERIC_SIMD_INL_H
#else
#define KUMIKI_GENERIC_SIMD_INL_H
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace kumiki::generic {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;

HWY_INLINE int64_t lanes() { return static_cast<int64_t>(hn::Lanes(F())); }

/* The first n floats of p, zero in the other lanes; touches no memory behind them. 0 <= n <= lanes. */
HWY_INLINE V load_n(const float* p, int64_t n) {
  const F d;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(n)), d, p);
#else
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(float));
  return hn::Load(d, buffer);
#endif
}

HWY_INLINE void store_n(V v, float* p, int64_t n) {
  const F d;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(n)), d, p);
#else
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, d, buffer);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(float));
#endif
}

/* Whole vectors when n is at least their width, else a part: for loops that end in a tail. */
HWY_INLINE V load_upto(const float* p, int64_t n) { return n >= lanes() ? hn::LoadU(F(), p) : load_n(p, n); }
HWY_INLINE void store_upto(V v, float* p, int64_t n) {
  if (n >= lanes()) {
    hn::StoreU(v, F(), p);
  } else {
    store_n(v, p, n);
  }
}

HWY_INLINE V set(float x) { return hn::Set(F(), x); }
HWY_INLINE float sum_lanes(V v) { return hn::GetLane(hn::SumOfLanes(F(), v)); }

/* e^x for x <= 88.3, exactly 0 below -87.3. Range reduction by ln 2 in two parts and the degree-6 polynomial of Cephes'
 * expf; about 1 ulp. */
HWY_INLINE V exp_fast(V x) {
  const F d;
  const hn::RebindToSigned<F> di;
  const auto normal = hn::Gt(x, hn::Set(d, -87.3f));
  x = hn::Min(hn::Max(x, hn::Set(d, -87.3f)), hn::Set(d, 88.3f));
  const V n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  V p = hn::MulAdd(hn::Set(d, 1.9875691500e-4f), r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::MulAdd(p, hn::Mul(r, r), hn::Add(r, hn::Set(d, 1.0f)));
  const auto power = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::IfThenElseZero(normal, hn::Mul(p, hn::BitCast(d, power)));
}

HWY_INLINE V sigmoid(V x) {
  const V one = set(1.0f);
  return hn::Div(one, hn::Add(one, exp_fast(hn::Neg(x))));
}

/* GELU in its tanh form: x sigmoid(2z), z = sqrt(2/pi) (x + 0.044715 x^3). */
constexpr float kGelu1 = 2.0f * 0.7978845608f;
constexpr float kGelu3 = kGelu1 * 0.044715f;

HWY_INLINE V gelu(V x) {
  const V z = hn::Mul(x, hn::MulAdd(hn::Mul(x, x), set(kGelu3), set(kGelu1)));
  return hn::Mul(x, sigmoid(z));
}

HWY_INLINE V gelu_slope(V x) {
  const V x2 = hn::Mul(x, x);
  const V s = sigmoid(hn::Mul(x, hn::MulAdd(x2, set(kGelu3), set(kGelu1))));
  const V dz = hn::Mul(x, hn::MulAdd(x2, set(3.0f * kGelu3), set(kGelu1)));
  return hn::Mul(s, hn::MulAdd(dz, hn::Sub(set(1.0f), s), set(1.0f)));
}

HWY_INLINE V silu(V x) { return hn::Mul(x, sigmoid(x)); }

HWY_INLINE V silu_slope(V x) {
  const V s = sigmoid(x);
  return hn::Mul(s, hn::MulAdd(x, hn::Sub(set(1.0f), s), set(1.0f)));
}

/* Transposes a 4x4 block: to[j * to_row + i] = from[i * from_row + j]. */
HWY_INLINE void transpose_4x4(const float* from, int64_t from_row, float* to, int64_t to_row) {
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<uint64_t, 2> dw;
  const auto r0 = hn::LoadU(d, from), r1 = hn::LoadU(d, from + from_row);
  const auto r2 = hn::LoadU(d, from + 2 * from_row), r3 = hn::LoadU(d, from + 3 * from_row);
  const auto low01 = hn::BitCast(dw, hn::InterleaveLower(d, r0, r1)),
             low23 = hn::BitCast(dw, hn::InterleaveLower(d, r2, r3));
  const auto up01 = hn::BitCast(dw, hn::InterleaveUpper(d, r0, r1)),
             up23 = hn::BitCast(dw, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, low01, low23)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, low01, low23)), d, to + to_row);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, up01, up23)), d, to + 2 * to_row);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, up01, up23)), d, to + 3 * to_row);
}

/* to [columns, to_row] = transpose of from [rows, from_row]. */
HWY_INLINE void transpose(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to,
                          int64_t to_row) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4) transpose_4x4(from + i * from_row + j, from_row, to + j * to_row + i, to_row);
    for (; j < columns; ++j)
      for (int64_t r = 0; r < 4; ++r) to[j * to_row + i + r] = from[(i + r) * from_row + j];
  }
  for (; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) to[j * to_row + i] = from[i * from_row + j];
}

} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#endif
