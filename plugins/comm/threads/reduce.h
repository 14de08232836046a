// reduce: adds or compares the same range of several members' buffers. In: input and output pointers of all members; out:
// the reduction in every output. Members are taken in rising order, so the bits depend on nothing but the values.
#pragma once

#include <cstdint>

#include "kumiki/base.h"

namespace kumiki::threads {

// True for types that have a sum and a maximum: all but KM_U8.
bool can_reduce(uint32_t dtype);

// Elements [input_at, input_at + count) of the `members` inputs are reduced into [output_at, output_at + count) of the
// `outputs` outputs. bf16 and f16 are reduced in f32 and rounded once, to nearest even. A NaN stays a NaN in both
// reductions; sums of integers wrap. An output may be one of the inputs if the ranges are the same. [any]
void reduce_range(uint32_t dtype, uint32_t reduce, const km_address* inputs, uint32_t members, uint64_t input_at,
                  const km_address* outputs, uint32_t output_count, uint64_t output_at, uint64_t count);

} // namespace kumiki::threads
