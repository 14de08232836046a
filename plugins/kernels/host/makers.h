/* Makers of the kernels of this folder, for components to list (component.h). */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_MAKERS_H
#define KUMIKI_PLUGINS_KERNELS_HOST_MAKERS_H

#include <memory>

#include "plugins/kernels/host/kernel.h"

namespace kumiki::kernels {

/* matmul.cc */
std::unique_ptr<Kernel> make_matmul(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_matmul_group(const Op& op, const Pool& pool);
/* elementwise.cc */
std::unique_ptr<Kernel> make_unary(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_binary(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_activation_backward(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_swiglu(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_swiglu_backward(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_scale(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_select(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_cast(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_copy(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_bias_add(const Op& op, const Pool& pool);
/* dropout.cc */
std::unique_ptr<Kernel> make_dropout(const Op& op, const Pool& pool);
/* norm.cc */
std::unique_ptr<Kernel> make_norm(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_norm_backward(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_norm_backward_weight(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_sum_rows(const Op& op, const Pool& pool);
/* attention_merge.cc */
std::unique_ptr<Kernel> make_attention_merge(const Op& op, const Pool& pool);
/* position.cc, embedding.cc */
std::unique_ptr<Kernel> make_rope(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_add_position(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_add_position_backward(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_cache_append(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_last_token(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_embedding(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_embedding_backward(const Op& op, const Pool& pool);
/* loss_parts.cc */
std::unique_ptr<Kernel> make_row_max(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_row_exp_pick(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_cross_entropy_parts(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_cross_entropy_parts_backward(const Op& op, const Pool& pool);
/* update.cc */
std::unique_ptr<Kernel> make_sum_squares(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_gradient_scale(const Op& op, const Pool& pool);
std::unique_ptr<Kernel> make_adamw_update(const Op& op, const Pool& pool);

} // namespace kumiki::kernels

#endif
