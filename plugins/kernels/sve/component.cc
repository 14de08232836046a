/* The component's functions; kKernels is the one list of the ops that there are. What is missing here (generation from
 * a cache, bf16, rare elementwise functions) is left to the next component of the chain. */
#include "plugins/kernels/sve/component.h"

#include <exception>
#include <new>

#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

struct Entry {
  const char* op;
  Make make;
};

constexpr Entry kKernels[] = {
    {"matmul", make_matmul},
    {"matmul_bias", make_matmul},
    {"matmul_group", make_matmul_group},
    {"add", make_binary},
    {"subtract", make_binary},
    {"multiply", make_binary},
    {"copy", make_copy},
    {"square", make_unary},
    {"gelu", make_unary},
    {"silu", make_unary},
    {"gelu_backward", make_activation_backward},
    {"silu_backward", make_activation_backward},
    {"swiglu", make_swiglu},
    {"swiglu_backward", make_swiglu_backward},
    {"scale", make_scale},
    {"bias_add", make_bias_add},
    {"sum_rows", make_sum_rows},
    {"sum_squares", make_sum_squares},
    {"layernorm", make_norm},
    {"rmsnorm", make_norm},
    {"add_layernorm", make_norm},
    {"add_rmsnorm", make_norm},
    {"layernorm_backward", make_norm_backward},
    {"rmsnorm_backward", make_norm_backward},
    {"layernorm_backward_weight", make_norm_backward_weight},
    {"rmsnorm_backward_weight", make_norm_backward_weight},
    {"attention", make_attention},
    {"attention_backward", make_attention_backward},
    {"rope", make_rope},
    {"add_position", make_add_position},
    {"add_position_backward", make_add_position_backward},
    {"embedding", make_embedding},
    {"embedding_backward", make_embedding_backward},
    {"projection_cross_entropy", make_projection_cross_entropy},
    {"projection_cross_entropy_train", make_projection_cross_entropy},
    {"row_max", make_row_max},
    {"row_exp_pick", make_row_exp_pick},
    {"cross_entropy_parts", make_cross_entropy_parts},
    {"cross_entropy_parts_backward", make_cross_entropy_parts_backward},
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
    return host->fail(host, KM_ERROR_SYSTEM, "kernels sve: out of memory");
  } catch (const std::exception& e) {
    return host->fail(host, KM_ERROR_PLUGIN, "kernels sve: %s", e.what());
  }
}

std::unique_ptr<Kernel> make_kernel(const Component& component, const km_request& request) {
  for (const Entry& entry : kKernels)
    if (km_same_text(entry.op, request.op->name)) return entry.make(Op(request), component.pool);
  throw Unsupported(std::string(request.op->name) + ": sve has no such op");
}

const Component& component_of(void* self) { return *static_cast<Component*>(self); }
Kernel* kernel_of(km_kernel* kernel) { return reinterpret_cast<Kernel*>(kernel); }

/* FZ and FZ16: A64FX computes with a denormal in some 90 cycles, and commits earlier where it knows that there are
 * none. */
void flush_denormals(void*, uint32_t, uint32_t) {
  uint64_t control;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  asm volatile("msr fpcr, %0" ::"r"(control | (uint64_t{1} << 24) | (uint64_t{1} << 19)));
}

km_status open(const km_host* host, const km_options*, void** self) {
  return guarded(host, [&]() -> km_status {
    const int64_t width = lanes();
    if (width != 4 && width != 8 && width != 16)
      throw Unsupported("kernels sve works with vectors of 128, 256 and 512 bits; this processor's have " +
                        std::to_string(32 * width) + ": use \"generic\" here");
    const auto* parallel = static_cast<const km_parallel*>(host->service(host, KM_PARALLEL_SERVICE));
    if (!parallel)
      return host->fail(host, KM_ERROR_HOST, "kernels sve: the host has no service %s", KM_PARALLEL_SERVICE);
    parallel->each(host, flush_denormals, nullptr);
    *self = new Component{host, Pool(host, parallel)};
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

} // namespace

const km_kernels kSveKernels = {sizeof(km_kernels), 0, open, close, query, create, destroy, pack, run, nullptr};

} // namespace kumiki::sve
