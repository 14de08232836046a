// Numbers as JSON: the shortest digits that read back as the same double; whole numbers without exponent; null where
// there is no number (NaN, infinity).
#pragma once

#include <charconv>
#include <cmath>
#include <string>

namespace kumiki::metrics {

inline void append_json_number(std::string& text, double value) {
  constexpr double kExact = 9007199254740992.0; // 2^53
  char digits[32];
  if (!std::isfinite(value)) {
    text += "null";
    return;
  }
  const bool whole = value == std::floor(value) && std::fabs(value) < kExact && !(value == 0 && std::signbit(value));
  const auto end = whole ? std::to_chars(digits, digits + sizeof digits, static_cast<long long>(value))
                         : std::to_chars(digits, digits + sizeof digits, value);
  text.append(digits, end.ptr);
}

inline void append_json_text(std::string& text, const char* plain) {
  text += '"';
  for (; *plain; ++plain) {
    const auto c = static_cast<unsigned char>(*plain);
    if (c == '"' || c == '\\') {
      text += '\\';
      text += *plain;
    } else if (c < 0x20) {
      constexpr char kHex[] = "0123456789abcdef";
      text += "\\u00";
      text += kHex[c >> 4];
      text += kHex[c & 15];
    } else {
      text += *plain;
    }
  }
  text += '"';
}

} // namespace kumiki::metrics
