/* kumiki/optimizer.h: components of kind "optimizer" build the update graph of one parameter.
 *
 * The core has summed the gradient over micro-batches and ranks. The true gradient is gradient x step scalar
 * "gradient_scale" (1 / tokens, clip factor, loss scale); the learning rate of the schedule is "learning_rate". States are
 * add_state(owner = parameter). New values are handed over by assign, which leaves all as it was where "apply" is 0.
 * [optimizer] of the TOML also has options of the core: learning_rate, schedule, clip. */
#ifndef KUMIKI_OPTIMIZER_H
#define KUMIKI_OPTIMIZER_H

#include "kumiki/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_OPTIMIZER_VERSION 1u

#define KM_UPDATE_ELEMENTWISE 1u  /* each element by itself */
#define KM_UPDATE_PER_TENSOR 2u   /* also uses norms of whole tensors (op tensor_norm) */
#define KM_UPDATE_WHOLE_MATRIX 3u /* needs whole matrices */

typedef struct km_optimizer {
  uint32_t struct_size;
  uint32_t update_kind; /* KM_UPDATE_* */
  km_status (*open)(const km_host* host, const km_options* options, void** self); /* [main] */
  void (*close)(void* self);
  /* Adds the update of `parameter` from `gradient` (f32, the parameter's shape) to the tail. [main] */
  km_status (*update)(void* self, km_graph* graph, km_value parameter, km_value gradient);
} km_optimizer;

#ifdef __cplusplus
}
#endif
#endif
