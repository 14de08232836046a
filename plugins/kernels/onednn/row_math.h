/* row_math.h: the loops around the products: softmax of a row, activations, rounding to bf16. Plain C++ that compilers
 * turn into vectors, compiled once for AVX-512 and once for any processor; row_math() gives the ones that run here. */
#ifndef KUMIKI_PLUGINS_KERNELS_ONEDNN_ROW_MATH_H
#define KUMIKI_PLUGINS_KERNELS_ONEDNN_ROW_MATH_H

#include <cstdint>

namespace kumiki::onednn {

struct RowMath {
  /* The largest of n numbers; Σ exp(x − shift). Errors of some 1e-7 of the result; the order of additions is fixed. */
  float (*largest)(const float* x, int64_t n);
  double (*sum_exp)(const float* x, int64_t n, float shift);
  /* y = factor · exp(x − shift), in f32 (may be x itself) or in bf16. */
  void (*scaled_exp)(const float* x, int64_t n, float shift, float factor, float* y);
  void (*scaled_exp_bf16)(const float* x, int64_t n, float shift, float factor, uint16_t* y);
  /* y[first + i] = f(u[first + i]), both bf16 or both f32. */
  void (*gelu)(const void* u, void* y, int64_t first, int64_t n, bool bf16);
  void (*silu)(const void* u, void* y, int64_t first, int64_t n, bool bf16);
  /* Round to nearest, ties to even; NaN stays NaN. */
  void (*to_bf16)(const float* x, int64_t n, uint16_t* y);
  void (*from_bf16)(const uint16_t* x, int64_t n, float* y);
};

const RowMath& row_math();

} // namespace kumiki::onednn

#endif
