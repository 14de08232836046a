/* memory.h: device memory that the host cannot read: pages without any permission, given out at addresses that are no
 * pointers. Only an Access, which the queues' threads hold while they run one piece of work, opens the pages. */
#ifndef KUMIKI_TESTS_ABI_FAKE_DEVICE_MEMORY_H
#define KUMIKI_TESTS_ABI_FAKE_DEVICE_MEMORY_H

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "kumiki/device.h"

namespace kumiki::fake_device {

/* All functions from any thread. */
class Memory {
 public:
  explicit Memory(uint64_t capacity) : capacity_(capacity) {}
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  uint64_t capacity() const { return capacity_; }
  /* 0 if there is not so much left. New memory is full of NaN. */
  km_address allocate(uint64_t bytes);
  /* False if this is not the start of an allocation, or work is running on it. */
  bool release(km_address address);

 private:
  friend class Access;
  struct Allocation {
    void* pages;
    uint64_t bytes, page_bytes;
    int users; /* Accesses that hold it open */
  };
  /* The allocation that holds [address, address + bytes), or NULL. Under the mutex. */
  Allocation* find(km_address address, uint64_t bytes);

  const uint64_t capacity_;
  std::mutex mutex_;
  std::map<km_address, Allocation> allocations_; /* by first address */
  uint64_t used_ = 0;
};

/* Holds the pages of some ranges open while it lives. Of a queue's thread. */
class Access {
 public:
  explicit Access(Memory& memory) : memory_(memory) {}
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
  /* A pointer to the range; NULL if no allocation holds it. A range of no bytes is a NULL that is right. */
  void* open(km_address address, uint64_t bytes);

 private:
  Memory& memory_;
  std::vector<Memory::Allocation*> held_;
};

} // namespace kumiki::fake_device

#endif
