/* reference.h: the meaning of every op of docs/ops.md in plain C11: no threads, sums in double, one rounding at the
 * end.
 *
 * An op is a row of one table (table.c): its name, a check that reads shapes and types only, and a run that computes
 * from plain host pointers. query/create/run below put these rows behind what a kernels component needs; plugin.c
 * offers that as the component "reference", and the tests' fake device runs the same rows on its own queues. */
#ifndef KUMIKI_PLUGINS_KERNELS_REFERENCE_REFERENCE_H
#define KUMIKI_PLUGINS_KERNELS_REFERENCE_REFERENCE_H

#include <string.h>

#include "kumiki/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One run of an op: inputs (addends of `accumulate` at their end), outputs, scratch memory as the check asked for. */
typedef struct reference_call {
  const km_host* host;
  const km_op* op;
  const void* const* in;
  void* const* out;
  void* workspace;
} reference_call;

typedef struct reference_op {
  const char* name;
  /* KM_OK and `support` filled, or KM_UNSUPPORTED with the reason by host->fail. */
  km_status (*check)(const km_host* host, const km_op* op, km_support* support);
  /* KM_OK, or KM_ERROR_USER where a token, a target or `past` points outside of its table. */
  km_status (*run)(const reference_call* call);
} reference_op;

/* An op with its shapes and attributes copied. */
typedef struct reference_kernel reference_kernel;

/* The row of an op, or NULL. The table ends with a row whose name is NULL. [any] */
const reference_op* reference_find(const char* name);
extern const reference_op reference_table[];

km_status reference_query(const km_host* host, const km_request* request, km_support* support);        /* [any] */
km_status reference_create(const km_host* host, const km_request* request, reference_kernel** kernel); /* [any] */
void reference_destroy(reference_kernel* kernel);
/* How many buffers run takes: inputs and outputs. */
uint32_t reference_buffers(const reference_kernel* kernel);
/* buffers: the inputs in order, then the outputs. Several threads may run the same kernel with different buffers. [any]
 */
km_status reference_run(const reference_kernel* kernel, void* const* buffers, void* workspace);

/* ---- what the files of ops share -------------------------------------------------------------------------------- */

/* KM_UNSUPPORTED with "reference: <op>: <reason>". */
km_status reference_refuse(const km_host* host, const km_op* op, const char* reason);

/* Checks the counts of inputs (without addends) and outputs, that `accumulate` sets only bits of `may_accumulate`, and
 * that each addend has the type and shape of its output; says ADDEND_APART and in_place for the addends. */
km_status reference_check_counts(const km_host* host, const km_op* op, km_support* support, uint32_t inputs,
                                 uint32_t outputs, int64_t may_accumulate);

/* The addend of an output, or NULL. */
const void* reference_addend(const reference_call* call, uint32_t output);

#define REFERENCE_TRY(expression)                           \
  do {                                                      \
    km_status reference_status = (expression);              \
    if (reference_status != KM_OK) return reference_status; \
  } while (0)
#define REFERENCE_REQUIRE(condition, reason)                     \
  do {                                                           \
    if (!(condition)) return reference_refuse(host, op, reason); \
  } while (0)

static inline int reference_same_dims(const km_tensor* a, const km_tensor* b) {
  if (a->rank != b->rank) return 0;
  for (uint32_t i = 0; i < a->rank; ++i)
    if (a->dims[i] != b->dims[i]) return 0;
  return 1;
}
static inline int reference_same(const km_tensor* a, const km_tensor* b) {
  return a->dtype == b->dtype && reference_same_dims(a, b);
}
static inline int reference_is(const km_tensor* t, uint32_t dtype, uint32_t rank) {
  return t->dtype == dtype && t->rank == rank;
}
static inline int reference_is_vector(const km_tensor* t, int64_t n) {
  return reference_is(t, KM_F32, 1) && t->dims[0] == n;
}
static inline int64_t reference_last(const km_tensor* t) { return t->rank ? t->dims[t->rank - 1] : 1; }
static inline int64_t reference_rows(const km_tensor* t) {
  int64_t n = 1;
  for (uint32_t i = 0; i + 1 < t->rank; ++i) n *= t->dims[i];
  return n;
}
/* t has the leading dimensions of x. */
static inline int reference_is_rows_of(const km_tensor* t, const km_tensor* x) {
  if (x->rank == 0 || t->rank != x->rank - 1) return 0;
  for (uint32_t i = 0; i < t->rank; ++i)
    if (t->dims[i] != x->dims[i]) return 0;
  return 1;
}
static inline int reference_is_product_type(uint32_t dtype) { return dtype == KM_F32 || dtype == KM_BF16; }

static inline float reference_from_bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float x;
  memcpy(&x, &wide, 4);
  return x;
}
/* Round to nearest, ties to even; a NaN stays a (quiet) NaN. */
static inline uint16_t reference_to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
  return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
static inline double reference_load(const void* p, uint32_t dtype, int64_t i) {
  return dtype == KM_BF16 ? (double)reference_from_bf16(((const uint16_t*)p)[i]) : (double)((const float*)p)[i];
}
static inline void reference_store(void* p, uint32_t dtype, int64_t i, double value) {
  if (dtype == KM_BF16)
    ((uint16_t*)p)[i] = reference_to_bf16((float)value);
  else
    ((float*)p)[i] = (float)value;
}
/* Where x stands in the whole: its `count` tokens (of dropout: elements of a sample) at offset, offset + 1, …, from number
 * `fold` on at fold_offset, …. */
typedef struct reference_positions {
  int64_t offset, fold, fold_offset, count;
} reference_positions;
static inline reference_positions reference_positions_of(const km_op* op, int64_t count) {
  reference_positions p = {km_attribute_i64(op, "offset", 0), km_attribute_i64(op, "fold", count),
                           km_attribute_i64(op, "fold_offset", 0), count};
  return p;
}
static inline int reference_positions_fit(reference_positions p, int64_t room) {
  return p.offset >= 0 && p.fold_offset >= 0 && p.fold >= 0 && p.fold <= p.count && p.offset + p.fold <= room &&
         (p.fold == p.count || p.fold_offset + p.count - p.fold <= room);
}
static inline int64_t reference_position(reference_positions p, int64_t i) {
  return i < p.fold ? p.offset + i : p.fold_offset + i - p.fold;
}
/* out[i] = value + addend[i] (addend may be NULL, or out itself), f32. */
static inline void reference_put(float* out, const float* addend, int64_t i, double value) {
  out[i] = (float)(addend ? value + (double)addend[i] : value);
}

/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): four random words of a counter and a key. */
void reference_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t word[4]);
double reference_gelu(double x);
double reference_silu(double x);

#ifdef __cplusplus
}
#endif
#endif
