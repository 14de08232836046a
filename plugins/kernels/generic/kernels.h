/* The parts of this component that kernels.cc lists: the vector code under the adapters of plugins/kernels/host, and
 * makers of the kernels that no other component has like this. */
#ifndef KUMIKI_PLUGINS_KERNELS_GENERIC_KERNELS_H
#define KUMIKI_PLUGINS_KERNELS_GENERIC_KERNELS_H

#include <memory>

#include "plugins/kernels/host/kernel.h"

namespace kumiki::generic {

using namespace kernels;

extern const AttentionFunctions kAttention;     /* attention/merge.cc */
extern const ElementwiseFunctions kElementwise; /* elementwise/elementwise.cc */
extern const LossFunctions kLosses;             /* loss/loss.cc */
extern const NormFunctions kNorms;              /* norm/norm.cc */
extern const PositionFunctions kPositions;      /* position/position.cc */
extern const ProductFunctions kProducts;        /* gemm/product.cc */
extern const UpdateFunctions kUpdates;          /* update/update.cc */

/* attention/ */
std::unique_ptr<Kernel> make_attention(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_attention_backward(const Op& op, const Pool& pool);
/* loss/ */
std::unique_ptr<Kernel> make_cross_entropy(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_cross_entropy_backward(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_projection_cross_entropy(const Op& op, const Pool& pool);

} // namespace kumiki::generic

#endif
