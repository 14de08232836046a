/* kumiki/rewrite.h: two abilities with which a kernels component brings ops that the vocabulary does not have.
 *
 * "kumiki.rewrite/1" replaces a subgraph by an op of its own ("acme.fused_mlp"), before autodiff or after it.
 * "kumiki.op/1" gives the rules of such an op: shapes, derivative where it stands before autodiff, and how its outputs lie
 * over many ranks. */
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

/* How the ranks along one axis of the mesh hold a value. */
typedef struct km_placement {
  uint32_t spread; /* KM_REPLICATED … KM_PARTIAL_MAX */
  int32_t dim;     /* of KM_SHARDED */
} km_placement;

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
  /* How output `output` lies along an axis of ranks where input i lies as inputs[i]: asked for each axis by itself, with the
   * shapes of one rank. KM_ERROR_USER, with words, for what cannot be: a partial sum that enters a nonlinear op, a bias that is
   * not divided as the columns are. NULL: the ops take only what all ranks have alike, so that no strategy can divide what
   * they stand in (with `data` no activation is alike). km_place_elements, below, is the rule of most fused ops. [main] */
  km_status (*placement)(void* self, const km_host* host, const km_op* op, const km_placement* inputs, uint32_t output,
                         km_placement* result);
} km_op_rules;

/* ---- for authors ------------------------------------------------------------------------------------------------- */
/* A rule to put into km_op_rules: of ops that work element by element on tensors of one shape [..., N] (input 0 and others of
 * its rank) with vectors [N] and numbers [] beside them, and whose outputs all have that shape. The tensors may be divided in
 * any way, but alike; vectors are divided where the columns are; numbers are the same everywhere. */
static inline km_status km_place_elements(void* self, const km_host* host, const km_op* op, const km_placement* inputs,
                                          uint32_t output, km_placement* result) {
  const uint32_t rank = op->inputs[0].rank;
  const km_placement whole = {KM_REPLICATED, 0}, x = inputs[0];
  (void)self, (void)output;
  for (uint32_t i = 0; i < op->n_inputs; ++i) {
    km_placement needed = x;
    if (op->inputs[i].rank != rank) {
      needed = whole;
      if (op->inputs[i].rank == 1 && x.spread == KM_SHARDED && x.dim == (int32_t)rank - 1) needed.spread = KM_SHARDED;
      if (op->inputs[i].rank == 1 && x.spread == KM_FLAT)
        return host->fail(host, KM_ERROR_USER, "%s: input 0 is flat, so its columns are not known", op->name);
    }
    if (inputs[i].spread == KM_PARTIAL || inputs[i].spread == KM_PARTIAL_MAX)
      return host->fail(host, KM_ERROR_USER, "%s: input %u is partial: it must be reduced before", op->name, i);
    if (inputs[i].spread != needed.spread || (needed.spread == KM_SHARDED && inputs[i].dim != needed.dim))
      return host->fail(host, KM_ERROR_USER, "%s: input %u does not lie over the ranks as input 0 asks", op->name, i);
  }
  *result = x;
  return KM_OK;
}

#ifdef __cplusplus
}
#endif
#endif
