// format: a line of text as printf writes it. Floor: base.
#pragma once

#include <string>

namespace kumiki {

// At most 511 characters; the rest is cut off. [any]
std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));

} // namespace kumiki
