#include "core/base/format.h"

#include <cstdarg>
#include <cstdio>

namespace kumiki {

std::string format(const char* text, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, text);
  std::vsnprintf(line, sizeof line, text, arguments);
  va_end(arguments);
  return line;
}

} // namespace kumiki
