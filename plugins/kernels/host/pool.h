/* The core's compute pool as a C++ object: parallel_for over numbered tasks. Kernels have no threads of their own.
 * Floor: the base of the folder, above abi/ only. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_POOL_H
#define KUMIKI_PLUGINS_KERNELS_HOST_POOL_H

#include <cstdint>

#include "kumiki/base.h"
#include "kumiki/parallel_for.h"

namespace kumiki::kernels {

class Pool {
 public:
  Pool() = default;
  Pool(const km_host* host, const km_parallel* parallel, int64_t granule)
      : host_(host), parallel_(parallel), threads_(parallel->threads(host)), granule_(granule) {}

  uint32_t threads() const { return threads_; }

  /* Calls task(number, worker) for number = 0 … tasks-1, spread over the pool, and returns when all are done. worker
   * < threads(). What a task computes must not depend on the worker. A single task runs on the caller without waking
   * others. */
  template <class Task>
  void run(int64_t tasks, const Task& task) const {
    if (tasks <= 0) return;
    if (tasks == 1) {
      task(int64_t{0}, uint32_t{0});
      return;
    }
    parallel_->run(
        host_, static_cast<uint32_t>(tasks),
        [](void* context, uint32_t number, uint32_t worker) {
          (*static_cast<const Task*>(context))(static_cast<int64_t>(number), worker);
        },
        const_cast<void*>(static_cast<const void*>(&task)));
  }

  /* Cuts 0 … count-1 in contiguous pieces of at least `least` and calls task(begin, end, worker) for each: for work
   * whose result does not depend on where the cuts are. Pieces are multiples of the granule. */
  template <class Task>
  void ranges(int64_t count, int64_t least, const Task& task) const {
    if (count <= 0) return;
    const int64_t wanted = threads_ > 1 ? static_cast<int64_t>(threads_) * 4 : 1;
    int64_t pieces = (count + least - 1) / least;
    if (pieces > wanted) pieces = wanted;
    const int64_t size = ((count + pieces - 1) / pieces + granule_ - 1) / granule_ * granule_;
    const int64_t step = size < least ? least : size;
    run((count + step - 1) / step, [&](int64_t number, uint32_t worker) {
      const int64_t begin = number * step;
      task(begin, begin + step < count ? begin + step : count, worker);
    });
  }

 private:
  const km_host* host_ = nullptr;
  const km_parallel* parallel_ = nullptr;
  uint32_t threads_ = 1;
  int64_t granule_ = 1;
};

} // namespace kumiki::kernels

#endif
