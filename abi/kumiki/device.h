/* kumiki/device.h: the ability "kumiki.device/1" of a kernels component: memory and queues of its own.
 *
 * All work is asynchronous on queues. The semantics of events are those of CUDA: a wait binds to the latest record at the
 * time of the call; waiting for an event never recorded waits for nothing. The host never dereferences a km_address of
 * kind KM_MEMORY_DEVICE. `self` is the instance that the component's open made. */
#ifndef KUMIKI_DEVICE_H
#define KUMIKI_DEVICE_H

#include "kumiki/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_DEVICE_ABILITY "kumiki.device/1"

typedef struct km_event km_event;

#define KM_MEMORY_DEVICE 1u /* opaque to the host */
#define KM_MEMORY_PINNED 2u /* host memory that the device copies from and to without staging: the address is a pointer */

#define KM_COPY_TO_DEVICE 1u   /* source is a host pointer, which must stay valid until the copy is done */
#define KM_COPY_FROM_DEVICE 2u /* destination is a host pointer */
#define KM_COPY_WITHIN 3u

typedef struct km_device_info {
  uint32_t struct_size;
  uint32_t reserved;
  const char* name;
  uint64_t memory_bytes; /* in all */
} km_device_info;

typedef struct km_device {
  uint32_t struct_size;
  uint32_t reserved;
  km_status (*info)(void* self, km_device_info* info); /* [main] */
  /* 256-byte aligned. [main] */
  km_status (*allocate)(void* self, uint64_t bytes, uint32_t kind, km_address* address);
  void (*release)(void* self, km_address address, uint32_t kind);
  /* [main] */
  km_status (*queue_create)(void* self, km_queue** queue);
  void (*queue_destroy)(void* self, km_queue* queue);
  /* Blocks until all that was enqueued is done; gives the first error of it. [queue] */
  km_status (*queue_wait)(void* self, km_queue* queue);
  km_status (*event_create)(void* self, km_event** event); /* [main] */
  void (*event_destroy)(void* self, km_event* event);
  km_status (*event_record)(void* self, km_event* event, km_queue* queue); /* [queue] */
  km_status (*event_wait)(void* self, km_event* event, km_queue* queue);   /* the queue waits, not the caller. [queue] */
  /* Enqueue. [queue] */
  km_status (*copy)(void* self, km_address destination, km_address source, uint64_t bytes, uint32_t direction, km_queue* queue);
  km_status (*fill)(void* self, km_address destination, uint32_t byte, uint64_t bytes, km_queue* queue);
} km_device;

#ifdef __cplusplus
}
#endif
#endif
