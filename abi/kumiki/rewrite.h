/* kumiki/rewrite.h: two abilities with which a kernels component brings ops that the vocabulary does not have.
 *
 * "kumiki.rewrite/1" replaces a subgraph by an op of its own ("acme.fused_mlp"), before autodiff or after it.
 * "kumiki.op/1" gives the rules of such an op: shapes, and derivative where it stands before autodiff. */
#ifndef KUMIKI_REWRITE_H
#define KUMIKI_REWRITE_H

#include "kumiki/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_REWRITE_ABILITY "kumiki.rewrite/1"
#define KM_OP_ABILITY "kumiki.op/1"

typedef struct km_rewrite {
  uint32_t struct_size;
  uint32_t reserved;
  /* Before autodiff: the new op needs a derivative (km_op_rules). Either may be NULL. An error drops every change of the
   * call and ends the run with the plugin's name. [main] */
  km_status (*forward)(void* self, const km_host* host, km_graph* graph);
  /* After autodiff, strategies, norm and update: replaces only, no derivative needed. [main] */
  km_status (*training)(void* self, const km_host* host, km_graph* graph);
} km_rewrite;

typedef struct km_op_rules {
  uint32_t struct_size;
  uint32_t reserved;
  /* Is this op ours? Names are "<vendor>.<op>". [main] */
  uint32_t (*knows)(void* self, const char* op);
  /* Types and shapes of the outputs (at most KM_MAX_OUTPUTS) from op->inputs and op->attributes; op->outputs is NULL. A shape
   * that cannot be is KM_ERROR_USER, with words that name the dimensions. [main] */
  km_status (*shape)(void* self, const km_host* host, const km_op* op, km_tensor* outputs, uint32_t* n_outputs);
  /* Adds the nodes that compute the gradient of input `input` of `node` and gives that value (0: not differentiable).
   * output_gradients has one value for each output; 0 where nothing reads the output. A node added twice with the same op,
   * inputs and attributes for the same forward node is one node: a fused backward op may be added at each input. NULL: the
   * ops have no derivative. [main] */
  km_status (*derivative)(void* self, const km_host* host, km_graph* graph, km_node node, uint32_t input,
                          const km_value* output_gradients, km_value* gradient);
} km_op_rules;

#ifdef __cplusplus
}
#endif
#endif
