/* A kernels component that computes on the host: its description (what it is called, the list of its ops, its vector
 * code) becomes the functions of km_kernels. Above kernel.h; each component makes one table of this. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_COMPONENT_H
#define KUMIKI_PLUGINS_KERNELS_HOST_COMPONENT_H

#include <span>

#include "plugins/kernels/host/kernel.h"

namespace kumiki::kernels {

struct Entry {
  const char* op;
  Make make;
  int64_t accumulates = 0; /* bits of `accumulate` that the kernel honours: outputs that an addend may go into */
};

struct Component {
  const char* name;
  const Functions* functions;
  std::span<const Entry> entries;
  int64_t granule; /* Pool::ranges cuts at multiples of so many: no two threads then write to one line of the cache */
  /* Throws Unsupported where the processor is not one for this component; else readies the threads of the pool. */
  void (*prepare)(const km_host* host, const km_parallel* parallel);
};

/* What a component's own `open` ends with. `component` lives as long as the plugin. */
km_status open_component(const Component& component, const km_host* host, void** self);

/* The rest of the table, the same for all. */
void close_component(void* self);
km_status query(void* self, const km_request* request, km_support* support);
km_status create(void* self, const km_request* request, km_kernel** kernel);
void destroy(void* self, km_kernel* kernel);
km_status pack(void* self, km_kernel* kernel, uint32_t input, km_address plain, km_address packed, km_queue* queue);
km_status run(void* self, km_kernel* kernel, const km_address* buffers, km_address workspace, km_queue* queue);

constexpr km_kernels kernels_table(decltype(km_kernels::open) open) {
  return {sizeof(km_kernels), 0, open, close_component, query, create, destroy, pack, run, nullptr};
}

} // namespace kumiki::kernels

#endif
