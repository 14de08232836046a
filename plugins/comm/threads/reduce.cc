#include "plugins/comm/threads/reduce.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "kumiki/comm.h"

namespace kumiki::threads {
namespace {

// What is summed at a time: stays in the first-level cache.
constexpr uint64_t kBlock = 2048;

// How an element is stored, and what it is reduced in.
template <class T>
struct Plain {
  using Stored = T;
  using Sum = T;
  static T widen(T value) { return value; }
  static T narrow(T value) { return value; }
};

struct Bf16 {
  using Stored = uint16_t;
  using Sum = float;
  static float widen(uint16_t value) { return std::bit_cast<float>(uint32_t{value} << 16); }
  static uint16_t narrow(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40;
    return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
  }
};

struct F16 {
  using Stored = uint16_t;
  using Sum = float;
  static float widen(uint16_t value) {
    const uint32_t sign = (value & 0x8000u) << 16;
    // The exponent's bias goes from 15 to 127 by a product, which makes subnormals right as well.
    const float magnitude = std::bit_cast<float>((value & 0x7fffu) << 13) * 0x1p112f;
    const uint32_t special = (value & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | special | sign);
  }
  static uint16_t narrow(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t magnitude = bits & 0x7fffffff;
    const uint32_t sign = (bits >> 16) & 0x8000;
    uint32_t half;
    if (magnitude >= 0x47800000) { // 65536 and more, infinity, NaN
      half = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
    } else if (magnitude < 0x38800000) { // below 2^-14: the addition of 0.5 shifts the subnormal's bits into place
      half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000;
    } else {
      half = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    }
    return static_cast<uint16_t>(half | sign);
  }
};

template <class Sum>
Sum add(Sum a, Sum b) {
  if constexpr (std::is_integral_v<Sum>) {
    using Unsigned = std::make_unsigned_t<Sum>;
    return static_cast<Sum>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  } else {
    return a + b;
  }
}

template <class Sum>
Sum larger(Sum a, Sum b) {
  if constexpr (std::is_integral_v<Sum>) {
    return a < b ? b : a;
  } else {
    return a < b || b != b ? b : a;
  }
}

template <class Element>
void reduce_typed(uint32_t reduce, const km_address* inputs, uint32_t members, uint64_t input_at,
                  const km_address* outputs, uint32_t output_count, uint64_t output_at, uint64_t count) {
  using Stored = typename Element::Stored;
  typename Element::Sum sums[kBlock];
  for (uint64_t done = 0; done < count; done += kBlock) {
    const uint64_t n = std::min(kBlock, count - done);
    for (uint32_t m = 0; m < members; ++m) {
      const Stored* in = reinterpret_cast<const Stored*>(inputs[m]) + input_at + done;
      if (m == 0) {
        for (uint64_t i = 0; i < n; ++i) sums[i] = Element::widen(in[i]);
      } else if (reduce == KM_REDUCE_SUM) {
        for (uint64_t i = 0; i < n; ++i) sums[i] = add(sums[i], Element::widen(in[i]));
      } else {
        for (uint64_t i = 0; i < n; ++i) sums[i] = larger(sums[i], Element::widen(in[i]));
      }
    }
    // Nothing is written before all inputs of the block were read: an output may be an input.
    Stored* first = reinterpret_cast<Stored*>(outputs[0]) + output_at + done;
    for (uint64_t i = 0; i < n; ++i) first[i] = Element::narrow(sums[i]);
    for (uint32_t m = 1; m < output_count; ++m) {
      std::memcpy(reinterpret_cast<Stored*>(outputs[m]) + output_at + done, first, n * sizeof(Stored));
    }
  }
}

} // namespace

bool can_reduce(uint32_t dtype) { return dtype >= KM_F32 && dtype <= KM_I64; }

void reduce_range(uint32_t dtype, uint32_t reduce, const km_address* inputs, uint32_t members, uint64_t input_at,
                  const km_address* outputs, uint32_t output_count, uint64_t output_at, uint64_t count) {
  const auto run = [&](auto element) {
    reduce_typed<decltype(element)>(reduce, inputs, members, input_at, outputs, output_count, output_at, count);
  };
  switch (dtype) {
    case KM_F32: return run(Plain<float>{});
    case KM_BF16: return run(Bf16{});
    case KM_F16: return run(F16{});
    case KM_F64: return run(Plain<double>{});
    case KM_I32: return run(Plain<int32_t>{});
    case KM_I64: return run(Plain<int64_t>{});
  }
}

} // namespace kumiki::threads
