/* kumiki/model.h: components of kind "model" build the forward graph and say how Hugging Face names its parts. */
#ifndef KUMIKI_MODEL_H
#define KUMIKI_MODEL_H

#include "kumiki/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_MODEL_VERSION 1u

typedef struct km_model_shape {
  uint32_t struct_size;
  uint32_t mode;       /* KM_MODE_* */
  int64_t batch;       /* sequences of one forward pass */
  int64_t tokens;      /* of one sequence in this pass: run.sequence in train, the chunk in prefill, 1 in decode */
  int64_t capacity;    /* prefill, decode: tokens that the caches hold */
  int64_t vocabulary;  /* of the data, 0 if unknown: the model's default where the user gave none */
  int64_t sequence;    /* run.sequence: the longest context that the parameters are made for */
  uint32_t segments;   /* 1: the data keeps documents apart, attention must not cross */
  uint32_t reserved;
} km_model_shape;

/* One row of the table that maps our parameters to a Hugging Face checkpoint. */
#define KM_MAP_COPY 1u
#define KM_MAP_TRANSPOSE 2u /* theirs is [in, out] */
typedef struct km_model_row {
  const char* ours;
  const char* theirs;
  uint32_t how;       /* KM_MAP_* */
  int32_t part;       /* theirs is `parts` of ours side by side along their dimension `dim`; ours is number `part` */
  int32_t parts;      /* 1: alone */
  int32_t dim;
} km_model_row;

typedef struct km_model_text {
  uint32_t struct_size;
  uint32_t reserved;
  /* Called for each row / for the text of config.json, as often as the component likes. */
  void (*row)(void* sink, const km_model_row* row);
  void (*config)(void* sink, const char* json);
  void* sink;
} km_model_text;

typedef struct km_model {
  uint32_t struct_size;
  uint32_t reserved;
  /* The options are the model's [model] table. [main] */
  km_status (*open)(const km_host* host, const km_options* options, void** self);
  void (*close)(void* self);
  /* Adds the forward graph. Mode train: outputs "loss" and "tokens"; prefill and decode: "logits", caches as states
   * without owner, "past" tokens before the first. [main] */
  km_status (*build)(void* self, const km_model_shape* shape, km_graph* graph);
  /* Says rows and config.json of the Hugging Face form. NULL: the model has none. [main] */
  km_status (*describe)(void* self, const km_model_shape* shape, const km_model_text* text);
  /* Reads a Hugging Face config.json (text) and writes the TOML lines of a [model] table that means the same: up to
   * `capacity` bytes with the closing zero. KM_UNSUPPORTED if the architecture is another. NULL: none. [any] */
  km_status (*from_config)(const km_host* host, const char* json, char* toml, uint64_t capacity);
} km_model;

#ifdef __cplusplus
}
#endif
#endif
