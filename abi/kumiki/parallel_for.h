/* kumiki/parallel_for.h: the service "kumiki.parallel/1": the core's compute pool, the only one there is.
 *
 * Kernels of the host device split their work over it and make no threads of their own. One pool for each rank
 * (run.threads pinned threads, the calling one among them); each thread runs with denormals flushed to zero. */
#ifndef KUMIKI_PARALLEL_FOR_H
#define KUMIKI_PARALLEL_FOR_H

#include "kumiki/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_PARALLEL_SERVICE "kumiki.parallel/1"

/* task: its number in 0 … tasks-1; worker: the thread that runs it, 0 … threads-1 (for scratch memory by worker). */
typedef void (*km_task)(void* context, uint32_t task, uint32_t worker);

typedef struct km_parallel {
  uint32_t struct_size;
  uint32_t reserved;
  /* Threads of the pool of `host`, the caller's included. [any] */
  uint32_t (*threads)(const km_host* host);
  /* Runs task(context, 0 … tasks-1, worker), in any order, over all threads, and returns when all are done. What a task
   * computes must not depend on the worker that runs it. Tasks do not call the pool. [queue] of the host device */
  void (*run)(const km_host* host, uint32_t tasks, km_task task, void* context);
  /* Runs task(context, w, w) once on each thread w at the same time; barrier may be called inside. [queue] */
  void (*each)(const km_host* host, km_task task, void* context);
  /* Inside each: returns when all threads have called it. */
  void (*barrier)(const km_host* host);
} km_parallel;

#ifdef __cplusplus
}
#endif
#endif
