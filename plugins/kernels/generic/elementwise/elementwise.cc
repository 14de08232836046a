#include "plugins/kernels/generic/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "plugins/kernels/generic/elementwise/elementwise.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <cmath>

#include "hwy/contrib/math/math-inl.h"
#include "plugins/kernels/generic/kernels.h"
#include "plugins/kernels/generic/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kumiki::generic {
namespace HWY_NAMESPACE {
namespace {

template <class Function>
HWY_INLINE void map1(const float* x, float* y, int64_t n, const Function& f) {
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step) hn::StoreU(f(hn::LoadU(F(), x + i)), F(), y + i);
  if (i < n) store_n(f(load_n(x + i, n - i)), y + i, n - i);
}

template <class Function>
HWY_INLINE void map2(const float* a, const float* b, float* y, int64_t n, const Function& f) {
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step) hn::StoreU(f(hn::LoadU(F(), a + i), hn::LoadU(F(), b + i)), F(), y + i);
  if (i < n) store_n(f(load_n(a + i, n - i), load_n(b + i, n - i)), y + i, n - i);
}

void UnaryLoop(Unary function, const float* x, float* y, int64_t n) {
  const F d;
  switch (function) {
    case Unary::kNegate: return map1(x, y, n, [](V v) HWY_ATTR { return hn::Neg(v); });
    case Unary::kSquare: return map1(x, y, n, [](V v) HWY_ATTR { return hn::Mul(v, v); });
    case Unary::kSqrt: return map1(x, y, n, [](V v) HWY_ATTR { return hn::Sqrt(v); });
    case Unary::kReciprocal: return map1(x, y, n, [d](V v) HWY_ATTR { return hn::Div(hn::Set(d, 1.0f), v); });
    case Unary::kExp: return map1(x, y, n, [d](V v) HWY_ATTR { return hn::Exp(d, v); });
    case Unary::kLog: return map1(x, y, n, [d](V v) HWY_ATTR { return hn::Log(d, v); });
    case Unary::kAbs: return map1(x, y, n, [](V v) HWY_ATTR { return hn::Abs(v); });
    case Unary::kSign:
      return map1(x, y, n, [d](V v) HWY_ATTR {
        const V zero = hn::Zero(d), one = hn::Set(d, 1.0f);
        return hn::Sub(hn::IfThenElseZero(hn::Gt(v, zero), one), hn::IfThenElseZero(hn::Lt(v, zero), one));
      });
    case Unary::kTanh: return map1(x, y, n, [d](V v) HWY_ATTR { return hn::Tanh(d, v); });
    case Unary::kGelu: return map1(x, y, n, [](V v) HWY_ATTR { return gelu(v); });
    case Unary::kSilu: return map1(x, y, n, [](V v) HWY_ATTR { return silu(v); });
  }
}

template <class Function>
HWY_INLINE void broadcast2(const float* a, int a_step, const float* b, int b_step, float* y, int64_t n,
                           const Function& f) {
  if (a_step && b_step) return map2(a, b, y, n, f);
  // The one element is captured as such: vectors of SVE have no size and cannot stand in a closure.
  const float left = *a, right = *b;
  if (a_step) return map1(a, y, n, [&f, right](V v) HWY_ATTR { return f(v, set(right)); });
  if (b_step) return map1(b, y, n, [&f, left](V v) HWY_ATTR { return f(set(left), v); });
  const V both = f(set(left), set(right));
  for (int64_t i = 0; i < n; i += lanes()) store_upto(both, y + i, n - i);
}

void BinaryLoop(Binary function, const float* a, int a_step, const float* b, int b_step, float* y, int64_t n) {
  switch (function) {
    case Binary::kAdd: return broadcast2(a, a_step, b, b_step, y, n, [](V p, V q) HWY_ATTR { return hn::Add(p, q); });
    case Binary::kSubtract:
      return broadcast2(a, a_step, b, b_step, y, n, [](V p, V q) HWY_ATTR { return hn::Sub(p, q); });
    case Binary::kMultiply:
      return broadcast2(a, a_step, b, b_step, y, n, [](V p, V q) HWY_ATTR { return hn::Mul(p, q); });
    case Binary::kDivide:
      return broadcast2(a, a_step, b, b_step, y, n, [](V p, V q) HWY_ATTR { return hn::Div(p, q); });
    case Binary::kMaximum:
      return broadcast2(a, a_step, b, b_step, y, n, [](V p, V q) HWY_ATTR { return hn::Max(p, q); });
    case Binary::kMinimum:
      return broadcast2(a, a_step, b, b_step, y, n, [](V p, V q) HWY_ATTR { return hn::Min(p, q); });
    case Binary::kPower: // rare; the C library's accuracy matters more than speed
      for (int64_t i = 0; i < n; ++i)
        y[i] = static_cast<float>(std::pow(static_cast<double>(a[i * a_step]), static_cast<double>(b[i * b_step])));
      return;
  }
}

template <class Slope>
HWY_INLINE void backward(const float* dy, const float* x, const float* addend, float* dx, int64_t n,
                         const Slope& slope) {
  const int64_t step = lanes();
  for (int64_t i = 0; i < n; i += step) {
    const int64_t left = n - i;
    V r = hn::Mul(load_upto(dy + i, left), slope(load_upto(x + i, left)));
    if (addend) r = hn::Add(r, load_upto(addend + i, left));
    store_upto(r, dx + i, left);
  }
}

void GeluBackward(const float* dy, const float* x, const float* addend, float* dx, int64_t n) {
  backward(dy, x, addend, dx, n, [](V v) HWY_ATTR { return gelu_slope(v); });
}
void SiluBackward(const float* dy, const float* x, const float* addend, float* dx, int64_t n) {
  backward(dy, x, addend, dx, n, [](V v) HWY_ATTR { return silu_slope(v); });
}

void Swiglu(const float* gate, const float* up, float* y, int64_t n) {
  map2(gate, up, y, n, [](V g, V u) HWY_ATTR { return hn::Mul(silu(g), u); });
}

void SwigluBackward(const float* dy, const float* gate, const float* up, float* d_gate, float* d_up, int64_t n) {
  const int64_t step = lanes();
  for (int64_t i = 0; i < n; i += step) {
    const int64_t left = n - i;
    const V g = load_upto(gate + i, left), d = load_upto(dy + i, left), u = load_upto(up + i, left);
    const V s = sigmoid(g);
    const V slope = hn::Mul(s, hn::MulAdd(g, hn::Sub(set(1.0f), s), set(1.0f)));
    store_upto(hn::Mul(hn::Mul(d, u), slope), d_gate + i, left);
    store_upto(hn::Mul(d, hn::Mul(g, s)), d_up + i, left);
  }
}

void Scale(float factor, const float* x, float* y, int64_t n) {
  map1(x, y, n, [factor](V v) HWY_ATTR { return hn::Mul(v, set(factor)); });
}

void Select(const float* c, const float* a, const float* b, float* y, int64_t n) {
  const int64_t step = lanes();
  for (int64_t i = 0; i < n; i += step) {
    const int64_t left = n - i;
    const auto no = hn::Eq(load_upto(c + i, left), hn::Zero(F()));
    store_upto(hn::IfThenElse(no, load_upto(b + i, left), load_upto(a + i, left)), y + i, left);
  }
}

void BiasAdd(const float* x, const float* bias, float* y, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r)
    map2(x + r * width, bias, y + r * width, width, [](V p, V q) HWY_ATTR { return hn::Add(p, q); });
}

void F32ToBf16(const float* x, uint16_t* y, int64_t n) {
  const F d;
  const hn::RebindToUnsigned<F> du;
  const hn::Rebind<uint16_t, F> dh;
  const int64_t step = lanes();
  HWY_ALIGN uint16_t buffer[HWY_MAX_BYTES / sizeof(float)];
  for (int64_t i = 0; i < n; i += step) {
    const V v = load_upto(x + i, n - i);
    const auto u = hn::BitCast(du, v);
    const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1u));
    const auto rounded = hn::ShiftRight<16>(hn::Add(u, hn::Add(odd, hn::Set(du, 0x7fffu))));
    // the rounding would carry a NaN's mantissa into the sign: keep its upper half and set the quiet bit
    const auto nan = hn::Or(hn::ShiftRight<16>(u), hn::Set(du, 0x40u));
    const auto is_nan = hn::RebindMask(du, hn::Ne(v, v));
    const auto half = hn::TruncateTo(dh, hn::IfThenElse(is_nan, nan, rounded));
    if (i + step <= n) {
      hn::StoreU(half, dh, y + i);
    } else {
      hn::Store(half, dh, buffer);
      std::memcpy(y + i, buffer, static_cast<size_t>(n - i) * sizeof(uint16_t));
    }
  }
  (void)d;
}

void Bf16ToF32(const uint16_t* x, float* y, int64_t n) {
  const hn::RebindToUnsigned<F> du;
  const hn::Rebind<uint16_t, F> dh;
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step)
    hn::StoreU(hn::BitCast(F(), hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(dh, x + i)))), F(), y + i);
  for (; i < n; ++i) {
    const uint32_t bits = static_cast<uint32_t>(x[i]) << 16;
    std::memcpy(y + i, &bits, sizeof bits);
  }
}

using U = hn::RebindToUnsigned<F>;
using VU = hn::Vec<U>;

HWY_INLINE VU low_product(VU a, VU b) { return hn::Mul(a, b); }
HWY_INLINE VU high_product(VU a, VU b) {
  const U du;
  const hn::RepartitionToWide<U> dw;
  const auto even = hn::ShiftRight<32>(hn::MulEven(a, b));
  const auto odd = hn::MulEven(hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(dw, a))), b);
  const auto upper = hn::BitCast(du, odd); // its odd lanes hold the high words of the odd products
  return hn::OddEven(upper, hn::BitCast(du, even));
}

/* Philox4x32-10 (Salmon et al. 2011): a vector of counters at a time, each giving the words of four elements. */
void DropoutLoop(const Dropout& p, int64_t begin, const float* x, float* y, int64_t n) {
  const U du;
  const int64_t step = lanes(), elements = 4 * step;
  const V factor = set(p.factor), zero = hn::Zero(F());
  const bool none_kept = p.threshold > 0xffffffffu;
  const VU threshold = hn::Set(du, static_cast<uint32_t>(p.threshold));
  HWY_ALIGN uint32_t words[4 * HWY_MAX_BYTES / sizeof(uint32_t)];
  for (int64_t e = 0; e < n; e += elements) {
    const uint64_t counter = static_cast<uint64_t>(begin + e) / 4;
    const VU first = hn::Iota(du, static_cast<uint32_t>(counter));
    VU c0 = first;
    // a counter's low word may wrap inside the vector
    const auto wrapped = hn::Lt(first, hn::Set(du, static_cast<uint32_t>(counter)));
    VU c1 = hn::Add(hn::Set(du, static_cast<uint32_t>(counter >> 32)), hn::IfThenElseZero(wrapped, hn::Set(du, 1u)));
    VU c2 = hn::Set(du, static_cast<uint32_t>(p.sample)), c3 = hn::Set(du, static_cast<uint32_t>(p.sample >> 32));
    uint32_t k0 = static_cast<uint32_t>(p.seed) ^ p.stream, k1 = static_cast<uint32_t>(p.seed >> 32);
    const VU m0 = hn::Set(du, 0xD2511F53u), m1 = hn::Set(du, 0xCD9E8D57u);
    for (int round = 0; round < 10; ++round) {
      const VU h0 = high_product(c0, m0), l0 = low_product(c0, m0), h1 = high_product(c2, m1), l1 = low_product(c2, m1);
      c0 = hn::Xor(hn::Xor(h1, c1), hn::Set(du, k0));
      c1 = l1;
      c2 = hn::Xor(hn::Xor(h0, c3), hn::Set(du, k1));
      c3 = l0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, du, words);
    for (int64_t j = 0; j < 4 && e + j * step < n; ++j) {
      const int64_t at = e + j * step, left = n - at;
      const auto drop = hn::RebindMask(F(), hn::Lt(hn::Load(du, words + j * step), threshold));
      const V kept = hn::Mul(load_upto(x + at, left), factor);
      store_upto(none_kept ? zero : hn::IfThenElse(drop, zero, kept), y + at, left);
    }
  }
}

} // namespace
} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kumiki::generic {
HWY_EXPORT(UnaryLoop);
HWY_EXPORT(BinaryLoop);
HWY_EXPORT(GeluBackward);
HWY_EXPORT(SiluBackward);
HWY_EXPORT(Swiglu);
HWY_EXPORT(SwigluBackward);
HWY_EXPORT(Scale);
HWY_EXPORT(Select);
HWY_EXPORT(BiasAdd);
HWY_EXPORT(F32ToBf16);
HWY_EXPORT(Bf16ToF32);
HWY_EXPORT(DropoutLoop);

namespace {

void unary(Unary function, const float* x, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(UnaryLoop)(function, x, y, n); }
void binary(Binary function, const float* a, int a_step, const float* b, int b_step, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(BinaryLoop)(function, a, a_step, b, b_step, y, n);
}
void gelu_backward(const float* dy, const float* x, const float* addend, float* dx, int64_t n) {
  HWY_DYNAMIC_DISPATCH(GeluBackward)(dy, x, addend, dx, n);
}
void silu_backward(const float* dy, const float* x, const float* addend, float* dx, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SiluBackward)(dy, x, addend, dx, n);
}
void swiglu(const float* gate, const float* up, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(Swiglu)(gate, up, y, n); }
void swiglu_backward(const float* dy, const float* gate, const float* up, float* d_gate, float* d_up, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SwigluBackward)(dy, gate, up, d_gate, d_up, n);
}
void scale(float factor, const float* x, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(Scale)(factor, x, y, n); }
void select(const float* c, const float* a, const float* b, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(Select)(c, a, b, y, n);
}
void bias_add(const float* x, const float* bias, float* y, int64_t rows, int64_t width) {
  HWY_DYNAMIC_DISPATCH(BiasAdd)(x, bias, y, rows, width);
}
void dropout(const Dropout& parameters, int64_t begin, const float* x, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(DropoutLoop)(parameters, begin, x, y, n);
}
void f32_to_bf16(const float* x, uint16_t* y, int64_t n) { HWY_DYNAMIC_DISPATCH(F32ToBf16)(x, y, n); }
void bf16_to_f32(const uint16_t* x, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(Bf16ToF32)(x, y, n); }

} // namespace

const ElementwiseFunctions kElementwise = {.unary = unary,
                                           .binary = binary,
                                           .gelu_backward = gelu_backward,
                                           .silu_backward = silu_backward,
                                           .swiglu = swiglu,
                                           .swiglu_backward = swiglu_backward,
                                           .scale = scale,
                                           .bias_add = bias_add,
                                           .select = select,
                                           .dropout = dropout,
                                           .f32_to_bf16 = f32_to_bf16,
                                           .bf16_to_f32 = bf16_to_f32};

} // namespace kumiki::generic
#endif
