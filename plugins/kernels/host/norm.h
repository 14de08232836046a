/* What the adapters of the norms (norm.cc) ask of a component: LayerNorm and RMSNorm over rows [rows, width], forward
 * and backward, on one thread. A null mean means RMSNorm. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_NORM_H
#define KUMIKI_PLUGINS_KERNELS_HOST_NORM_H

#include <cstdint>

namespace kumiki::kernels {

struct NormForward {
  const float* x;     /* [rows, width] */
  const float* added; /* null, or what is added to x first; then `sum` receives x + added */
  float* sum;
  const float* weight; /* [width] */
  const float* bias;   /* [width]; null for RMSNorm */
  float* y;
  float* mean; /* [rows]; null for RMSNorm */
  float* rstd; /* [rows] */
  int64_t width;
  float epsilon;
};

struct NormBackward {
  const float* dy;
  const float* x;
  const float* weight; /* of dx only */
  const float* mean;   /* null for RMSNorm */
  const float* rstd;
  const float* addend; /* of dx; may be null, may be dx */
  float* dx;
  int64_t width;
};

struct NormFunctions {
  void (*forward)(const NormForward& norm, int64_t row_begin, int64_t row_end);
  void (*backward)(const NormBackward& norm, int64_t row_begin, int64_t row_end);

  /* d_weight[j] = Σ dy x̂ and d_bias[j] = Σ dy (null: left out) over all rows, for columns [begin, end), plus addends
   * (may be null). Rows are added in order, in groups of 256. */
  void (*backward_weight)(const NormBackward& norm, int64_t rows, int64_t begin, int64_t end,
                          const float* weight_addend, const float* bias_addend, float* d_weight, float* d_bias);

  /* y[j] = Σ x[i, j] over all rows, for columns [begin, end), + addend (may be null). */
  void (*sum_rows)(const float* x, int64_t rows, int64_t width, int64_t begin, int64_t end, const float* addend,
                   float* y);
};

} // namespace kumiki::kernels

#endif
