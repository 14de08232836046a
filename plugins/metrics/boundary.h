// How errors leave this plugin: the code inside throws Failure; guarded() turns it (and every other exception) into
// host->fail and a status, so that nothing is thrown across the ABI.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "kumiki/base.h"

namespace kumiki::metrics {

class Failure : public std::runtime_error {
 public:
  Failure(km_status status, const std::string& text) : std::runtime_error(text), status(status) {}
  km_status status;
};

template <typename Body>
km_status guarded(const km_host* host, Body&& body) noexcept {
  try {
    body();
    return KM_OK;
  } catch (const Failure& failure) {
    return host->fail(host, failure.status, "%s", failure.what());
  } catch (const std::bad_alloc&) {
    return host->fail(host, KM_ERROR_SYSTEM, "metrics: out of memory");
  } catch (const std::exception& error) {
    return host->fail(host, KM_ERROR_PLUGIN, "metrics: %s", error.what());
  } catch (...) {
    return host->fail(host, KM_ERROR_PLUGIN, "metrics: an exception of unknown type");
  }
}

} // namespace kumiki::metrics
