#include "event_record.h"

#include <array>
#include <cstring>

namespace kumiki::metrics {
namespace {

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0u);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = make_table();

template <typename Number>
void append_fixed(std::string& out, Number number) {
  char bytes[sizeof number];
  std::memcpy(bytes, &number, sizeof number);
  out.append(bytes, sizeof bytes);
}

void append_varint(std::string& out, uint64_t number) {
  for (; number >= 0x80; number >>= 7) out += static_cast<char>(number | 0x80);
  out += static_cast<char>(number);
}

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void append_key(std::string& out, uint32_t field, WireType type) { append_varint(out, field << 3 | type); }

void append_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  append_key(out, field, kBytes);
  append_varint(out, bytes.size());
  out += bytes;
}

// wall_time and step; zero is the default of proto3 and is not written.
std::string event_head(double wall_time, int64_t step) {
  std::string out;
  append_key(out, 1, kFixed64);
  append_fixed(out, wall_time);
  if (step != 0) {
    append_key(out, 2, kVarint);
    append_varint(out, static_cast<uint64_t>(step));
  }
  return out;
}

} // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::string framed(std::string_view message) {
  std::string out;
  append_fixed(out, static_cast<uint64_t>(message.size()));
  append_fixed(out, masked_crc32c(out));
  out += message;
  append_fixed(out, masked_crc32c(message));
  return out;
}

std::string version_event(double wall_time) {
  std::string out = event_head(wall_time, 0);
  append_bytes(out, 3, "brain.Event:2");
  return out;
}

std::string start_event(double wall_time, int64_t step) {
  std::string out = event_head(wall_time, step);
  append_bytes(out, 7, std::string_view("\x08\x01", 2)); // SessionLog{status = START}
  return out;
}

std::string scalars_event(double wall_time, int64_t step,
                          const std::vector<std::pair<std::string_view, float>>& scalars) {
  std::string summary;
  for (const auto& [tag, scalar] : scalars) {
    std::string value;
    append_bytes(value, 1, tag);
    append_key(value, 2, kFixed32);
    append_fixed(value, scalar);
    append_bytes(summary, 1, value);
  }
  std::string out = event_head(wall_time, step);
  append_bytes(out, 5, summary);
  return out;
}

} // namespace kumiki::metrics
