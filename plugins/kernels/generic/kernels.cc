/* The kernels component `generic`: all f32 ops of docs/ops.md on the host, with Google Highway's portable SIMD
 * chosen at run time. kKernels is the one list of what there is. */
#include "plugins/kernels/generic/kernels.h"

#include "hwy/targets.h"
#include "kumiki/plugin.h"
#include "plugins/kernels/host/component.h"
#include "plugins/kernels/host/makers.h"

namespace kumiki::generic {
namespace {

constexpr Entry kKernels[] = {
    {"matmul", make_matmul, 1},
    {"matmul_bias", make_matmul, 1},
    {"matmul_group", make_matmul_group},
    {"add", make_binary},
    {"subtract", make_binary},
    {"multiply", make_binary},
    {"divide", make_binary},
    {"maximum", make_binary},
    {"minimum", make_binary},
    {"power", make_binary},
    {"copy", make_copy},
    {"negate", make_unary},
    {"square", make_unary},
    {"sqrt", make_unary},
    {"reciprocal", make_unary},
    {"exp", make_unary},
    {"log", make_unary},
    {"abs", make_unary},
    {"sign", make_unary},
    {"tanh", make_unary},
    {"gelu", make_unary},
    {"silu", make_unary},
    {"gelu_backward", make_activation_backward, 1},
    {"silu_backward", make_activation_backward, 1},
    {"swiglu", make_swiglu},
    {"swiglu_backward", make_swiglu_backward},
    {"scale", make_scale},
    {"select", make_select},
    {"cast", make_cast},
    {"bias_add", make_bias_add},
    {"dropout", make_dropout},
    {"sum_rows", make_sum_rows, 1},
    {"sum_squares", make_sum_squares},
    {"tensor_norm", make_sum_squares},
    {"layernorm", make_norm},
    {"rmsnorm", make_norm},
    {"add_layernorm", make_norm},
    {"add_rmsnorm", make_norm},
    {"layernorm_backward", make_norm_backward, 1},
    {"rmsnorm_backward", make_norm_backward, 1},
    {"layernorm_backward_weight", make_norm_backward_weight, 3},
    {"rmsnorm_backward_weight", make_norm_backward_weight, 1},
    {"attention", make_attention},
    {"attention_backward", make_attention_backward},
    {"attention_part", make_attention},
    {"attention_part_backward", make_attention_backward},
    {"attention_merge", make_attention_merge},
    {"rope", make_rope},
    {"add_position", make_add_position},
    {"add_position_backward", make_add_position_backward, 1},
    {"cache_append", make_cache_append},
    {"last_token", make_last_token},
    {"embedding", make_embedding},
    {"embedding_backward", make_embedding_backward, 1},
    {"cross_entropy", make_cross_entropy},
    {"cross_entropy_backward", make_cross_entropy_backward},
    {"row_max", make_row_max},
    {"row_exp_pick", make_row_exp_pick},
    {"cross_entropy_parts", make_cross_entropy_parts},
    {"cross_entropy_parts_backward", make_cross_entropy_parts_backward},
    {"projection_cross_entropy", make_projection_cross_entropy},
    {"projection_cross_entropy_train", make_projection_cross_entropy, 4 | 8},
    {"gradient_scale", make_gradient_scale},
    {"adamw_update", make_adamw_update},
};

constexpr Functions kFunctions = {.attention = &kAttention,
                                  .elementwise = &kElementwise,
                                  .loss = &kLosses,
                                  .norm = &kNorms,
                                  .position = &kPositions,
                                  .product = &kProducts,
                                  .update = &kUpdates};

void prepare(const km_host*, const km_parallel*) {
#if defined(__x86_64__)
  if ((hwy::SupportedTargets() & (HWY_AVX2 | HWY_AVX3)) == 0)
    throw Unsupported("kernels generic needs a processor with AVX2 and FMA; use \"reference\" here");
#endif
}

constexpr Component kComponent = {"generic", &kFunctions, kKernels, 16, prepare};

km_status open(const km_host* host, const km_options*, void** self) { return open_component(kComponent, host, self); }

constexpr km_kernels kTable = kernels_table(open);
constexpr km_component kComponents[] = {{"kernels", "generic", KM_KERNELS_VERSION, 0, &kTable, nullptr,
                                         "all f32 ops on the CPU, vectorized for AVX2, AVX-512, NEON and SVE"}};
constexpr km_plugin kPlugin = {sizeof(km_plugin),
                               KM_ABI_MINOR,
                               "kumiki-generic",
                               "0.1",
                               "Kumiki",
                               "Apache-2.0",
                               kComponents,
                               1,
                               sizeof(km_component),
                               sizeof(km_option),
                               0};

} // namespace
} // namespace kumiki::generic

KM_PLUGIN(kumiki::generic::kPlugin)
