/* plugin.cc: the component "fake" of kind "kernels": a device for tests. It computes what `reference` computes, but in
 * memory that the host cannot read and on queues that are threads: a core that is right here does not lean on shared
 * memory or on run being done when it returns. */
#include "kumiki/plugin.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "plugins/kernels/reference/reference.h"
#include "tests/abi/fake_device/gate.h"
#include "tests/abi/fake_device/memory.h"
#include "tests/abi/fake_device/queue.h"

namespace kumiki::fake_device {
namespace {

/* The text of a failure on a queue's thread, until queue_wait tells it in the thread that waits. */
thread_local std::string* queue_error = nullptr;

/* The host as the reference ops see it: its first member is the table that they get. */
struct Host {
  km_host table;
  const km_host* real;
};

km_status fail(const km_host* host, km_status code, const char* format, ...) {
  char text[2048];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (queue_error) {
    *queue_error = text;
    return code;
  }
  const km_host* real = reinterpret_cast<const Host*>(host)->real;
  return real->fail(real, code, "%s", text);
}

struct Device {
  Device(const km_host* real, uint64_t memory_bytes, int64_t jitter_microseconds)
      : memory(memory_bytes), jitter(jitter_microseconds) {
    host.real = real;
    host.table = *real;
    host.table.struct_size = sizeof(km_host);
    host.table.fail = fail;
    host.table.allocate = [](const km_host* h, uint64_t bytes, uint64_t alignment) {
      const km_host* r = reinterpret_cast<const Host*>(h)->real;
      return r->allocate(r, bytes, alignment);
    };
    host.table.release = [](const km_host* h, void* at) {
      const km_host* r = reinterpret_cast<const Host*>(h)->real;
      r->release(r, at);
    };
  }
  Host host{};
  Memory memory;
  int64_t jitter;
};

Device& device_of(void* self) { return *static_cast<Device*>(self); }

Outcome outside(const std::string& what, km_address address, uint64_t bytes) {
  char text[256];
  snprintf(text, sizeof text, "fake device: %s: no device memory holds %llu bytes at %#llx", what.c_str(),
           static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(address));
  return {KM_ERROR_HOST, text};
}

km_status no_queue(Device& device, const char* what) {
  return device.host.real->fail(device.host.real, KM_ERROR_HOST, "fake device: %s without a queue", what);
}

} // namespace
} // namespace kumiki::fake_device

using namespace kumiki::fake_device;

/* Shared with the work that is on the queues. */
struct km_kernel {
  struct Body {
    reference_kernel* kernel = nullptr;
    std::string name;
    std::vector<uint64_t> bytes; /* of each buffer */
    uint64_t workspace_bytes = 0;
    ~Body() { reference_destroy(kernel); }
  };
  std::shared_ptr<Body> body;
};

namespace kumiki::fake_device {
namespace {

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

km_status open_component(const km_host* host, const km_options* options, void** self) {
  *self = new Device(host, static_cast<uint64_t>(km_option_i64(options, "memory_mebibytes")) << 20,
                     km_option_i64(options, "jitter_microseconds"));
  return KM_OK;
}

void close_component(void* self) { delete static_cast<Device*>(self); }

km_status query(void* self, const km_request* request, km_support* support) {
  return reference_query(&device_of(self).host.table, request, support);
}

km_status create(void* self, const km_request* request, km_kernel** kernel) {
  Device& device = device_of(self);
  auto body = std::make_shared<km_kernel::Body>();
  km_support support{};
  support.struct_size = sizeof support;
  if (const km_status status = reference_query(&device.host.table, request, &support); status != KM_OK) return status;
  if (const km_status status = reference_create(&device.host.table, request, &body->kernel); status != KM_OK)
    return status;
  const km_op& op = *request->op;
  body->name = op.name;
  body->workspace_bytes = support.workspace_bytes;
  for (uint32_t i = 0; i < op.n_inputs; ++i) body->bytes.push_back(km_bytes(&op.inputs[i]));
  for (uint32_t o = 0; o < op.n_outputs; ++o) body->bytes.push_back(km_bytes(&op.outputs[o]));
  *kernel = new km_kernel{body};
  return KM_OK;
}

void destroy(void*, km_kernel* kernel) { delete kernel; }

/* On a queue's thread. */
Outcome run_now(Device& device, const km_kernel::Body& kernel, const std::vector<km_address>& buffers,
                km_address workspace) {
  Access access(device.memory);
  std::vector<void*> pointers;
  for (size_t i = 0; i < buffers.size(); ++i) {
    pointers.push_back(access.open(buffers[i], kernel.bytes[i]));
    if (!pointers.back() && kernel.bytes[i])
      return outside(kernel.name + ", buffer " + std::to_string(i), buffers[i], kernel.bytes[i]);
  }
  void* scratch = access.open(workspace, kernel.workspace_bytes);
  if (!scratch && kernel.workspace_bytes)
    return outside(kernel.name + ", workspace", workspace, kernel.workspace_bytes);
  /* The contents of a workspace are undefined: so they are never those of the run before. */
  if (scratch) std::memset(scratch, 0xff, kernel.workspace_bytes);
  Outcome outcome;
  queue_error = &outcome.text;
  outcome.status = reference_run(kernel.kernel, pointers.data(), scratch);
  queue_error = nullptr;
  return outcome;
}

km_status run(void* self, km_kernel* kernel, const km_address* buffers, km_address workspace, km_queue* queue) {
  Device& device = device_of(self);
  if (!queue) return no_queue(device, "run");
  const auto body = kernel->body;
  std::vector<km_address> copy(buffers, buffers + body->bytes.size());
  queue->work([&device, body, copy = std::move(copy), workspace] { return run_now(device, *body, copy, workspace); });
  return KM_OK;
}

/* ---- device ------------------------------------------------------------------------------------------------------ */

km_status info(void* self, km_device_info* info) {
  info->name = "fake device (tests)";
  info->memory_bytes = device_of(self).memory.capacity();
  return KM_OK;
}

km_status allocate(void* self, uint64_t bytes, uint32_t kind, km_address* address) {
  Device& device = device_of(self);
  const km_host* host = device.host.real;
  if (kind == KM_MEMORY_PINNED)
    *address = reinterpret_cast<km_address>(host->allocate(host, bytes, 256));
  else if (kind == KM_MEMORY_DEVICE)
    *address = device.memory.allocate(bytes);
  else
    return host->fail(host, KM_ERROR_HOST, "fake device: no memory of kind %u", kind);
  if (*address) return KM_OK;
  return host->fail(host, KM_ERROR_SYSTEM, "fake device: no %llu bytes left", static_cast<unsigned long long>(bytes));
}

void release(void* self, km_address address, uint32_t kind) {
  Device& device = device_of(self);
  const km_host* host = device.host.real;
  if (address == 0) return;
  if (kind == KM_MEMORY_PINNED) return host->release(host, reinterpret_cast<void*>(address));
  if (device.memory.release(address)) return;
  std::fprintf(stderr, "fake device: released memory that is in use or was never given\n");
  std::abort(); /* release cannot fail, and a core that does this is wrong */
}

km_status queue_create(void* self, km_queue** queue) {
  *queue = new km_queue(device_of(self).jitter);
  return KM_OK;
}

void queue_destroy(void*, km_queue* queue) { delete queue; }

km_status queue_wait(void* self, km_queue* queue) {
  Device& device = device_of(self);
  if (!queue) return no_queue(device, "queue_wait");
  const Outcome outcome = queue->wait();
  if (outcome.status == KM_OK) return KM_OK;
  return device.host.real->fail(device.host.real, outcome.status, "%s", outcome.text.c_str());
}

km_status event_create(void*, km_event** event) {
  *event = new km_event;
  return KM_OK;
}

void event_destroy(void*, km_event* event) { delete event; }

km_status event_record(void* self, km_event* event, km_queue* queue) {
  if (!queue) return no_queue(device_of(self), "event_record");
  event->record(*queue);
  return KM_OK;
}

km_status event_wait(void* self, km_event* event, km_queue* queue) {
  if (!queue) return no_queue(device_of(self), "event_wait");
  event->wait(*queue);
  return KM_OK;
}

km_status copy(void* self, km_address destination, km_address source, uint64_t bytes, uint32_t direction,
               km_queue* queue) {
  Device& device = device_of(self);
  if (!queue) return no_queue(device, "copy");
  if (direction < KM_COPY_TO_DEVICE || direction > KM_COPY_WITHIN)
    return device.host.real->fail(device.host.real, KM_ERROR_HOST, "fake device: copy in no direction (%u)", direction);
  queue->work([&device, destination, source, bytes, direction]() -> Outcome {
    if (bytes == 0) return {};
    Access access(device.memory);
    void* to =
        direction == KM_COPY_FROM_DEVICE ? reinterpret_cast<void*>(destination) : access.open(destination, bytes);
    const void* from =
        direction == KM_COPY_TO_DEVICE ? reinterpret_cast<const void*>(source) : access.open(source, bytes);
    if (!to) return outside("copy, destination", destination, bytes);
    if (!from) return outside("copy, source", source, bytes);
    std::memmove(to, from, bytes);
    return {};
  });
  return KM_OK;
}

km_status fill(void* self, km_address destination, uint32_t byte, uint64_t bytes, km_queue* queue) {
  Device& device = device_of(self);
  if (!queue) return no_queue(device, "fill");
  queue->work([&device, destination, byte, bytes]() -> Outcome {
    if (bytes == 0) return {};
    Access access(device.memory);
    void* to = access.open(destination, bytes);
    if (!to) return outside("fill", destination, bytes);
    std::memset(to, static_cast<int>(byte & 0xff), bytes);
    return {};
  });
  return KM_OK;
}

const km_device device_table = {
    .struct_size = sizeof(km_device),
    .reserved = 0,
    .info = info,
    .allocate = allocate,
    .release = release,
    .queue_create = queue_create,
    .queue_destroy = queue_destroy,
    .queue_wait = queue_wait,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_wait = event_wait,
    .copy = copy,
    .fill = fill,
};

/* ---- gates ------------------------------------------------------------------------------------------------------- */

using SharedTicket = std::shared_ptr<Ticket>;

km_status shut_gate(void* self, km_queue* queue, fake_gate** gate) {
  if (!queue) return no_queue(device_of(self), "a gate");
  auto* ticket = new SharedTicket(std::make_shared<Ticket>());
  queue->signal([held = *ticket] { held->wait(); });
  *gate = reinterpret_cast<fake_gate*>(ticket);
  return KM_OK;
}

void open_gate(void*, fake_gate* gate) {
  auto* ticket = reinterpret_cast<SharedTicket*>(gate);
  (*ticket)->done();
  delete ticket;
}

const fake_gates gate_table = {sizeof(fake_gates), 0, shut_gate, open_gate};

const void* ability(void*, const char* id) {
  if (km_same_text(id, KM_DEVICE_ABILITY)) return &device_table;
  if (km_same_text(id, FAKE_GATE_ABILITY)) return &gate_table;
  return nullptr;
}

const km_kernels kernels = {
    .struct_size = sizeof(km_kernels),
    .reserved = 0,
    .open = open_component,
    .close = close_component,
    .query = query,
    .create = create,
    .destroy = destroy,
    .pack = nullptr,
    .run = run,
    .ability = ability,
};

const km_option options[] = {
    {"memory_mebibytes", KM_OPTION_I64, 0, "4096", 1, 1 << 20, nullptr, "device memory in all"},
    {"jitter_microseconds", KM_OPTION_I64, 0, "0", 0, 1e6, nullptr,
     "sleep up to so long before each piece of work: shows missing waits"},
};

const km_component components[] = {
    {"kernels", "fake", KM_KERNELS_VERSION, 2, &kernels, options,
     "a device for tests: reference ops on queues of its own"},
};

const km_plugin plugin = {
    .struct_size = sizeof(km_plugin),
    .abi_minor = KM_ABI_MINOR,
    .name = "fake_device",
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
} // namespace kumiki::fake_device

KM_PLUGIN(kumiki::fake_device::plugin)
