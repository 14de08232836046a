// What every host of a test hands to a plugin: a fail that keeps the text for its thread, and plain memory. A test adds its
// own log and services, and makes a km_host of them.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "kumiki/base.h"

namespace kumiki::test {

inline thread_local std::string plain_error; // the text of the thread's last fail

inline km_status plain_fail(const km_host*, km_status code, const char* format, ...) {
  char text[4096];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  plain_error = text;
  return code;
}

inline void* plain_allocate(const km_host*, uint64_t bytes, uint64_t alignment) {
  alignment = alignment < sizeof(void*) ? sizeof(void*) : alignment;
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment + (bytes == 0 ? alignment : 0));
}

inline void plain_release(const km_host*, void* memory) { std::free(memory); }

inline void no_log(const km_host*, uint32_t, const char*) {}
inline const void* no_service(const km_host*, const char*) { return nullptr; }

} // namespace kumiki::test
