/* reduce.c: MPI types, and reductions of the members' parts in the order of ranks: the bits depend on nothing but the
 * values. bf16 and f16 travel as 16-bit integers, are summed in f32 and rounded once, to nearest even. */
#include <string.h>

#include "comm_mpi.h"

MPI_Datatype datatype_of(uint32_t dtype) {
  switch (dtype) {
    case KM_F32: return MPI_FLOAT;
    case KM_F64: return MPI_DOUBLE;
    case KM_I32: return MPI_INT32_T;
    case KM_I64: return MPI_INT64_T;
    case KM_U8: return MPI_UINT8_T;
    default: return MPI_UINT16_T;
  }
}

static float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static float widen_bf16(uint16_t value) { return float_of_bits((uint32_t)value << 16); }

static uint16_t narrow_bf16(float value) {
  uint32_t bits = bits_of_float(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static float widen_f16(uint16_t value) {
  /* The exponent's bias goes from 15 to 127 by a product with 2^112, which makes subnormals right as well. */
  uint32_t magnitude = bits_of_float(float_of_bits((value & 0x7fffu) << 13) * 0x1p112f);
  if ((value & 0x7c00u) == 0x7c00u) magnitude |= 0x7f800000u;
  return float_of_bits(magnitude | (value & 0x8000u) << 16);
}

static uint16_t narrow_f16(float value) {
  uint32_t bits = bits_of_float(value), magnitude = bits & 0x7fffffffu, half;
  if (magnitude >= 0x47800000u) { /* 65536 and more, infinity, NaN */
    half = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  } else if (magnitude < 0x38800000u) { /* below 2^-14: the addition of 0.5 shifts the subnormal's bits into place */
    half = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  }
  return (uint16_t)(half | (bits >> 16 & 0x8000u));
}

#define LARGER(a, b) ((a) < (b) || (b) != (b) ? (b) : (a))
#define SUM(a, b) ((a) + (b))
#define SAME(a) (a)

/* Integers are summed as unsigned ones: a sum that is too large wraps. */
static int32_t sum_i32(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }
static int64_t sum_i64(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }

enum { BLOCK = 2048 }; /* elements that are reduced at a time: they stay in the first-level cache */

/* reduce_members for one type. Nothing of a block is written before all of it was read: the output may be a source. */
#define MEMBERS(name, type, wide, widen, narrow, sum)                                                        \
  static void name(uint32_t reduce, const void* const* sources, uint32_t members, uint64_t at, void* output, \
                   uint64_t count) {                                                                         \
    wide total[BLOCK];                                                                                       \
    for (uint64_t end = at + count; at < end; at += BLOCK) {                                                 \
      const uint64_t n = end - at < BLOCK ? end - at : BLOCK;                                                \
      const type* in = (const type*)sources[0] + at;                                                         \
      for (uint64_t i = 0; i < n; ++i) total[i] = widen(in[i]);                                              \
      for (uint32_t m = 1; m < members; ++m) {                                                               \
        in = (const type*)sources[m] + at;                                                                   \
        if (reduce == KM_REDUCE_SUM) {                                                                       \
          for (uint64_t i = 0; i < n; ++i) total[i] = sum(total[i], widen(in[i]));                           \
        } else {                                                                                             \
          for (uint64_t i = 0; i < n; ++i) {                                                                 \
            const wide more = widen(in[i]);                                                                  \
            total[i] = LARGER(total[i], more);                                                               \
          }                                                                                                  \
        }                                                                                                    \
      }                                                                                                      \
      type* out = (type*)output + at;                                                                        \
      for (uint64_t i = 0; i < n; ++i) out[i] = narrow(total[i]);                                            \
    }                                                                                                        \
  }

MEMBERS(members_f32, float, float, SAME, SAME, SUM)
MEMBERS(members_bf16, uint16_t, float, widen_bf16, narrow_bf16, SUM)
MEMBERS(members_f16, uint16_t, float, widen_f16, narrow_f16, SUM)
MEMBERS(members_f64, double, double, SAME, SAME, SUM)
MEMBERS(members_i32, int32_t, int32_t, SAME, SAME, sum_i32)
MEMBERS(members_i64, int64_t, int64_t, SAME, SAME, sum_i64)

void reduce_members(uint32_t dtype, uint32_t reduce, const void* const* sources, uint32_t members, uint64_t at,
                    void* output, uint64_t count) {
  switch (dtype) {
    case KM_F32: members_f32(reduce, sources, members, at, output, count); return;
    case KM_BF16: members_bf16(reduce, sources, members, at, output, count); return;
    case KM_F16: members_f16(reduce, sources, members, at, output, count); return;
    case KM_F64: members_f64(reduce, sources, members, at, output, count); return;
    case KM_I32: members_i32(reduce, sources, members, at, output, count); return;
    case KM_I64: members_i64(reduce, sources, members, at, output, count); return;
    default: return;
  }
}

/* Maxima as operations of MPI: out[i] = the larger of in[i] and out[i]; a NaN stays, which MPI_MAX does not promise. */
#define MAXIMUM(name, type, wide, widen)                                            \
  static void name(void* input, void* output, int* count, MPI_Datatype* datatype) { \
    const type* in = (const type*)input;                                            \
    type* out = (type*)output;                                                      \
    (void)datatype;                                                                 \
    for (int i = 0; i < *count; ++i) {                                              \
      const wide a = widen(in[i]), b = widen(out[i]);                               \
      if (a != a || a > b) out[i] = in[i];                                          \
    }                                                                               \
  }

MAXIMUM(max_f32, float, float, SAME)
MAXIMUM(max_f64, double, double, SAME)
MAXIMUM(max_bf16, uint16_t, float, widen_bf16)
MAXIMUM(max_f16, uint16_t, float, widen_f16)

int reductions_create(comm_rank* owner) {
  for (int i = 0; i < 8; ++i) owner->max[i] = MPI_MAX;
  const struct {
    MPI_User_function* function;
    MPI_Op* op;
  } own[] = {{max_f32, &owner->max[KM_F32]},
             {max_f64, &owner->max[KM_F64]},
             {max_bf16, &owner->max[KM_BF16]},
             {max_f16, &owner->max[KM_F16]}};
  for (unsigned i = 0; i < sizeof own / sizeof own[0]; ++i) {
    int error = MPI_Op_create(own[i].function, 1, own[i].op);
    if (error != MPI_SUCCESS) return error;
  }
  return MPI_SUCCESS;
}

void reductions_free(comm_rank* owner) {
  for (int i = 0; i < 8; ++i) {
    if (owner->max[i] != MPI_MAX) MPI_Op_free(&owner->max[i]);
  }
}
