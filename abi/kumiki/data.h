/* kumiki/data.h: components of kind "data" give samples by number.
 *
 * A sample is `sequence` tokens and the token that follows each. Samples are numbered over the whole run, 0, 1, …, without
 * end: the component maps the number to epoch and place, shuffled by the seed; the same number is the same sample, always
 * and on every rank. So the state of the data in a checkpoint is one number, and each rank reads what its place needs. */
#ifndef KUMIKI_DATA_H
#define KUMIKI_DATA_H

#include "kumiki/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_DATA_VERSION 1u
#define KM_TOKENIZER_ABILITY "kumiki.tokenizer/1"

#define KM_SPLIT_TRAIN 0u
#define KM_SPLIT_VALIDATION 1u
#define KM_SPLIT_TEST 2u

typedef struct km_data_context {
  uint32_t struct_size;
  uint32_t split;     /* KM_SPLIT_* */
  int64_t sequence;   /* tokens of one sample */
  int64_t seed;       /* run.seed */
  int64_t vocabulary; /* of the model, 0 if it takes the data's */
} km_data_context;

typedef struct km_data_info {
  uint32_t struct_size;
  uint32_t segments;   /* 1: documents are kept apart, read fills `segments` */
  int64_t vocabulary;  /* tokens are 0 … vocabulary-1 */
  int64_t samples;     /* of one epoch; 0 = endless */
  int64_t tokens;      /* of one epoch; 0 = unknown */
} km_data_info;

/* Where read writes, row by row: [n, sequence] i32 each. */
typedef struct km_batch {
  uint32_t struct_size;
  uint32_t reserved;
  int32_t* tokens;
  int32_t* targets;  /* the token after each; -1: not counted in the loss */
  int32_t* segments; /* number of the document within the sample, from 0; NULL: not wanted */
} km_batch;

typedef struct km_data {
  uint32_t struct_size;
  uint32_t reserved;
  /* Opens at once, however large the corpus is (memory mapped). An empty data set, or one shorter than one sequence, is
   * KM_ERROR_USER and says the numbers. [main] */
  km_status (*open)(const km_host* host, const km_options* options, const km_data_context* context, void** self);
  void (*close)(void* self);
  km_status (*info)(void* self, km_data_info* info); /* [any] */
  /* Samples first … first+n-1. [any], one at a time */
  km_status (*read)(void* self, int64_t first, int64_t n, const km_batch* batch);
  const void* (*ability)(void* self, const char* id); /* or NULL */
} km_data;

/* The ability "kumiki.tokenizer/1": text to tokens and back, of the same vocabulary. */
typedef struct km_tokenizer {
  uint32_t struct_size;
  uint32_t reserved;
  /* UTF-8 of `bytes` bytes to tokens: *n gets how many there are, the first `capacity` are written. [any] */
  km_status (*encode)(void* self, const char* text, uint64_t bytes, int32_t* tokens, uint64_t capacity, uint64_t* n);
  /* Tokens to UTF-8: *bytes gets how many there are, the first `capacity` are written. [any] */
  km_status (*decode)(void* self, const int32_t* tokens, uint64_t n, char* text, uint64_t capacity, uint64_t* bytes);
  /* Bytes of text that a token stands for (0 for control tokens): with it a loss is told in bits per byte. [any] */
  uint32_t (*token_bytes)(void* self, int32_t token);
  /* The token that ends a document, or -1. [any] */
  int32_t (*end_of_document)(void* self);
} km_tokenizer;

#ifdef __cplusplus
}
#endif
#endif
