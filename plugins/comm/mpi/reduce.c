/* reduce.c: MPI types and reductions. bf16 and f16 travel as 16-bit integers; each addition is made in f32 and rounded to
 * nearest even. A NaN stays a NaN in maxima, which MPI_MAX does not promise. */
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

/* b[i] = the reduction of a[i] and b[i], as MPI asks of an operation. */
#define REDUCTION(name, type, wide, widen, narrow, reduce)                          \
  static void name(void* input, void* output, int* count, MPI_Datatype* datatype) { \
    const type* in = (const type*)input;                                            \
    type* out = (type*)output;                                                      \
    (void)datatype;                                                                 \
    for (int i = 0; i < *count; ++i) {                                              \
      wide a = widen(in[i]), b = widen(out[i]);                                     \
      out[i] = narrow(reduce);                                                      \
    }                                                                               \
  }

REDUCTION(sum_bf16, uint16_t, float, widen_bf16, narrow_bf16, a + b)
REDUCTION(sum_f16, uint16_t, float, widen_f16, narrow_f16, a + b)
REDUCTION(max_f32, float, float, , , LARGER(a, b))
REDUCTION(max_f64, double, double, , , LARGER(a, b))
REDUCTION(max_bf16, uint16_t, float, widen_bf16, narrow_bf16, LARGER(a, b))
REDUCTION(max_f16, uint16_t, float, widen_f16, narrow_f16, LARGER(a, b))

int reductions_create(comm_rank* owner) {
  for (int i = 0; i < 8; ++i) owner->sum[i] = MPI_SUM, owner->max[i] = MPI_MAX;
  const struct {
    MPI_User_function* function;
    MPI_Op* op;
  } own[] = {
      {sum_bf16, &owner->sum[KM_BF16]}, {sum_f16, &owner->sum[KM_F16]},   {max_f32, &owner->max[KM_F32]},
      {max_f64, &owner->max[KM_F64]},   {max_bf16, &owner->max[KM_BF16]}, {max_f16, &owner->max[KM_F16]},
  };
  for (unsigned i = 0; i < sizeof own / sizeof own[0]; ++i) {
    int error = MPI_Op_create(own[i].function, 1, own[i].op);
    if (error != MPI_SUCCESS) return error;
  }
  return MPI_SUCCESS;
}

void reductions_free(comm_rank* owner) {
  for (int i = 0; i < 8; ++i) {
    if (owner->sum[i] != MPI_SUM) MPI_Op_free(&owner->sum[i]);
    if (owner->max[i] != MPI_MAX) MPI_Op_free(&owner->max[i]);
  }
}
