/* What the adapters of the update (update.cc) ask of a component: sums of squares and AdamW, on one thread. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_UPDATE_H
#define KUMIKI_PLUGINS_KERNELS_HOST_UPDATE_H

#include <cstdint>

namespace kumiki::kernels {

/* The numbers of one AdamW step (docs/ops.md), bias corrections worked in. */
struct AdamW {
  float beta1, beta2, epsilon;
  float rest1, rest2; /* 1 - beta1, 1 - beta2, subtracted in double */
  float gradient_scale;
  float step1;    /* learning_rate / (1 - beta1^s) */
  float inverse2; /* 1 / (1 - beta2^s) */
  float decay;    /* learning_rate * weight_decay */
};
struct AdamWArrays {
  const float *p, *g, *m, *v;
  float *p_out, *m_out, *v_out; /* may be p, m, v */
};

struct UpdateFunctions {
  /* Σ x², f32 within 4096 elements, double above. */
  double (*sum_squares)(const float* x, int64_t n);
  void (*adamw)(const AdamW& step, const AdamWArrays& arrays, int64_t begin, int64_t end);
};

} // namespace kumiki::kernels

#endif
