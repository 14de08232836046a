/* What the adapter of attention_merge (attention_merge.cc) asks of a component, on one thread. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_ATTENTION_H
#define KUMIKI_PLUGINS_KERNELS_HOST_ATTENTION_H

#include <cstdint>

namespace kumiki::kernels {

struct AttentionFunctions {
  /* y = Σ weights[i] x[i] over `parts` ≥ 1 rows of n floats; y may be one of them. */
  void (*weigh)(const float* const* x, const float* weights, int64_t parts, float* y, int64_t n);
};

} // namespace kumiki::kernels

#endif
