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

/* 2^(x log2(e)) from z = x log2(e) rounded to 1/64 by adding 1.5 * 2^17 + 127, and r, what was rounded off: at most
 * 1/128. The low bits of z are what FEXPA takes (2^(i/64) from a table, and the exponent); for r two terms do. */
inline V exp_by_parts(V scale, V r) {
  const V slope = svmla_x(all(), set(0x1.62e430p-1f), r, set(0x1.ebfbe0p-3f)); // ln 2 + r (ln 2)^2 / 2
  return svmla_x(all(), scale, svmul_x(all(), scale, r), slope);
}
constexpr float kExpShift = 0x1.803f8p17f;
constexpr float kLog2E = 0x1.715476p+0f;

/* e^x for x <= 88, exactly 0 below -87.3. Relative error below 1.4e-7 + 3e-8 |x|: small where e^x counts. */
inline V exp_bounded(V x) {
  const svbool_t p = all(), normal = svcmpgt(p, x, -87.3f);
  const V z = svmla_x(p, set(kExpShift), x, set(kLog2E));
  const V n = svsub_x(p, z, set(kExpShift));
  const V r = svnmls_x(p, n, x, set(kLog2E)); // x log2(e) - n
  return exp_by_parts(svsel(normal, V(svexpa(svreinterpret_u32(z))), set(0.0f)), r);
}

/* 1 / d for 1e-37 < |d| < 1e38: FRECPE gives e = 1/d (1 - h) with |h| < 2^-8.5, and 1/d = e (1 + h + h^2 + ...). */
inline V reciprocal(V d) {
  const svbool_t p = all();
  const V e = svrecpe(d);
  const V h = svmls_x(p, set(1.0f), d, e);
  return svmla_x(p, e, e, svmla_x(p, h, h, h));
}

/* The square root of x >= 0; what is below 1.2e-38 counts as that. FRSQRTE gives r with x r^2 = 1 - h, |h| < 2^-7.7,
 * and 1/sqrt(x) = r (1 + h/2 + 3/8 h^2 + ...). */
inline V square_root(V x) {
  const svbool_t p = all();
  x = svmax_x(p, x, 1.2e-38f);
  const V r = svrsqrte(x), root = svmul_x(p, x, r);
  const V h = svmls_x(p, set(1.0f), root, r);
  return svmla_x(p, root, svmul_x(p, root, h), svmla_x(p, set(0.5f), h, set(0.375f)));
}

/* 1 / (1 + e^-x); past 87 on either side it stays as it is there. */
inline V sigmoid(V x) {
  const svbool_t p = all();
  x = svmin_x(p, svmax_x(p, x, -87.0f), 87.0f);
  const V z = svmls_x(p, set(kExpShift), x, set(kLog2E));
  const V n = svsub_x(p, z, set(kExpShift));
  const V r = svnmla_x(p, n, x, set(kLog2E)); // -x log2(e) - n
  return reciprocal(svadd_x(p, exp_by_parts(svexpa(svreinterpret_u32(z)), r), set(1.0f)));
}

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

/* Calls f(i, p) for vectors of elements i ...: whole ones with all lanes, the last with the lanes that are left. */
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

/* y = f(x), f(a, b), f(a, b, c), element by element; y may be any of the inputs. Four vectors are loaded before the
 * first is stored: so their long chains of dependent operations are interleaved, which the compiler could not do across
 * a store to memory that it must take for an input. */
template <class F>
inline __attribute__((always_inline)) void map(const float* x, float* y, int64_t begin, int64_t end, const F& f) {
  const int64_t n = lanes();
  int64_t i = begin;
  for (; i + 4 * n <= end; i += 4 * n) {
    const float* at = x + i;
    const V x0 = svld1(all(), at), x1 = svld1_vnum(all(), at, 1);
    const V x2 = svld1_vnum(all(), at, 2), x3 = svld1_vnum(all(), at, 3);
    const V y0 = f(x0), y1 = f(x1), y2 = f(x2), y3 = f(x3);
    svst1(all(), y + i, y0);
    svst1_vnum(all(), y + i, 1, y1);
    svst1_vnum(all(), y + i, 2, y2);
    svst1_vnum(all(), y + i, 3, y3);
  }
  for (; i < end; i += n) {
    const svbool_t p = first(end - i);
    svst1(p, y + i, f(svld1(p, x + i)));
  }
}

template <class F>
inline __attribute__((always_inline)) void map(const float* a, const float* b, float* y, int64_t begin, int64_t end,
                                               const F& f) {
  const int64_t n = lanes();
  int64_t i = begin;
  for (; i + 4 * n <= end; i += 4 * n) {
    const float *u = a + i, *v = b + i;
    const V u0 = svld1(all(), u), u1 = svld1_vnum(all(), u, 1), u2 = svld1_vnum(all(), u, 2),
            u3 = svld1_vnum(all(), u, 3);
    const V v0 = svld1(all(), v), v1 = svld1_vnum(all(), v, 1), v2 = svld1_vnum(all(), v, 2),
            v3 = svld1_vnum(all(), v, 3);
    const V y0 = f(u0, v0), y1 = f(u1, v1), y2 = f(u2, v2), y3 = f(u3, v3);
    svst1(all(), y + i, y0);
    svst1_vnum(all(), y + i, 1, y1);
    svst1_vnum(all(), y + i, 2, y2);
    svst1_vnum(all(), y + i, 3, y3);
  }
  for (; i < end; i += n) {
    const svbool_t p = first(end - i);
    svst1(p, y + i, f(svld1(p, a + i), svld1(p, b + i)));
  }
}

template <class F>
inline __attribute__((always_inline)) void map(const float* a, const float* b, const float* c, float* y, int64_t begin,
                                               int64_t end, const F& f) {
  const int64_t n = lanes();
  int64_t i = begin;
  for (; i + 2 * n <= end; i += 2 * n) {
    const V u0 = svld1(all(), a + i), v0 = svld1(all(), b + i), w0 = svld1(all(), c + i);
    const V u1 = svld1_vnum(all(), a + i, 1), v1 = svld1_vnum(all(), b + i, 1), w1 = svld1_vnum(all(), c + i, 1);
    const V y0 = f(u0, v0, w0), y1 = f(u1, v1, w1);
    svst1(all(), y + i, y0);
    svst1_vnum(all(), y + i, 1, y1);
  }
  for (; i < end; i += n) {
    const svbool_t p = first(end - i);
    svst1(p, y + i, f(svld1(p, a + i), svld1(p, b + i), svld1(p, c + i)));
  }
}

} // namespace kumiki::sve

#endif
