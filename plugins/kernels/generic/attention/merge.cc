#include "plugins/kernels/generic/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "plugins/kernels/generic/attention/merge.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "plugins/kernels/generic/kernels.h"
#include "plugins/kernels/generic/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kumiki::generic {
namespace HWY_NAMESPACE {
namespace {

void Weigh(const float* const* x, const float* weights, int64_t parts, float* y, int64_t n) {
  const F d;
  for (int64_t j = 0; j < n; j += lanes()) {
    V sum = hn::Zero(d);
    for (int64_t i = 0; i < parts; ++i) sum = hn::MulAdd(hn::Set(d, weights[i]), load_upto(x[i] + j, n - j), sum);
    store_upto(sum, y + j, n - j);
  }
}

} // namespace
} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kumiki::generic {
HWY_EXPORT(Weigh);

namespace {
void weigh(const float* const* x, const float* weights, int64_t parts, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(Weigh)(x, weights, parts, y, n);
}
} // namespace

const AttentionFunctions kAttention = {.weigh = weigh};
} // namespace kumiki::generic
#endif
