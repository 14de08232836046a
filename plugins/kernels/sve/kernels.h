/* The parts of this component that component.cc lists: the vector code under the adapters of plugins/kernels/host, and
 * makers of the kernels that no other component has like this. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_KERNELS_H
#define KUMIKI_PLUGINS_KERNELS_SVE_KERNELS_H

#include <memory>

#include "plugins/kernels/host/kernel.h"

namespace kumiki::sve {

using namespace kernels;

extern const AttentionFunctions kAttention;     /* attention/merge.cc */
extern const ElementwiseFunctions kElementwise; /* elementwise.cc */
extern const LossFunctions kLosses;             /* loss/loss.cc */
extern const NormFunctions kNorms;              /* norm.cc */
extern const PositionFunctions kPositions;      /* position.cc */
extern const ProductFunctions kProducts;        /* gemm/product.cc */
extern const UpdateFunctions kUpdates;          /* update.cc */

/* dropout.cc: as host/elementwise.h has it. */
void dropout(const Dropout& parameters, int64_t begin, const float* x, float* y, int64_t n);
/* attention/ */
std::unique_ptr<Kernel> make_attention(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_attention_backward(const Op& op, const Pool& pool);
/* loss/projection.cc */
std::unique_ptr<Kernel> make_projection_cross_entropy(const Op& op, const Pool& pool);

} // namespace kumiki::sve

#endif
