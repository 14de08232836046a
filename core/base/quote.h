// escaped: text that is to stand between double quotes, in Graphviz or JSON. Floor: base.
#pragma once

#include <string>

namespace kumiki {

// A backslash before each quote and backslash; the text has no control characters.
inline std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

} // namespace kumiki
