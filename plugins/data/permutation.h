// A seeded permutation of 0 … size-1 that is computed, not stored: a Feistel network over the next even power of two,
// walked until the result lies inside (cycle walking, Black and Rogaway 2002). Any element costs the same, so a sample
// is found by its number without a table of the corpus's length. The same key gives the same order on every machine.
#pragma once

#include <cstdint>

#include "mix.h"

namespace kumiki::data {

class Permutation {
 public:
  Permutation() = default;
  // size ≥ 1.
  Permutation(int64_t size, uint64_t key) : size_(static_cast<uint64_t>(size)), key_(key) {
    while ((uint64_t{1} << (2 * half_bits_)) < size_) ++half_bits_;
  }

  int64_t size() const { return static_cast<int64_t>(size_); }

  // 0 ≤ index < size(). Thread-safe.
  int64_t operator()(int64_t index) const {
    uint64_t x = static_cast<uint64_t>(index);
    do {
      x = round_trip(x);
    } while (x >= size_); // the domain is below 4 x size: fewer than four walks on average
    return static_cast<int64_t>(x);
  }

 private:
  static constexpr uint64_t kRounds = 6;

  uint64_t round_trip(uint64_t x) const {
    const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
    uint64_t left = x >> half_bits_, right = x & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t next = left ^ (mix(key_ ^ (round << 56) ^ right) & mask);
      left = right;
      right = next;
    }
    return left << half_bits_ | right;
  }

  uint64_t size_ = 1;
  uint64_t key_ = 0;
  unsigned half_bits_ = 1;
};

} // namespace kumiki::data
