// Hashes of numbers and of bytes: the same on every machine, fast, not cryptographic. Orders, draws and cache keys use
// them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace kumiki::data {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
inline uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// One 64-bit hash of up to four numbers, in their order.
inline uint64_t mix(uint64_t a, uint64_t b, uint64_t c = 0, uint64_t d = 0) {
  return mix(mix(mix(mix(a) ^ b) ^ c) ^ d);
}

inline uint64_t hash_bytes(std::string_view bytes) {
  uint64_t hash = mix(bytes.size());
  for (size_t at = 0; at < bytes.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, bytes.size() - at < 8 ? bytes.size() - at : 8);
    hash = mix(hash ^ word);
  }
  return hash;
}

} // namespace kumiki::data
