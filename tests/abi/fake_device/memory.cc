#include "tests/abi/fake_device/memory.h"

#include <sys/mman.h>

#include <cstring>

namespace kumiki::fake_device {
namespace {

/* No processor takes such an address for a pointer: bits 47 … 63 of a pointer are alike. */
constexpr km_address kSecret = 0x5ec4'0000'0000'0000u;
constexpr uint64_t kPage = 65536; /* a multiple of every page size in use */

} // namespace

Memory::~Memory() {
  for (auto& [address, allocation] : allocations_) munmap(allocation.pages, allocation.page_bytes);
}

km_address Memory::allocate(uint64_t bytes) {
  const uint64_t page_bytes = (bytes + kPage - 1) / kPage * kPage + (bytes == 0 ? kPage : 0);
  std::lock_guard lock(mutex_);
  if (page_bytes < bytes || page_bytes > capacity_ - used_) return 0;
  void* pages = mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return 0;
  std::memset(pages, 0xff, bytes);
  mprotect(pages, page_bytes, PROT_NONE);
  used_ += page_bytes;
  const km_address address = reinterpret_cast<km_address>(pages) + kSecret;
  allocations_[address] = {pages, bytes, page_bytes, 0};
  return address;
}

bool Memory::release(km_address address) {
  std::lock_guard lock(mutex_);
  const auto found = allocations_.find(address);
  if (found == allocations_.end() || found->second.users > 0) return false;
  munmap(found->second.pages, found->second.page_bytes);
  used_ -= found->second.page_bytes;
  allocations_.erase(found);
  return true;
}

Memory::Allocation* Memory::find(km_address address, uint64_t bytes) {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  auto& [start, allocation] = *--after;
  const uint64_t offset = address - start;
  return offset <= allocation.bytes && bytes <= allocation.bytes - offset ? &allocation : nullptr;
}

void* Access::open(km_address address, uint64_t bytes) {
  if (bytes == 0) return nullptr;
  std::lock_guard lock(memory_.mutex_);
  Memory::Allocation* allocation = memory_.find(address, bytes);
  if (!allocation) return nullptr;
  if (allocation->users++ == 0) mprotect(allocation->pages, allocation->page_bytes, PROT_READ | PROT_WRITE);
  held_.push_back(allocation);
  return reinterpret_cast<void*>(address - kSecret);
}

Access::~Access() {
  std::lock_guard lock(memory_.mutex_);
  for (Memory::Allocation* allocation : held_)
    if (--allocation->users == 0) mprotect(allocation->pages, allocation->page_bytes, PROT_NONE);
}

} // namespace kumiki::fake_device
