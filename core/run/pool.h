// The compute pool of a rank: run.threads pinned threads, the calling one among them, offered to kernels as the service
// "kumiki.parallel/1". Workers spin for at most 50 µs after their last work, then sleep on a futex. Floor: run.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "core/base/cores.h"
#include "kumiki/parallel_for.h"

namespace kumiki {

class Pool {
 public:
  // `threads` in all, 0 = as many as cores that this process may use. Pins thread i to the i-th of them if `pin` (the caller until the pool is gone); the
  // caller becomes worker 0. Each worker flushes denormals to zero.
  explicit Pool(uint32_t threads = 0, bool pin = true) : Pool(threads, pin, process_cores()) {}
  // The same on some cores only; none: one thread that shares what there is with others.
  Pool(uint32_t threads, bool pin, const std::vector<int>& cores);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  uint32_t threads() const { return static_cast<uint32_t>(workers_.size()) + 1; }
  // task(context, 0 … tasks-1, worker): taken one by one from a counter; returns when all are done.
  void run(uint32_t tasks, km_task task, void* context);
  // task(context, w, w) once on each thread; barrier() may be called inside.
  void each(km_task task, void* context);
  void barrier();

  // The table of the service; it finds the pool as the context of the Host.
  static const km_parallel* service();

 private:
  void work(uint32_t worker);
  void drain(uint32_t worker);
  void start();
  void finish();

  std::vector<std::thread> workers_;
  bool spin_ = true;
  bool pinned_ = false;
  // What is being run: written by the caller before generation_ is raised, read by workers after they see it.
  km_task task_ = nullptr;
  void* context_ = nullptr;
  uint32_t tasks_ = 0;
  bool each_ = false;
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<uint32_t> next_{0};
  alignas(64) std::atomic<uint32_t> busy_{0};
  alignas(64) std::atomic<uint32_t> sleepers_{0};
  alignas(64) std::atomic<uint32_t> arrived_{0};
  std::atomic<uint32_t> phase_{0};
  std::atomic<bool> stop_{false};
};

// Flushes denormals to zero in the calling thread: they cost a hundred cycles each and carry nothing here.
void flush_denormals();

} // namespace kumiki
