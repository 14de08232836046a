#include "plugins/kernels/host/component.h"

#include <exception>
#include <new>

namespace kumiki::kernels {
namespace {

/* The component's `self`. */
struct Instance {
  const Component& component;
  const km_host* host;
  Pool pool;
};

/* Runs `body`, which returns a status, and turns what it throws into one: nothing crosses the ABI. */
template <class Body>
km_status guarded(const Component& component, const km_host* host, const Body& body) {
  try {
    return body();
  } catch (const Unsupported& e) {
    return host->fail(host, KM_UNSUPPORTED, "%s", e.what());
  } catch (const std::bad_alloc&) {
    return host->fail(host, KM_ERROR_SYSTEM, "kernels %s: out of memory", component.name);
  } catch (const std::exception& e) {
    return host->fail(host, KM_ERROR_PLUGIN, "kernels %s: %s", component.name, e.what());
  }
}

template <class Body>
km_status guarded(const Instance& instance, const Body& body) {
  return guarded(instance.component, instance.host, body);
}

std::unique_ptr<Kernel> make_kernel(const Instance& instance, const km_request& request) {
  const Component& component = instance.component;
  for (const Entry& entry : component.entries) {
    if (!km_same_text(entry.op, request.op->name)) continue;
    const Op op(request, component.name, *component.functions);
    if (const int64_t mask = op.i64("accumulate", 0); (mask & ~entry.accumulates) != 0)
      throw Unsupported(op.name() + ": accumulate = " + std::to_string(mask) + " names an output that takes no addend");
    return entry.make(op, instance.pool);
  }
  throw Unsupported(std::string(request.op->name) + ": " + component.name + " has no such op");
}

const Instance& instance_of(void* self) { return *static_cast<Instance*>(self); }
Kernel* kernel_of(km_kernel* kernel) { return reinterpret_cast<Kernel*>(kernel); }

} // namespace

km_status open_component(const Component& component, const km_host* host, void** self) {
  return guarded(component, host, [&]() -> km_status {
    const auto* parallel = static_cast<const km_parallel*>(host->service(host, KM_PARALLEL_SERVICE));
    if (!parallel)
      return host->fail(host, KM_ERROR_HOST, "kernels %s: the host has no service %s", component.name,
                        KM_PARALLEL_SERVICE);
    component.prepare(host, parallel);
    *self = new Instance{component, host, Pool(host, parallel, component.granule)};
    return KM_OK;
  });
}

void close_component(void* self) { delete static_cast<Instance*>(self); }

km_status query(void* self, const km_request* request, km_support* support) {
  return guarded(instance_of(self), [&] {
    const std::unique_ptr<Kernel> kernel = make_kernel(instance_of(self), *request);
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
  return guarded(instance_of(self), [&] {
    std::unique_ptr<Kernel> made = make_kernel(instance_of(self), *request);
    made->prepare();
    *kernel = reinterpret_cast<km_kernel*>(made.release());
    return KM_OK;
  });
}

void destroy(void*, km_kernel* kernel) { delete kernel_of(kernel); }

km_status pack(void* self, km_kernel* kernel, uint32_t input, km_address plain, km_address packed, km_queue*) {
  return guarded(instance_of(self), [&] {
    kernel_of(kernel)->pack(input, reinterpret_cast<const float*>(static_cast<uintptr_t>(plain)),
                            reinterpret_cast<float*>(static_cast<uintptr_t>(packed)));
    return KM_OK;
  });
}

km_status run(void* self, km_kernel* kernel, const km_address* buffers, km_address workspace, km_queue*) {
  return guarded(instance_of(self), [&] {
    Kernel& k = *kernel_of(kernel);
    k.run(Buffers(buffers, k.inputs()), reinterpret_cast<void*>(static_cast<uintptr_t>(workspace)));
    return KM_OK;
  });
}

} // namespace kumiki::kernels
