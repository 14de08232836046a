#include "core/plan/device.h"

#include <sys/mman.h>

#include <cstring>

#include "core/base/error.h"
#include "core/plugin/host.h"

namespace kumiki {
namespace {

Error device_error(const std::string& name, const std::string& what) {
  const std::string text = Host::take_error();
  Error error("device " + name, what + (text.empty() ? "" : ": " + text));
  error.exit_code = 6;
  return error;
}

class HostDevice final : public Device {
 public:
  std::string name() const override { return "host"; }
  bool is_host() const override { return true; }

  km_address allocate(uint64_t bytes) override {
    // Pages come zeroed and are counted only once touched, so a plan that is larger than the need costs nothing.
    void* memory =
        mmap(nullptr, round_up(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw device_error(name(), "no memory for " + std::to_string(bytes) + " bytes");
    madvise(memory, round_up(bytes), MADV_HUGEPAGE);
    return reinterpret_cast<km_address>(memory);
  }
  void release(km_address address, uint64_t bytes) override {
    munmap(reinterpret_cast<void*>(address), round_up(bytes));
  }
  km_status copy(km_address destination, km_address source, uint64_t bytes, uint32_t) override {
    std::memcpy(reinterpret_cast<void*>(destination), reinterpret_cast<const void*>(source), bytes);
    return KM_OK;
  }
  km_status fill(km_address destination, uint32_t byte, uint64_t bytes) override {
    std::memset(reinterpret_cast<void*>(destination), static_cast<int>(byte), bytes);
    return KM_OK;
  }
  km_status wait() override { return KM_OK; }
  km_queue* queue() override { return nullptr; }

 private:
  static uint64_t round_up(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096 + (bytes == 0 ? 4096 : 0); }
};

class PluginDevice final : public Device {
 public:
  PluginDevice(std::string component, void* self, const km_device* table)
      : name_(std::move(component)), self_(self), table_(table) {
    if (table_->queue_create(self_, &queue_) != KM_OK) throw device_error(name_, "cannot make a queue");
  }
  ~PluginDevice() override {
    table_->queue_wait(self_, queue_);
    table_->queue_destroy(self_, queue_);
  }
  std::string name() const override { return name_; }
  bool is_host() const override { return false; }

  km_address allocate(uint64_t bytes) override {
    km_address address = 0;
    if (table_->allocate(self_, bytes == 0 ? 256 : bytes, KM_MEMORY_DEVICE, &address) != KM_OK)
      throw device_error(name_, "no memory for " + std::to_string(bytes) + " bytes");
    return address;
  }
  void release(km_address address, uint64_t) override { table_->release(self_, address, KM_MEMORY_DEVICE); }
  km_status copy(km_address destination, km_address source, uint64_t bytes, uint32_t direction) override {
    return table_->copy(self_, destination, source, bytes, direction, queue_);
  }
  km_status fill(km_address destination, uint32_t byte, uint64_t bytes) override {
    return table_->fill(self_, destination, byte, bytes, queue_);
  }
  km_status wait() override { return table_->queue_wait(self_, queue_); }
  km_queue* queue() override { return queue_; }

 private:
  std::string name_;
  void* self_;
  const km_device* table_;
  km_queue* queue_ = nullptr;
};

} // namespace

void Device::upload(km_address destination, const void* source, uint64_t bytes) {
  if (copy(destination, reinterpret_cast<km_address>(source), bytes, KM_COPY_TO_DEVICE) != KM_OK || wait() != KM_OK)
    throw device_error(name(), "a copy to the device failed");
}

void Device::download(void* destination, km_address source, uint64_t bytes) {
  if (copy(reinterpret_cast<km_address>(destination), source, bytes, KM_COPY_FROM_DEVICE) != KM_OK || wait() != KM_OK)
    throw device_error(name(), "a copy from the device failed");
}

std::unique_ptr<Device> make_host_device() { return std::make_unique<HostDevice>(); }

std::unique_ptr<Device> make_plugin_device(const std::string& component, void* self, const km_device* table) {
  return std::make_unique<PluginDevice>(component, self, table);
}

} // namespace kumiki
