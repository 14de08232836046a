/* How the backward pass of attention is cut into tasks: by the shapes alone, so that the bits do not depend on the
 * number of threads. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_ATTENTION_CUT_H
#define KUMIKI_PLUGINS_KERNELS_SVE_ATTENTION_CUT_H

#include <cstdint>
#include <vector>

namespace kumiki::sve {

/* Each key head's blocks of keys in runs, one task each. */
struct BackwardCut {
  std::vector<int64_t> begins; /* the first block of each run, and the end */
  std::vector<int64_t> order;  /* the runs, the longest task first */

  int64_t runs() const { return static_cast<int64_t>(order.size()); }
};

/* For `heads` key heads of `queries` queries and `keys` keys. past as in Head: 0 (causal) or keys. */
BackwardCut cut_backward(int64_t heads, int64_t queries, int64_t keys, int64_t past);

} // namespace kumiki::sve

#endif
