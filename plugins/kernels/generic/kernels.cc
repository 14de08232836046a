/* The kernels component `generic`: all f32 ops of docs/ops.md on the host, with Google Highway's portable SIMD
 * chosen at run time. kKernels is the one list of what there is. */
#include "plugins/kernels/generic/kernels.h"

#include <exception>
#include <new>

#include "hwy/targets.h"
#include "kumiki/plugin.h"

namespace kumiki::generic {
namespace {

struct Entry {
  const char* op;
  Make make;
  int64_t accumulates = 0; /* bits of `accumulate` that the kernel honours: outputs that an addend may go into */
};

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

/* The component's `self`. */
struct Component {
  const km_host* host;
  Pool pool;
};

/* Runs `body`, which returns a status, and turns what it throws into one: nothing crosses the ABI. */
template <class Body>
km_status guarded(const km_host* host, const Body& body) {
  try {
    return body();
  } catch (const Unsupported& e) {
    return host->fail(host, KM_UNSUPPORTED, "%s", e.what());
  } catch (const std::bad_alloc&) {
    return host->fail(host, KM_ERROR_SYSTEM, "kernels generic: out of memory");
  } catch (const std::exception& e) {
    return host->fail(host, KM_ERROR_PLUGIN, "kernels generic: %s", e.what());
  }
}

std::unique_ptr<Kernel> make_kernel(const Component& component, const km_request& request) {
  for (const Entry& entry : kKernels) {
    if (!km_same_text(entry.op, request.op->name)) continue;
    const Op op(request);
    if (const int64_t mask = op.i64("accumulate", 0); (mask & ~entry.accumulates) != 0)
      throw Unsupported(op.name() + ": accumulate = " + std::to_string(mask) + " names an output that takes no addend");
    return entry.make(op, component.pool);
  }
  throw Unsupported(std::string(request.op->name) + ": generic has no such op");
}

const Component& component_of(void* self) { return *static_cast<Component*>(self); }
Kernel* kernel_of(km_kernel* kernel) { return reinterpret_cast<Kernel*>(kernel); }

km_status open(const km_host* host, const km_options*, void** self) {
  return guarded(host, [&]() -> km_status {
#if defined(__x86_64__)
    if ((hwy::SupportedTargets() & (HWY_AVX2 | HWY_AVX3)) == 0)
      throw Unsupported("kernels generic needs a processor with AVX2 and FMA; use \"reference\" here");
#endif
    const void* parallel = host->service(host, KM_PARALLEL_SERVICE);
    if (!parallel)
      return host->fail(host, KM_ERROR_HOST, "kernels generic: the host has no service %s", KM_PARALLEL_SERVICE);
    *self = new Component{host, Pool(host, static_cast<const km_parallel*>(parallel))};
    return KM_OK;
  });
}

void close(void* self) { delete static_cast<Component*>(self); }

km_status query(void* self, const km_request* request, km_support* support) {
  const Component& component = component_of(self);
  return guarded(component.host, [&] {
    const std::unique_ptr<Kernel> kernel = make_kernel(component, *request);
    const Support& s = kernel->support();
    support->flags = s.flags;
    support->workspace_bytes = s.workspace_bytes;
    for (int o = 0; o < KM_MAX_OUTPUTS; ++o) support->in_place[o] = s.in_place[o];
    for (int i = 0; i < KM_MAX_INPUTS; ++i) {
      support->prepack_bytes[i] = s.prepack_bytes[i];
      support->prepack_format[i] = s.prepack_format[i];
    }
    return KM_OK;
  });
}

km_status create(void* self, const km_request* request, km_kernel** kernel) {
  const Component& component = component_of(self);
  return guarded(component.host, [&] {
    std::unique_ptr<Kernel> made = make_kernel(component, *request);
    made->prepare();
    *kernel = reinterpret_cast<km_kernel*>(made.release());
    return KM_OK;
  });
}

void destroy(void*, km_kernel* kernel) { delete kernel_of(kernel); }

km_status pack(void* self, km_kernel* kernel, uint32_t input, km_address plain, km_address packed, km_queue*) {
  return guarded(component_of(self).host, [&] {
    kernel_of(kernel)->pack(input, reinterpret_cast<const float*>(static_cast<uintptr_t>(plain)),
                            reinterpret_cast<float*>(static_cast<uintptr_t>(packed)));
    return KM_OK;
  });
}

km_status run(void* self, km_kernel* kernel, const km_address* buffers, km_address workspace, km_queue*) {
  return guarded(component_of(self).host, [&] {
    Kernel& k = *kernel_of(kernel);
    k.run(Buffers(buffers, k.inputs()), reinterpret_cast<void*>(static_cast<uintptr_t>(workspace)));
    return KM_OK;
  });
}

constexpr km_kernels kTable = {sizeof(km_kernels), 0, open, close, query, create, destroy, pack, run, nullptr};
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
