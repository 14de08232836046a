/* plugin.c: the component "reference" of kind "kernels", on the host device. */
#include "kumiki/plugin.h"

#include "reference.h"

static km_status open_component(const km_host* host, const km_options* options, void** self) {
  (void)options;
  *self = (void*)(uintptr_t)host;
  return KM_OK;
}

static void close_component(void* self) { (void)self; }

static km_status query(void* self, const km_request* request, km_support* support) {
  return reference_query(self, request, support);
}

static km_status create(void* self, const km_request* request, km_kernel** kernel) {
  return reference_create(self, request, (reference_kernel**)kernel);
}

static void destroy(void* self, km_kernel* kernel) {
  (void)self;
  reference_destroy((reference_kernel*)kernel);
}

static km_status run(void* self, km_kernel* kernel, const km_address* buffers, km_address workspace, km_queue* queue) {
  (void)self, (void)queue;
  void* pointers[KM_MAX_INPUTS + KM_MAX_OUTPUTS];
  uint32_t n = reference_buffers((const reference_kernel*)kernel);
  for (uint32_t i = 0; i < n; ++i) pointers[i] = (void*)(uintptr_t)buffers[i];
  return reference_run((const reference_kernel*)kernel, pointers, (void*)(uintptr_t)workspace);
}

static const km_kernels kernels = {
    .struct_size = sizeof(km_kernels),
    .open = open_component,
    .close = close_component,
    .query = query,
    .create = create,
    .destroy = destroy,
    .run = run,
};

static const km_component components[] = {
    {"kernels", "reference", KM_KERNELS_VERSION, 0, &kernels, NULL,
     "every op in plain C, sums in double: the specification"},
};

static const km_plugin plugin = {
    .struct_size = sizeof(km_plugin),
    .abi_minor = KM_ABI_MINOR,
    .name = "reference",
    .version = "0.1",
    .vendor = "Kumiki",
    .licence = "Apache-2.0",
    .components = components,
    .component_count = 1,
    .component_size = sizeof(km_component),
    .option_size = sizeof(km_option),
};
KM_PLUGIN(plugin)
