#include "row_math.h"

#include <cmath>
#include <cstring>

namespace kumiki::onednn {
namespace {

#define KM_INLINE inline __attribute__((always_inline))

/* eˣ for x ≤ 88: x = n ln 2 + r, 2ⁿ by the exponent's bits, eʳ by its series (|r| ≤ 0.35: seven terms give 1e-8). */
KM_INLINE float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504089f + 12582912.0f; /* 1.5 · 2²³: the sum's low bits are the nearest integer */
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float e = 1.0f / 5040;
  e = e * r + 1.0f / 720;
  e = e * r + 1.0f / 120;
  e = e * r + 1.0f / 24;
  e = e * r + 1.0f / 6;
  e = e * r + 0.5f;
  e = e * r + 1.0f;
  e = e * r + 1.0f;
  const int32_t power = (__builtin_bit_cast(int32_t, shifted) - 0x4B400000 + 127) << 23;
  return e * __builtin_bit_cast(float, power);
}

KM_INLINE uint16_t round_to_bf16(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
}

KM_INLINE float widen(uint16_t x) { return __builtin_bit_cast(float, uint32_t{x} << 16); }

/* x / (1 + e⁻ˣ), and with it gelu: 0.5 (1 + tanh z) = 1 / (1 + e⁻²ᶻ). */
KM_INLINE float silu_of(float x) { return x / (1.0f + fast_exp(-x)); }
KM_INLINE float gelu_of(float x) {
  const float z = 0.7978845608f * (x + 0.044715f * x * x * x);
  return x / (1.0f + fast_exp(-2.0f * z));
}

constexpr int kLanes = 64;

KM_INLINE float largest_body(const float* x, int64_t n) {
  float lanes[kLanes];
  for (float& lane : lanes) lane = -INFINITY;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  float result = -INFINITY;
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  for (float lane : lanes) result = lane > result ? lane : result;
  return result;
}

KM_INLINE double sum_exp_body(const float* x, int64_t n, float shift) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] += fast_exp(x[i + j] - shift);
  double result = 0;
  for (; i < n; ++i) result += fast_exp(x[i] - shift);
  for (float lane : lanes) result += lane;
  return result;
}

KM_INLINE void scaled_exp_body(const float* x, int64_t n, float shift, float factor, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = factor * fast_exp(x[i] - shift);
}
KM_INLINE void scaled_exp_bf16_body(const float* __restrict x, int64_t n, float shift, float factor,
                                    uint16_t* __restrict y) {
  for (int64_t i = 0; i < n; ++i) y[i] = round_to_bf16(factor * fast_exp(x[i] - shift));
}

template <float f(float)>
KM_INLINE void activation_body(const void* u, void* y, int64_t first, int64_t n, bool bf16) {
  if (bf16) {
    const uint16_t* __restrict from = static_cast<const uint16_t*>(u) + first;
    uint16_t* __restrict to = static_cast<uint16_t*>(y) + first;
    for (int64_t i = 0; i < n; ++i) to[i] = round_to_bf16(f(widen(from[i])));
  } else {
    const float* __restrict from = static_cast<const float*>(u) + first;
    float* __restrict to = static_cast<float*>(y) + first;
    for (int64_t i = 0; i < n; ++i) to[i] = f(from[i]);
  }
}

KM_INLINE void to_bf16_body(const float* __restrict x, int64_t n, uint16_t* __restrict y) {
  for (int64_t i = 0; i < n; ++i) y[i] = round_to_bf16(x[i]);
}
KM_INLINE void from_bf16_body(const uint16_t* __restrict x, int64_t n, float* __restrict y) {
  for (int64_t i = 0; i < n; ++i) y[i] = widen(x[i]);
}

/* The same bodies, inlined into functions for one kind of processor. */
#define KM_VERSION(space, target)                                                                                     \
  namespace space {                                                                                                   \
  target float largest(const float* x, int64_t n) { return largest_body(x, n); }                                      \
  target double sum_exp(const float* x, int64_t n, float shift) { return sum_exp_body(x, n, shift); }                 \
  target void scaled_exp(const float* x, int64_t n, float s, float f, float* y) { scaled_exp_body(x, n, s, f, y); }   \
  target void scaled_exp_bf16(const float* x, int64_t n, float s, float f, uint16_t* y) {                             \
    scaled_exp_bf16_body(x, n, s, f, y);                                                                              \
  }                                                                                                                   \
  target void gelu(const void* u, void* y, int64_t i, int64_t n, bool h) { activation_body<gelu_of>(u, y, i, n, h); } \
  target void silu(const void* u, void* y, int64_t i, int64_t n, bool h) { activation_body<silu_of>(u, y, i, n, h); } \
  target void to_bf16(const float* x, int64_t n, uint16_t* y) { to_bf16_body(x, n, y); }                              \
  target void from_bf16(const uint16_t* x, int64_t n, float* y) { from_bf16_body(x, n, y); }                          \
  const RowMath table = {largest, sum_exp, scaled_exp, scaled_exp_bf16, gelu, silu, to_bf16, from_bf16};              \
  }

KM_VERSION(plain, )
#if defined(__x86_64__)
KM_VERSION(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512"))))
#endif

} // namespace

const RowMath& row_math() {
#if defined(__x86_64__)
  static const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512) return avx512::table;
#endif
  return plain::table;
}

} // namespace kumiki::onednn
