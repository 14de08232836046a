/* plugin.cc: the component "onednn" of kind "kernels": matrix products in f32 and bf16 by oneDNN, and what goes with
 * them. */
#include "kumiki/plugin.h"

#include "instance.h"

/* A kernel of this component, as the ABI sees it. */
struct km_kernel {
  std::unique_ptr<kumiki::onednn::Kernel> body;
};

namespace kumiki::onednn {
namespace {

/* One ordered table: the op, who makes its kernel, and the bits of `accumulate` that the kernel honours. */
const struct {
  const char* op;
  std::unique_ptr<Kernel> (*make)(const Instance&, const km_request&);
  int64_t accumulates;
} kOps[] = {
    {"matmul", make_linear, 1},
    {"matmul_bias", make_linear, 1},
    {"matmul_group", make_linear, 0},
    {"projection_cross_entropy", make_projection, 0},
    {"projection_cross_entropy_train", make_projection, 4 | 8},
    {"cast", make_cast, 0},
};

/* Nothing thrown leaves the plugin. */
template <typename F>
km_status guarded(const km_host* host, const char* what, F&& body) {
  try {
    body();
    return KM_OK;
  } catch (const Unsupported& refusal) {
    return host->fail(host, KM_UNSUPPORTED, "onednn: %s: %s", what, refusal.what());
  } catch (const std::bad_alloc&) {
    return host->fail(host, KM_ERROR_SYSTEM, "onednn: %s: out of memory", what);
  } catch (const std::exception& error) {
    return host->fail(host, KM_ERROR_PLUGIN, "onednn: %s: %s", what, error.what());
  }
}

Instance& instance_of(void* self) { return *static_cast<Instance*>(self); }

km_status open_component(const km_host* host, const km_options*, void** self) {
  return guarded(host, "open", [&] {
    const auto* parallel = static_cast<const km_parallel*>(host->service(host, KM_PARALLEL_SERVICE));
    if (!parallel) throw Unsupported("the host has no service " KM_PARALLEL_SERVICE);
    *self = new Instance(host, parallel);
  });
}

void close_component(void* self) { delete static_cast<Instance*>(self); }

std::unique_ptr<Kernel> make(const Instance& instance, const km_request* request) {
  for (uint32_t i = 0; i < request->op->n_inputs; ++i)
    if (request->op->inputs[i].layout != 0) throw Unsupported("only the row layout");
  for (const auto& row : kOps) {
    if (!km_same_text(row.op, request->op->name)) continue;
    if ((km_attribute_i64(request->op, "accumulate", 0) & ~row.accumulates) != 0)
      throw Unsupported("accumulate names an output that takes no addend");
    return row.make(instance, *request);
  }
  throw Unsupported("not one of its ops");
}

km_status query(void* self, const km_request* request, km_support* support) {
  Instance& instance = instance_of(self);
  return guarded(instance.host, request->op->name, [&] { make(instance, request)->describe(support); });
}

km_status create(void* self, const km_request* request, km_kernel** kernel) {
  Instance& instance = instance_of(self);
  return guarded(instance.host, request->op->name, [&] {
    auto made = std::make_unique<km_kernel>();
    made->body = make(instance, request);
    made->body->prepare();
    *kernel = made.release();
  });
}

void destroy(void*, km_kernel* kernel) { delete kernel; }

km_status pack(void* self, km_kernel* kernel, uint32_t input, km_address plain, km_address packed, km_queue*) {
  return guarded(instance_of(self).host, "pack", [&] { kernel->body->pack(input, pointer(plain), pointer(packed)); });
}

km_status run(void* self, km_kernel* kernel, const km_address* buffers, km_address workspace, km_queue*) {
  return guarded(instance_of(self).host, "run", [&] { kernel->body->run(buffers, pointer(workspace)); });
}

const km_kernels kernels = {
    .struct_size = sizeof(km_kernels),
    .reserved = 0,
    .open = open_component,
    .close = close_component,
    .query = query,
    .create = create,
    .destroy = destroy,
    .pack = pack,
    .run = run,
    .ability = nullptr,
};

const km_component components[] = {
    {"kernels", "onednn", KM_KERNELS_VERSION, 0, &kernels, nullptr,
     "matrix products in f32 and bf16 by oneDNN (x86-64)"},
};

const km_plugin plugin = {
    .struct_size = sizeof(km_plugin),
    .abi_minor = KM_ABI_MINOR,
    .name = "onednn",
    .version = "0.1",
    .vendor = "Kumiki",
    .licence = "Apache-2.0",
    .components = components,
    .component_count = 1,
    .component_size = sizeof(km_component),
    .option_size = sizeof(km_option),
    .reserved = 0,
};

} // namespace
} // namespace kumiki::onednn

KM_PLUGIN(kumiki::onednn::plugin)
