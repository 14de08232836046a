/* Dropout of a range of elements, on one thread: the vector loop under dropout.cc. The other functions of
 * elementwise.cc are those of host/elementwise.h. */
#ifndef KUMIKI_PLUGINS_KERNELS_GENERIC_ELEMENTWISE_ELEMENTWISE_H
#define KUMIKI_PLUGINS_KERNELS_GENERIC_ELEMENTWISE_ELEMENTWISE_H

#include <cstdint>

namespace kumiki::generic {

/* Philox dropout (docs/ops.md) of elements [begin, begin + n) of one sample; begin is a multiple of 4. x and y point at
 * element `begin`. */
struct Dropout {
  uint64_t seed;
  uint64_t sample;
  uint32_t stream;
  uint64_t threshold; /* keep where word >= threshold; up to 2^32 */
  float factor;       /* 1 / (1 - probability) */
};
void dropout(const Dropout& parameters, int64_t begin, const float* x, float* y, int64_t n);

} // namespace kumiki::generic

#endif
