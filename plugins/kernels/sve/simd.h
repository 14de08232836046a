/* Vector helpers of this folder, in ACLE intrinsics: predicates for tails, e^x by FEXPA, reciprocals and roots by
 * estimate and Newton steps (A64FX divides in 98 cycles with a pipe blocked), and the activations made of them. All of
 * it works at any vector length. Floor: below every kernel that computes. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_SIMD_H
#define KUMIKI_PLUGINS_KERNELS_SVE_SIMD_H

#include <arm_sve.h>

#include <cstdint>

namespace kumiki::sve {

using V = svfloat32_t;

/* Floats in a vector: 16 on A64FX, 8 and 4 elsewhere. */
inline int64_t lanes() { return static_cast<int64_t>(svcntw()); }
inline svbool_t all() { return svptrue_b32(); }
/* The first n lanes; none where n <= 0. */
inline svbool_t first(int64_t n) { return svwhilelt_b32(int64_t{0}, n); }
inline V set(float x) { return svdup_f32(x); }
inline V add(V a, V b) { return svadd_x(all(), a, b); }
inline V sub(V a, V b) { return svsub_x(all(), a, b); }
inline V mul(V a, V b) { return svmul_x(all(), a, b); }
/* a + b c and a - b c. */
inline V mla(V a, V b, V c) { return svmla_x(all(), a, b, c); }
inline V mls(V a, V b, V c) { return svmls_x(all(), a, b, c); }
inline float sum_lanes(V v) { return svaddv(all(), v); }

/* e^x for x <= 88, exactly 0 below -87.3. x log2(e) is rounded to 1/64 by adding 1.5 * 2^17 + 127: the sum's low bits
 * are then what FEXPA takes (2^(i/64) by table, and the exponent); what is left is at most ln 2 / 128, for which two
 * terms do. Relative error below 1.4e-7. */
inline V exp_bounded(V x) {
  const svbool_t p = all(), normal = svcmpgt(p, x, -87.3f);
  const V shift = set(0x1.803f8p17f);
  const V z = svmla_x(p, shift, x, set(0x1.715476p+0f));
  const V n = svsub_x(p, z, shift);
  V r = svmls_x(p, x, n, set(0x1.62e4p-1f));
  r = svmls_x(p, r, n, set(0x1.7f7d1cp-20f));
  const V scale = svexpa(svreinterpret_u32(z));
  const V q = svmla_x(p, r, svmul_x(p, r, r), set(0.5f));
  return svsel(normal, svmla_x(p, scale, scale, q), set(0.0f)); // where x is far below, q is infinite
}
/* The same for any x: above 87 it stays at e^87. */
inline V exp_clamped(V x) { return exp_bounded(svmin_x(all(), x, 87.0f)); }

/* 1 / d for 1e-37 < |d| < 1e38: FRECPE gives 8.5 bits, each Newton step doubles them. */
inline V reciprocal(V d) {
  V e = svrecpe(d);
  e = svmul_x(all(), e, svrecps(d, e));
  return svmul_x(all(), e, svrecps(d, e));
}

/* The square root of x >= 0; what is below 1.2e-38 counts as that. */
inline V square_root(V x) {
  x = svmax_x(all(), x, 1.2e-38f);
  V r = svrsqrte(x);
  r = svmul_x(all(), r, svrsqrts(svmul_x(all(), r, r), x));
  r = svmul_x(all(), r, svrsqrts(svmul_x(all(), r, r), x));
  return svmul_x(all(), x, r);
}

inline V sigmoid(V x) { return reciprocal(svadd_x(all(), exp_clamped(svneg_x(all(), x)), 1.0f)); }

/* GELU in its tanh form: x sigmoid(2z), z = sqrt(2/pi) (x + 0.044715 x^3). */
constexpr float kGelu1 = 2.0f * 0.7978845608f;
constexpr float kGelu3 = kGelu1 * 0.044715f;

inline V gelu(V x) { return mul(x, sigmoid(mul(x, mla(set(kGelu1), mul(x, x), set(kGelu3))))); }
inline V gelu_slope(V x) {
  const V x2 = mul(x, x);
  const V s = sigmoid(mul(x, mla(set(kGelu1), x2, set(kGelu3))));
  const V dz = mul(x, mla(set(kGelu1), x2, set(3.0f * kGelu3)));
  return mul(s, mla(set(1.0f), dz, sub(set(1.0f), s)));
}
inline V silu(V x) { return mul(x, sigmoid(x)); }
/* The slope of silu from s = sigmoid(x). */
inline V silu_slope(V x, V s) { return mul(s, mla(set(1.0f), x, sub(set(1.0f), s))); }

/* Calls f(i, p) for vectors of elements i …: whole ones with all lanes (four in a row, so that the compiler can
 * interleave the long chains of dependent operations), the last with the lanes that are left. */
template <class F>
inline __attribute__((always_inline)) void for_vectors(int64_t begin, int64_t end, const F& f) {
  const int64_t n = lanes();
  const svbool_t p = all();
  int64_t i = begin;
  for (; i + 4 * n <= end; i += 4 * n) {
    f(i, p);
    f(i + n, p);
    f(i + 2 * n, p);
    f(i + 3 * n, p);
  }
  for (; i < end; i += n) f(i, first(end - i));
}

} // namespace kumiki::sve

#endif
