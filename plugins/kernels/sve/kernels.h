/* Makers of the kernels, one for each file of ops; component.cc lists them by op name. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_KERNELS_H
#define KUMIKI_PLUGINS_KERNELS_SVE_KERNELS_H

#include <memory>

#include "plugins/kernels/sve/kernel.h"

namespace kumiki::sve {

/* gemm/matmul.cc */
std::unique_ptr<Kernel> make_matmul(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_matmul_group(const Op& op, const Pool& pool);
/* elementwise/ */
std::unique_ptr<Kernel> make_unary(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_binary(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_activation_backward(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_swiglu(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_swiglu_backward(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_scale(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_copy(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_bias_add(const Op& op, const Pool& pool);
/* norm/ */
std::unique_ptr<Kernel> make_norm(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_norm_backward(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_norm_backward_weight(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_sum_rows(const Op& op, const Pool& pool);
/* attention/ */
std::unique_ptr<Kernel> make_attention(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_attention_backward(const Op& op, const Pool& pool);
/* position/ */
std::unique_ptr<Kernel> make_rope(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_add_position(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_add_position_backward(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_embedding(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_embedding_backward(const Op& op, const Pool& pool);
/* loss/ */
std::unique_ptr<Kernel> make_projection_cross_entropy(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_row_max(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_row_exp_pick(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_cross_entropy_parts(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_cross_entropy_parts_backward(const Op& op, const Pool& pool);
/* update/ */
std::unique_ptr<Kernel> make_sum_squares(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_gradient_scale(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_adamw_update(const Op& op, const Pool& pool);

} // namespace kumiki::sve

#endif
