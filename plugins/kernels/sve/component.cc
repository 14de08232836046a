/* The component's functions; kKernels is the one list of the ops that there are. What is missing here (bf16,
 * rare elementwise functions) is left to the next component of the chain. */
#include "plugins/kernels/sve/component.h"

#include <string>

#include "plugins/kernels/host/component.h"
#include "plugins/kernels/host/makers.h"
#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

constexpr Entry kKernels[] = {
    {"matmul", make_matmul, 1},
    {"matmul_bias", make_matmul, 1},
    {"matmul_group", make_matmul_group},
    {"add", make_binary},
    {"subtract", make_binary},
    {"multiply", make_binary},
    {"copy", make_copy},
    {"square", make_unary},
    {"gelu", make_unary},
    {"silu", make_unary},
    {"gelu_backward", make_activation_backward, 1},
    {"silu_backward", make_activation_backward, 1},
    {"swiglu", make_swiglu},
    {"swiglu_backward", make_swiglu_backward},
    {"scale", make_scale},
    {"bias_add", make_bias_add},
    {"dropout", make_dropout},
    {"sum_rows", make_sum_rows, 1},
    {"sum_squares", make_sum_squares},
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
    {"projection_cross_entropy", make_projection_cross_entropy},
    {"projection_cross_entropy_train", make_projection_cross_entropy, 4 | 8},
    {"row_max", make_row_max},
    {"row_exp_pick", make_row_exp_pick},
    {"cross_entropy_parts", make_cross_entropy_parts},
    {"cross_entropy_parts_backward", make_cross_entropy_parts_backward},
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

/* FZ and FZ16: A64FX computes with a denormal in some 90 cycles, and commits earlier where it knows that there are
 * none. */
void flush_denormals(void*, uint32_t, uint32_t) {
  uint64_t control;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  asm volatile("msr fpcr, %0" ::"r"(control | (uint64_t{1} << 24) | (uint64_t{1} << 19)));
}

void prepare(const km_host* host, const km_parallel* parallel) {
  const int64_t width = lanes();
  if (width != 4 && width != 8 && width != 16)
    throw Unsupported("kernels sve works with vectors of 128, 256 and 512 bits; this processor's have " +
                      std::to_string(32 * width) + ": use \"generic\" here");
  parallel->each(host, flush_denormals, nullptr);
}

/* A line of A64FX's caches is 256 bytes: 64 floats. */
constexpr Component kComponent = {"sve", &kFunctions, kKernels, 64, prepare};

km_status open(const km_host* host, const km_options*, void** self) { return open_component(kComponent, host, self); }

} // namespace

const km_kernels kSveKernels = kernels_table(open);

} // namespace kumiki::sve
