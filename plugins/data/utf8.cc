#include "utf8.h"

#include <cstring>

namespace kumiki::data {
namespace {

// Bytes of the valid character at `at`, or 0. The bounds of the second byte are those of table 3-7 of the Unicode
// standard.
size_t character_bytes(const unsigned char* at, size_t left) {
  const unsigned char lead = at[0];
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || left < length) return 0;
  const unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (at[1] < low || at[1] > high) return 0;
  for (size_t i = 2; i < length; ++i)
    if ((at[i] & 0xc0) != 0x80) return 0;
  return length;
}

} // namespace

int64_t valid_utf8(std::string_view text) {
  const auto* const bytes = reinterpret_cast<const unsigned char*>(text.data());
  size_t at = 0;
  while (at < text.size()) {
    if (text.size() - at >= 8) {
      uint64_t eight;
      std::memcpy(&eight, bytes + at, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const size_t length = character_bytes(bytes + at, text.size() - at);
    if (length == 0) break;
    at += length;
  }
  return static_cast<int64_t>(at);
}

} // namespace kumiki::data
