/* kumiki/kernels.h: components of kind "kernels" run ops on a device.
 *
 * For each node of the graph the core walks the chain of [kernels] and asks query; the first that says KM_OK (or the
 * fastest of them) makes a kernel with create, once; run then only enqueues. A component needs to know no more than one op.
 * A component without the ability "kumiki.device/1" (device.h) computes on the host: addresses are pointers, and run
 * returns when the work is done. With it, the component brings its own memory and queues, and every component of the
 * chain must be of the same device. Further abilities: rewrite.h ("kumiki.rewrite/1", "kumiki.op/1"). */
#ifndef KUMIKI_KERNELS_H
#define KUMIKI_KERNELS_H

#include "kumiki/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_KERNELS_VERSION 1u

typedef struct km_kernel km_kernel; /* a component's own */
typedef struct km_queue km_queue;   /* a device's own; NULL on the host device */

/* flags of km_support */
#define KM_SUPPORT_ADDEND_APART 1u /* attribute `accumulate`: the addend may lie in another buffer than the output */

/* What a component says about one op. The core passes it zero-filled, with struct_size set. */
typedef struct km_support {
  uint32_t struct_size;
  uint32_t flags;
  uint64_t workspace_bytes; /* scratch memory during run; given 256-byte aligned, contents undefined */
  /* in_place[o]: bit i set = output o may lie in the very buffer of input i (same bytes). */
  uint32_t in_place[KM_MAX_OUTPUTS];
  /* prepack_bytes[i] > 0: run wants input i packed, in a buffer of so many bytes (256-byte aligned) that pack fills. The
   * core asks for this only of inputs that do not change within a step (op->inputs of parameters), keeps one packed copy
   * for each (parameter, prepack_format) and packs again after each update. prepack_format names the packing: kernels that
   * give the same text for the same parameter share the copy. Where packing is not offered (the request's bit in
   * `may_prepack` is 0) the kernel must take the plain buffer or say KM_UNSUPPORTED. */
  uint64_t prepack_bytes[KM_MAX_INPUTS];
  const char* prepack_format[KM_MAX_INPUTS];
} km_support;

/* What the core asks for. */
typedef struct km_request {
  uint32_t struct_size;
  uint32_t may_prepack; /* bit i: input i is a parameter and may be asked for in packed form */
  const km_op* op;
} km_request;

typedef struct km_kernels {
  uint32_t struct_size;
  uint32_t reserved;
  /* Makes an instance. Says KM_UNSUPPORTED, with the reason, where the machine cannot run it (no such processor, no
   * device): the chain goes on without it. [main] */
  km_status (*open)(const km_host* host, const km_options* options, void** self);
  void (*close)(void* self);
  /* Can it run this op with these shapes and types? KM_OK fills `support`; KM_UNSUPPORTED is no error (a reason by
   * host->fail is shown with --verbose). Cheap; never sees data. [main] */
  km_status (*query)(void* self, const km_request* request, km_support* support);
  /* Makes a kernel ready to run (tunes, compiles), for a request that query accepted. [main] */
  km_status (*create)(void* self, const km_request* request, km_kernel** kernel);
  void (*destroy)(void* self, km_kernel* kernel);
  /* Enqueues the packing of input `input` from its plain buffer. NULL if no prepack is ever asked for. [queue] */
  km_status (*pack)(void* self, km_kernel* kernel, uint32_t input, km_address plain, km_address packed, km_queue* queue);
  /* Enqueues the op: buffers = the inputs in order, then the outputs. Allocates nothing, waits for nothing, reads no device
   * data from the host. Same inputs, same bits, whatever the number of threads. [queue] */
  km_status (*run)(void* self, km_kernel* kernel, const km_address* buffers, km_address workspace, km_queue* queue);
  /* An optional ability by id, or NULL: a static table. May be NULL itself. [main] */
  const void* (*ability)(void* self, const char* id);
} km_kernels;

#ifdef __cplusplus
}
#endif
#endif
