#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

void weigh(const float* const* x, const float* weights, int64_t parts, float* y, int64_t n) {
  for (int64_t j = 0; j < n; j += lanes()) {
    const svbool_t p = first(n - j);
    V sum = set(0.0f);
    for (int64_t i = 0; i < parts; ++i) sum = mla(sum, svld1(p, x[i] + j), set(weights[i]));
    svst1(p, y + j, sum);
  }
}

} // namespace

const AttentionFunctions kAttention = {.weigh = weigh};

} // namespace kumiki::sve
