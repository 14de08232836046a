/* What the adapters of cross entropy by parts (loss_parts.cc) ask of a component: functions of a row of logits
 * [vocabulary], on one thread. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_LOSS_H
#define KUMIKI_PLUGINS_KERNELS_HOST_LOSS_H

#include <cstdint>

namespace kumiki::kernels {

struct LossFunctions {
  float (*row_maximum)(const float* x, int64_t n);
  /* Σ e^(x − maximum). */
  float (*row_sum_exp)(const float* x, int64_t n, float maximum);
  /* y = scale · e^(x − log_sum); y may be x. */
  void (*row_gradient)(const float* x, int64_t n, float log_sum, float scale, float* y);
};

} // namespace kumiki::kernels

#endif
