/* What the adapters of elementwise ops (elementwise.cc) ask of a component: functions of ranges of n elements, on one
 * thread. All arrays are f32 unless said; an output may be one of the inputs. A component may lack the functions of ops
 * that it does not list. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_ELEMENTWISE_H
#define KUMIKI_PLUGINS_KERNELS_HOST_ELEMENTWISE_H

#include <cstdint>

namespace kumiki::kernels {

enum class Unary { kNegate, kSquare, kSqrt, kReciprocal, kExp, kLog, kAbs, kSign, kTanh, kGelu, kSilu };
enum class Binary { kAdd, kSubtract, kMultiply, kDivide, kMaximum, kMinimum, kPower };

/* Philox dropout (docs/ops.md) of elements of one sample. */
struct Dropout {
  uint64_t seed;
  uint64_t sample;
  uint32_t stream;
  uint64_t threshold; /* keep where word >= threshold; up to 2^32 */
  float factor;       /* 1 / (1 - probability) */
};

struct ElementwiseFunctions {
  void (*unary)(Unary function, const float* x, float* y, int64_t n);

  /* y = a ∘ b; with a_step or b_step 0 the operand is one number. */
  void (*binary)(Binary function, const float* a, int a_step, const float* b, int b_step, float* y, int64_t n);

  /* dx = dy f'(x) + addend (if not null), f = gelu or silu. */
  void (*gelu_backward)(const float* dy, const float* x, const float* addend, float* dx, int64_t n);
  void (*silu_backward)(const float* dy, const float* x, const float* addend, float* dx, int64_t n);

  void (*swiglu)(const float* gate, const float* up, float* y, int64_t n);
  void (*swiglu_backward)(const float* dy, const float* gate, const float* up, float* d_gate, float* d_up, int64_t n);

  void (*scale)(float factor, const float* x, float* y, int64_t n);

  /* Rows [rows, width]: y = x + bias [width]. */
  void (*bias_add)(const float* x, const float* bias, float* y, int64_t rows, int64_t width);

  /* y = c ≠ 0 ? a : b. */
  void (*select)(const float* c, const float* a, const float* b, float* y, int64_t n);

  /* Elements [begin, begin + n) of the sample; begin is a multiple of 4. x and y point at element `begin`. */
  void (*dropout)(const Dropout& parameters, int64_t begin, const float* x, float* y, int64_t n);

  /* bf16 as the upper half of f32, rounded to nearest even; NaN stays NaN. */
  void (*f32_to_bf16)(const float* x, uint16_t* y, int64_t n);
  void (*bf16_to_f32)(const uint16_t* x, float* y, int64_t n);
};

} // namespace kumiki::kernels

#endif
