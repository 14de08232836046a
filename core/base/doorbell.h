// Doorbell: one thread sleeps until another rings, or until some time is over. Ringing costs nothing but an addition while
// nobody sleeps. Floor: base.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <ctime>

namespace kumiki {

class Doorbell {
 public:
  // How often it was rung: read before the condition is looked at. [any]
  uint32_t count() const { return rings_.load(std::memory_order_seq_cst); }
  void ring() {
    rings_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) != 0)
      syscall(SYS_futex, &rings_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }
  // Returns once it was rung after `seen` was read, or after so many microseconds; sometimes before either.
  void wait(uint32_t seen, int64_t microseconds) {
    const timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    if (rings_.load(std::memory_order_seq_cst) == seen)
      syscall(SYS_futex, &rings_, FUTEX_WAIT_PRIVATE, seen, &time, nullptr, 0);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

 private:
  alignas(64) std::atomic<uint32_t> rings_{0};
  std::atomic<uint32_t> sleepers_{0};
};

} // namespace kumiki
