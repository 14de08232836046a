// Memory and queues of the device that a run computes on: the host itself, or a kernels component with the ability
// "kumiki.device/1". The rest of the core never dereferences a km_address. Floor: plan.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kumiki/device.h"

namespace kumiki {

// All functions throw Error (exit code 6) when the device fails. Used by the thread that drives the rank.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;
  virtual bool is_host() const = 0;
  // 256-byte aligned, not cleared. Host memory comes straight from the kernel, in huge pages where there are some.
  virtual km_address allocate(uint64_t bytes) = 0;
  virtual void release(km_address address, uint64_t bytes) = 0;
  // Enqueued on the one compute queue, in order with kernels.
  virtual km_status copy(km_address destination, km_address source, uint64_t bytes, uint32_t direction) = 0;
  virtual km_status fill(km_address destination, uint32_t byte, uint64_t bytes) = 0;
  virtual km_status wait() = 0;  // until all that was enqueued is done
  virtual km_queue* queue() = 0; // NULL on the host

  void upload(km_address destination, const void* source, uint64_t bytes); // enqueue and wait
  void download(void* destination, km_address source, uint64_t bytes);
};

std::unique_ptr<Device> make_host_device();
// `self` and `table` belong to an opened kernels component, which must outlive the device.
std::unique_ptr<Device> make_plugin_device(const std::string& component, void* self, const km_device* table);

} // namespace kumiki
