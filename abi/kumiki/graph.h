/* kumiki/graph.h: the service "kumiki.graph/1": how models, optimizers, strategies and rewrites read and write the graph.
 *
 * Values are typed, statically shaped tensors, assigned once; nodes apply an op. Both are ids, never reused; 0 is none.
 * A node's outputs get type and shape from the op's rule. What is added takes layer, stage, phase and part from the cursor.
 * All functions [main], and only during the call that handed over the km_graph*. A wrong call says so by host->fail and
 * returns its status (or 0 for ids); the first such error also fails the whole call of the plugin, so that an author who
 * does not look at each id loses nothing. docs/ops.md is the vocabulary of ops. */
#ifndef KUMIKI_GRAPH_H
#define KUMIKI_GRAPH_H

#include "kumiki/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_GRAPH_SERVICE "kumiki.graph/1"

typedef struct km_graph km_graph;
typedef uint32_t km_value;
typedef uint32_t km_node;

#define KM_VALUE_PARAMETER 1u
#define KM_VALUE_INPUT 2u    /* given anew for each micro-batch: "tokens", "targets", "segments" */
#define KM_VALUE_STATE 3u    /* lives on between steps: an optimizer's moments, a key-value cache */
#define KM_VALUE_CONSTANT 4u
#define KM_VALUE_SCALAR 5u   /* a step scalar: see step_scalar */
#define KM_VALUE_ACTIVATION 6u /* the output of a node */

#define KM_PHASE_HEAD 1u /* once a step, before the micro-batches */
#define KM_PHASE_BODY 2u /* for each micro-batch */
#define KM_PHASE_TAIL 3u /* once a step, after them: reductions, norm, update */

#define KM_PART_FORWARD 1u
#define KM_PART_BACKWARD 2u /* gradients of activations */
#define KM_PART_WEIGHT 3u   /* gradients of parameters */

#define KM_MODE_TRAIN 1u   /* forward and loss: training and evaluation are made of it */
#define KM_MODE_PREFILL 2u /* a chunk of a prompt, caches filled: gives "logits" */
#define KM_MODE_DECODE 3u  /* one token: gives "logits" */

/* How a parameter begins. Draws are Philox by (seed, hash of its name, logical element): the same in any layout. */
#define KM_INIT_ZERO 1u
#define KM_INIT_ONE 2u
#define KM_INIT_NORMAL 3u /* init_std */

/* roles: how a strategy may divide a parameter [out, in] */
#define KM_ROLE_REPLICATED 1u
#define KM_ROLE_COLUMN 2u     /* by outputs (dimension 0): query, up projection */
#define KM_ROLE_COLUMN_KV 3u  /* by outputs, in units of key heads */
#define KM_ROLE_ROW 4u        /* by inputs (the last dimension): output projections */
#define KM_ROLE_VOCABULARY 5u /* by rows of the vocabulary (dimension 0): embedding, output head */

typedef struct km_parameter {
  uint32_t struct_size;
  uint32_t role;
  const char* name; /* "layers.3.attention.query.weight" */
  km_tensor tensor; /* logical shape */
  uint32_t init;    /* KM_INIT_* */
  uint32_t decay;   /* 1: weight decay applies */
  double init_std;
} km_parameter;

/* The core passes structs to be filled with struct_size set; strings live until the graph changes. */
typedef struct km_value_info {
  uint32_t struct_size;
  uint32_t kind; /* KM_VALUE_* */
  const char* name;
  km_tensor tensor;
  km_node producer; /* 0 for leaves */
  int32_t layer;    /* -1 outside the layers */
  int32_t stage;
  uint32_t role;    /* of parameters */
  uint32_t decay;   /* of parameters */
  uint32_t varies;  /* 1: differs between micro-batches */
} km_value_info;

typedef struct km_node_info {
  uint32_t struct_size;
  uint32_t phase;
  const char* op;
  const km_value* inputs;
  const km_value* outputs;
  uint32_t n_inputs;
  uint32_t n_outputs;
  int32_t layer;
  int32_t stage;
  uint32_t part;
  uint32_t reserved;
} km_node_info;

/* How the ranks along one axis hold a value. */
#define KM_REPLICATED 1u  /* all the same */
#define KM_SHARDED 2u     /* each a part along dimension `dim` */
#define KM_FLAT 3u        /* each a range of the elements */
#define KM_PARTIAL 4u     /* the value is the sum over the ranks */
#define KM_PARTIAL_MAX 5u /* the value is the maximum over the ranks */

#define KM_EVERY_STAGE (-1)

typedef struct km_graph_service {
  uint32_t struct_size;
  uint32_t reserved;

  /* -- read -- */
  /* Nodes in topological order: first after 0; 0 at the end. A walk sees nodes added behind it. */
  km_node (*next_node)(km_graph* graph, km_node after);
  km_status (*node_info)(km_graph* graph, km_node node, km_node_info* info);
  /* KM_UNSUPPORTED if the node has no such attribute. */
  km_status (*attribute)(km_graph* graph, km_node node, const char* name, km_attribute* attribute);
  km_status (*value_info)(km_graph* graph, km_value value, km_value_info* info);
  /* How many nodes read the value; the first `capacity` of them are written to `users`. */
  uint32_t (*users)(km_graph* graph, km_value value, km_node* users, uint32_t capacity);
  uint32_t (*mode)(km_graph* graph); /* KM_MODE_* */

  /* -- leaves -- */
  /* A parameter asked for again by the same name is the same value (tied weights). */
  km_value (*add_parameter)(km_graph* graph, const km_parameter* parameter);
  /* A batch input by its reserved name: "tokens" i32 [batch, tokens], "targets" i32 [batch, tokens] (-1: ignored),
   * "segments" i32 [batch, tokens] (the number of the document, only where the data keeps documents apart; else 0). */
  km_value (*input)(km_graph* graph, const char* name);
  /* A state, zero at the start; saved in checkpoints as <parameter>/<name> if `owner` is a parameter, not saved if 0. */
  km_value (*add_state)(km_graph* graph, km_value owner, const char* name, const km_tensor* tensor);
  km_value (*constant)(km_graph* graph, double value); /* f32, rank 0 */
  /* Rank-0 values by reserved name. Written before each step (micro-batch): "step" f32 (1 at the first), "learning_rate"
   * f32, "loss_scale" f32, "seed" i64, "sample" i64 (number of the micro-batch's first sample), "micro" i32, "past" i32.
   * Computed in the tail: "gradient_scale" f32 (clip factor / tokens / loss scale: multiply each gradient by it),
   * "gradient_norm" f32, "apply" f32 (0: the norm is not finite, nothing may change), "tokens" f32. */
  km_value (*step_scalar)(km_graph* graph, const char* name);

  /* -- write -- */
  void (*set_layer)(km_graph* graph, int32_t layer); /* of what is added from here on */
  /* Adds a node at the cursor. `outputs` (may be NULL) gets the ids of its outputs, in order; returns the first, or 0. */
  km_value (*add_node)(km_graph* graph, const char* op, const km_value* inputs, uint32_t n_inputs,
                       const km_attribute* attributes, uint32_t n_attributes, km_value* outputs);
  /* The state (or parameter) becomes `value` after all reads of it in this step; where "apply" is 0 it stays. */
  km_status (*assign)(km_graph* graph, km_value state, km_value value);
  /* Names a result: "loss" f32 [] (sum over real tokens), "tokens" f32 [] (how many), "logits" f32 [batch, vocabulary]
   * (of the last token). */
  km_status (*set_output)(km_graph* graph, const char* name, km_value value);
  /* All readers of `old` but the node `except` (0 = none) read `now`. Same type and shape. */
  km_status (*replace_uses)(km_graph* graph, km_value old, km_value now, km_node except);
  /* Refused where the op cannot have it; of a strategy's at the end of its call, when all are set. */
  km_status (*set_attribute)(km_graph* graph, km_node node, const km_attribute* attribute);
  km_status (*erase)(km_graph* graph, km_node node); /* refused while an output is read */
  /* The cursor: new nodes go right before `node`, and take layer, stage, phase and part from it; 0 = back to the end. */
  km_status (*before)(km_graph* graph, km_node node);

  /* -- for strategies (parallel.h) -- */
  /* As `before`, but right behind `node`. */
  km_status (*after)(km_graph* graph, km_node node);
  /* The cursor: the start of the head, or the end of the tail, with this layer and stage. */
  km_status (*at_phase)(km_graph* graph, uint32_t phase, int32_t layer, int32_t stage);
  km_status (*replace_input)(km_graph* graph, km_node node, uint32_t input, km_value now); /* types: at the end of the call */
  /* Parameters in order of declaration: the first after 0; 0 at the end. */
  km_value (*next_parameter)(km_graph* graph, km_value after);
  /* The final gradient of a parameter (its sum over micro-batches, and what strategies made of it); 0 before autodiff. */
  km_value (*gradient)(km_graph* graph, km_value parameter);
  km_status (*set_gradient)(km_graph* graph, km_value parameter, km_value gradient);
  /* KM_REPLICATED … along the axis; `dim` (may be NULL) of KM_SHARDED. 0 on error. */
  uint32_t (*placement)(km_graph* graph, km_value value, uint32_t axis, int32_t* dim);
  /* Divides a leaf along an axis: dimension `dim` in nearly equal, contiguous parts, or -1: its elements, after which its
   * shape has rank 1. States that a parameter owns are divided as it is. */
  km_status (*shard)(km_graph* graph, km_value leaf, uint32_t axis, int32_t dim);
  /* Stages: how many there are; of a node (and what it makes); of a leaf. A node may read only what its own stage has, but
   * for ops "transfer" and "add_stages". */
  km_status (*set_stages)(km_graph* graph, int32_t stages);
  km_status (*set_node_stage)(km_graph* graph, km_node node, int32_t stage);
  km_status (*set_value_stage)(km_graph* graph, km_value leaf, int32_t stage);
  /* A copy of a parameter on another stage (tied weights): same values, updated alike, not saved. */
  km_value (*add_tied_copy)(km_graph* graph, km_value parameter, int32_t stage);
  km_value (*tied_to)(km_graph* graph, km_value parameter); /* what it is a copy of; 0: of none */
  /* FLOPs of a node and bytes that it moves at least: what stages are balanced by. Before autodiff. */
  km_status (*cost)(km_graph* graph, km_node node, double* flops, double* bytes);
  /* Marks a forward node: what backward needs of it is computed again. */
  km_status (*mark_again)(km_graph* graph, km_node node);
  /* Splits an axis into blocks of `inner` neighbouring ranks (it must divide the degree, and neither be it nor 1), before
   * anything is placed along it: what is shared within a block and divided among the blocks is replicated along one half
   * and sharded along the other. halves[0] numbers the axis of the blocks, "NAME/inner" (outer), halves[1] that of the
   * ranks of a block, "NAME%inner": what placement, shard and the attribute `axes` take. The axis itself goes on to mean
   * both; `placement` along it is an error where the halves differ. Asked again with the same `inner` it gives the same. */
  km_status (*split_axis)(km_graph* graph, uint32_t axis, uint32_t inner, uint32_t halves[2]);
} km_graph_service;

/* ---- short forms for authors ------------------------------------------------------------------------------------- */
static inline km_attribute km_i64(const char* name, int64_t value) {
  km_attribute a = {name, KM_ATTRIBUTE_I64, 0, {0}};
  a.value.i64 = value;
  return a;
}
static inline km_attribute km_f64(const char* name, double value) {
  km_attribute a = {name, KM_ATTRIBUTE_F64, 0, {0}};
  a.value.f64 = value;
  return a;
}
static inline km_attribute km_string(const char* name, const char* value) {
  km_attribute a = {name, KM_ATTRIBUTE_STRING, 0, {0}};
  a.value.string = value;
  return a;
}

#ifdef __cplusplus
}
#endif
#endif
