// Hashes: XXH3 (64 bits) for names and checksums, not safe against malice; SHA-256 (FIPS 180-4) for pins. Floor: base.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace kumiki {

uint64_t xxh3(const void* data, size_t bytes);
inline uint64_t xxh3(std::string_view text) { return xxh3(text.data(), text.size()); }

// The same over data that comes in pieces.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(const Xxh3&) = delete;
  Xxh3& operator=(const Xxh3&) = delete;
  void add(const void* data, size_t bytes);
  uint64_t digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Sha256 {
 public:
  void add(const void* data, size_t bytes);
  std::string hex(); // 64 lower-case digits; ends the computation

 private:
  void block(const uint8_t* data);
  std::array<uint32_t, 8> h_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> buffer_ = {};
  uint64_t bytes_ = 0;
};
std::string sha256_hex(std::string_view data);

// 16 lower-case hexadecimal digits.
std::string hex64(uint64_t value);

} // namespace kumiki
