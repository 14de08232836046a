/* ops.h: the functions that the table names, and what the files of ops include. */
#ifndef KUMIKI_PLUGINS_KERNELS_REFERENCE_OPS_H
#define KUMIKI_PLUGINS_KERNELS_REFERENCE_OPS_H

#include "reference.h"

km_status check_matmul(const km_host* host, const km_op* op, km_support* support);
km_status check_matmul_bias(const km_host* host, const km_op* op, km_support* support);
km_status check_matmul_group(const km_host* host, const km_op* op, km_support* support);
km_status check_binary(const km_host* host, const km_op* op, km_support* support);
km_status check_unary(const km_host* host, const km_op* op, km_support* support);
km_status check_activation_backward(const km_host* host, const km_op* op, km_support* support);
km_status check_swiglu(const km_host* host, const km_op* op, km_support* support);
km_status check_swiglu_backward(const km_host* host, const km_op* op, km_support* support);
km_status check_select(const km_host* host, const km_op* op, km_support* support);
km_status check_cast(const km_host* host, const km_op* op, km_support* support);
km_status check_bias_add(const km_host* host, const km_op* op, km_support* support);
km_status check_dropout(const km_host* host, const km_op* op, km_support* support);
km_status check_sum_rows(const km_host* host, const km_op* op, km_support* support);
km_status check_sum_all(const km_host* host, const km_op* op, km_support* support);
km_status check_layernorm(const km_host* host, const km_op* op, km_support* support);
km_status check_layernorm_backward(const km_host* host, const km_op* op, km_support* support);
km_status check_layernorm_backward_weight(const km_host* host, const km_op* op, km_support* support);
km_status check_add_layernorm(const km_host* host, const km_op* op, km_support* support);
km_status check_rmsnorm(const km_host* host, const km_op* op, km_support* support);
km_status check_rmsnorm_backward(const km_host* host, const km_op* op, km_support* support);
km_status check_rmsnorm_backward_weight(const km_host* host, const km_op* op, km_support* support);
km_status check_add_rmsnorm(const km_host* host, const km_op* op, km_support* support);
km_status check_attention(const km_host* host, const km_op* op, km_support* support);
km_status check_attention_backward(const km_host* host, const km_op* op, km_support* support);
km_status check_attention_part(const km_host* host, const km_op* op, km_support* support);
km_status check_attention_part_backward(const km_host* host, const km_op* op, km_support* support);
km_status check_attention_merge(const km_host* host, const km_op* op, km_support* support);
km_status check_rope(const km_host* host, const km_op* op, km_support* support);
km_status check_add_position(const km_host* host, const km_op* op, km_support* support);
km_status check_add_position_backward(const km_host* host, const km_op* op, km_support* support);
km_status check_cache_append(const km_host* host, const km_op* op, km_support* support);
km_status check_last_token(const km_host* host, const km_op* op, km_support* support);
km_status check_embedding(const km_host* host, const km_op* op, km_support* support);
km_status check_embedding_backward(const km_host* host, const km_op* op, km_support* support);
km_status check_cross_entropy(const km_host* host, const km_op* op, km_support* support);
km_status check_cross_entropy_backward(const km_host* host, const km_op* op, km_support* support);
km_status check_projection_cross_entropy(const km_host* host, const km_op* op, km_support* support);
km_status check_projection_cross_entropy_train(const km_host* host, const km_op* op, km_support* support);
km_status check_row_max(const km_host* host, const km_op* op, km_support* support);
km_status check_row_exp_pick(const km_host* host, const km_op* op, km_support* support);
km_status check_cross_entropy_parts(const km_host* host, const km_op* op, km_support* support);
km_status check_cross_entropy_parts_backward(const km_host* host, const km_op* op, km_support* support);
km_status check_gradient_scale(const km_host* host, const km_op* op, km_support* support);
km_status check_adamw_update(const km_host* host, const km_op* op, km_support* support);

km_status run_matmul(const reference_call* call);
km_status run_matmul_bias(const reference_call* call);
km_status run_matmul_group(const reference_call* call);
km_status run_binary(const reference_call* call);
km_status run_unary(const reference_call* call);
km_status run_activation_backward(const reference_call* call);
km_status run_swiglu(const reference_call* call);
km_status run_swiglu_backward(const reference_call* call);
km_status run_scale(const reference_call* call);
km_status run_select(const reference_call* call);
km_status run_cast(const reference_call* call);
km_status run_bias_add(const reference_call* call);
km_status run_dropout(const reference_call* call);
km_status run_sum_rows(const reference_call* call);
km_status run_sum_squares(const reference_call* call);
km_status run_tensor_norm(const reference_call* call);
km_status run_layernorm(const reference_call* call);
km_status run_layernorm_backward(const reference_call* call);
km_status run_layernorm_backward_weight(const reference_call* call);
km_status run_add_layernorm(const reference_call* call);
km_status run_rmsnorm(const reference_call* call);
km_status run_rmsnorm_backward(const reference_call* call);
km_status run_rmsnorm_backward_weight(const reference_call* call);
km_status run_add_rmsnorm(const reference_call* call);
km_status run_attention(const reference_call* call);
km_status run_attention_backward(const reference_call* call); /* of attention_part_backward, too */
km_status run_attention_part(const reference_call* call);
km_status run_attention_merge(const reference_call* call);
km_status run_rope(const reference_call* call);
km_status run_add_position(const reference_call* call);
km_status run_add_position_backward(const reference_call* call);
km_status run_cache_append(const reference_call* call);
km_status run_last_token(const reference_call* call);
km_status run_embedding(const reference_call* call);
km_status run_embedding_backward(const reference_call* call);
km_status run_cross_entropy(const reference_call* call);
km_status run_cross_entropy_backward(const reference_call* call);
km_status run_projection_cross_entropy(const reference_call* call);
km_status run_projection_cross_entropy_train(const reference_call* call);
km_status run_row_max(const reference_call* call);
km_status run_row_exp_pick(const reference_call* call);
km_status run_cross_entropy_parts(const reference_call* call);
km_status run_cross_entropy_parts_backward(const reference_call* call);
km_status run_gradient_scale(const reference_call* call);
km_status run_adamw_update(const reference_call* call);

#endif
