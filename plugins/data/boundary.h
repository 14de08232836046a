// How errors leave this plugin: the code inside throws Failure; guarded() turns it (and every other exception) into
// host->fail and a status, so that nothing is thrown across the ABI.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "kumiki/base.h"

namespace kumiki::data {

class Failure : public std::runtime_error {
 public:
  Failure(km_status status, const std::string& text) : std::runtime_error(text), status(status) {}
  km_status status;
};

KM_PRINTF(1, 0) inline std::string text_of(const char* format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, arguments);
  return text;
}

// What the user gave is wrong: an option, a file, a corpus too small.
[[noreturn]] KM_PRINTF(1, 2) inline void fail_user(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const std::string text = text_of(format, arguments);
  va_end(arguments);
  throw Failure(KM_ERROR_USER, text);
}

// The machine refused: memory, disk.
[[noreturn]] KM_PRINTF(1, 2) inline void fail_system(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const std::string text = text_of(format, arguments);
  va_end(arguments);
  throw Failure(KM_ERROR_SYSTEM, text);
}

template <typename Body>
km_status guarded(const km_host* host, Body&& body) noexcept {
  try {
    body();
    return KM_OK;
  } catch (const Failure& failure) {
    return host->fail(host, failure.status, "%s", failure.what());
  } catch (const std::bad_alloc&) {
    return host->fail(host, KM_ERROR_SYSTEM, "data: out of memory");
  } catch (const std::exception& error) {
    return host->fail(host, KM_ERROR_PLUGIN, "data: %s", error.what());
  } catch (...) {
    return host->fail(host, KM_ERROR_PLUGIN, "data: an exception of unknown type");
  }
}

} // namespace kumiki::data
