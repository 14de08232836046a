// Philox4x32-10: random numbers by address. The same (seed, purpose, index) gives the same number on every rank, in
// every layout and in any order, so nothing about random numbers needs saving. Source: Salmon, Moraes, Dror, Shaw,
// "Parallel random numbers: as easy as 1, 2, 3", SC11. Floor: base.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace kumiki {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

// Ten rounds: four random words for each counter.
constexpr PhiloxCounter philox4x32_10(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

// The draws of one (seed, purpose): purpose tells streams apart, e.g. the hash of a parameter's name. index: the
// logical element. Key = seed, counter = (block of elements, purpose), 64 bits each. [any]
class Philox {
 public:
  constexpr Philox(uint64_t seed, uint64_t purpose)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}, purpose_(purpose) {}

  constexpr PhiloxCounter block(uint64_t number) const {
    return philox4x32_10({static_cast<uint32_t>(number), static_cast<uint32_t>(number >> 32),
                          static_cast<uint32_t>(purpose_), static_cast<uint32_t>(purpose_ >> 32)},
                         key_);
  }
  // Word `index` of the stream: word index mod 4 of block index / 4.
  constexpr uint32_t bits(uint64_t index) const { return block(index / 4)[index % 4]; }
  // In (0, 1): the middles of 2^23 equal parts, all exact in f32, so neither end is ever drawn.
  constexpr float uniform(uint64_t index) const { return (static_cast<float>(bits(index) >> 9) + 0.5f) * 0x1p-23f; }
  // Below `limit` (> 0), by multiply-high of 64 bits; its bias is below limit / 2^64.
  constexpr uint64_t below(uint64_t index, uint64_t limit) const {
    const PhiloxCounter words = block(index / 2);
    const uint64_t word = (uint64_t{words[index % 2 * 2 + 1]} << 32) | words[index % 2 * 2];
    return static_cast<uint64_t>((static_cast<unsigned __int128>(word) * limit) >> 64);
  }
  // Standard normals by Box and Muller from one block: 53-bit uniforms, f32 functions, which are five times as fast as
  // those of double and exact enough for what starts a training.
  struct Pair {
    float first, second;
  };
  static Pair normals(const PhiloxCounter& words) {
    const double u = (static_cast<double>(((uint64_t{words[1]} << 32) | words[0]) >> 12) + 0.5) * 0x1p-52;
    const double v = (static_cast<double>(((uint64_t{words[3]} << 32) | words[2]) >> 12) + 0.5) * 0x1p-52;
    const float radius = std::sqrt(-2.0f * std::log(static_cast<float>(u)));
    const float angle = 6.2831853f * static_cast<float>(v);
    return {radius * std::cos(angle), radius * std::sin(angle)};
  }
  // Elements 2k and 2k+1 are the two values of block k.
  double normal(uint64_t index) const {
    const Pair pair = normals(block(index / 2));
    return index % 2 ? pair.second : pair.first;
  }

 private:
  PhiloxKey key_;
  uint64_t purpose_;
};

} // namespace kumiki
