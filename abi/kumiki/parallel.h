/* kumiki/parallel.h: components of kind "parallel" spread a run over many ranks, by rewriting its graph.
 *
 * The ranks form a mesh; each component with a degree above 1 is an axis of it. The graph is the same on all ranks, with
 * the local shapes of the rank that asks; it differs in the rank's coordinates only. A strategy divides leaves over its
 * axis (shard), and adds the communication ops that this asks for (docs/ops.md). After each rewrite the core infers all
 * types and placements anew and refuses what cannot be right, naming node, axis and strategy.
 *
 * The core calls rewrite_forward of all strategies in the order of their levels, differentiates, and then calls
 * rewrite_training in the order of their levels. Graphs of evaluation and generation get rewrite_forward only. */
#ifndef KUMIKI_PARALLEL_H
#define KUMIKI_PARALLEL_H

#include "kumiki/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_PARALLEL_VERSION 1u

/* Levels: where a dimension is divided by several axes, the lower level is the inner one. */
#define KM_LEVEL_TENSOR 20u
#define KM_LEVEL_CONTEXT 25u
#define KM_LEVEL_PIPELINE 30u
#define KM_LEVEL_DATA 40u
#define KM_LEVEL_RECOMPUTE 50u

/* The axis of a strategy. degree 1: it has no axis (recompute), or the run has one rank on it; then only strategies that
 * say KM_PARALLEL_ALONE are called. */
typedef struct km_axis {
  uint32_t struct_size;
  uint32_t degree;
  uint32_t coordinate; /* of the rank that asks, 0 … degree-1 */
  uint32_t index;      /* of the axis in the mesh: what placement and shard take */
  const char* name;    /* the component's: "tensor" */
} km_axis;

/* One step of training (or a pass of evaluation) of one rank, to be listed by `schedule`. */
typedef struct km_schedule {
  uint32_t struct_size;
  uint32_t stages;        /* virtual stages of the graph; stage s is owned by coordinate s mod degree */
  uint32_t degree;        /* of the axis */
  uint32_t coordinate;
  uint32_t micro_batches;
  uint32_t training;      /* 1: forward, backward and weight parts; 0: forward only */
  /* Adds an entry: part KM_PART_FORWARD, KM_PART_BACKWARD (of activations) or KM_PART_WEIGHT. Each micro-batch of each own
   * stage has one of each; where all weight parts come right behind their backward parts, both run as one. The core gives
   * each micro-batch a slot of activations from its forward to its last part. */
  void (*emit)(const struct km_schedule* schedule, uint32_t part, uint32_t stage, uint32_t micro);
  void* sink;
} km_schedule;

#define KM_PARALLEL_ALONE 1u /* called for an axis of degree 1 too */
#define KM_PARALLEL_STAGES 2u /* gives stages and a schedule */
#define KM_PARALLEL_BATCH 4u /* its axis divides the batch: each coordinate reads samples of its own */
/* Its axis divides the tokens of each sequence in training and evaluation: the strategy shards the graph's inputs along
 * dimension 1, and the core gives coordinate r of `degree` ranks the chunks r and 2·degree-1-r of 2·degree equal ones, in
 * this order (with a causal mask all ranks then have the same work). So a part of the tokens is two ranges of them, not
 * one: what depends on positions says so by its attributes (docs/ops.md). At most one axis of a run. */
#define KM_PARALLEL_TOKENS 8u

typedef struct km_parallel_strategy {
  uint32_t struct_size;
  uint32_t level; /* KM_LEVEL_*, or between */
  uint32_t flags; /* KM_PARALLEL_* */
  uint32_t reserved;
  km_status (*open)(const km_host* host, const km_options* options, void** self); /* [main] */
  void (*close)(void* self);
  /* Before autodiff: leaves, activations, stages, marks for recomputation. NULL: nothing to do. [main] */
  km_status (*rewrite_forward)(void* self, km_graph* graph, const km_axis* axis);
  /* After autodiff: gradients. NULL: nothing to do. [main] */
  km_status (*rewrite_training)(void* self, km_graph* graph, const km_axis* axis);
  /* Lists the entries of one rank, in order. Called for all coordinates: the core runs all lists and refuses those that
   * wait for each other. Only with KM_PARALLEL_STAGES. [main] */
  km_status (*schedule)(void* self, const km_schedule* schedule);
} km_parallel_strategy;

#ifdef __cplusplus
}
#endif
#endif
