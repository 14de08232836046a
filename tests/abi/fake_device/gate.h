/* gate.h: an ability of the fake device with which a test stops a queue at a known place: what is behind a gate does
 * not run until the test opens it. So asynchrony is tested without clocks. */
#ifndef KUMIKI_TESTS_ABI_FAKE_DEVICE_GATE_H
#define KUMIKI_TESTS_ABI_FAKE_DEVICE_GATE_H

#include "kumiki/kernels.h"

#define FAKE_GATE_ABILITY "kumiki_test.gate/1"

typedef struct fake_gate fake_gate;

typedef struct fake_gates {
  uint32_t struct_size;
  uint32_t reserved;
  /* Enqueues a gate, shut. [queue] */
  km_status (*shut)(void* self, km_queue* queue, fake_gate** gate);
  /* Opens it and gives it back. [any] */
  void (*open)(void* self, fake_gate* gate);
} fake_gates;

#endif
