// The components of this plugin, one folder each, and the boundary that they share: inside, errors are thrown as
// Failure; guarded() turns them into host->fail and a status, so that nothing is thrown across the ABI.
#pragma once

#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>

#include "kumiki/parallel.h"
#include "kumiki/plugin.h"

namespace kumiki::parallel {

km_component tensor_component();
km_component context_component();
km_component data_component();
km_component pipeline_component();
km_component recompute_component();

class Failure : public std::runtime_error {
 public:
  Failure(km_status status, const std::string& text) : std::runtime_error(text), status(status) {}
  km_status status;
};

// What the user asked for cannot be had: options, degrees, shapes.
[[noreturn]] inline void fail_user(const std::string& text) { throw Failure(KM_ERROR_USER, text); }

// Runs `body` for the component of this name.
template <typename Body>
km_status guarded(const km_host* host, const char* name, Body&& body) noexcept {
  try {
    body();
    return KM_OK;
  } catch (const Failure& failure) {
    return host->fail(host, failure.status, "parallel %s: %s", name, failure.what());
  } catch (const std::exception& error) {
    return host->fail(host, KM_ERROR_PLUGIN, "parallel %s: %s", name, error.what());
  } catch (...) {
    return host->fail(host, KM_ERROR_PLUGIN, "parallel %s: an exception of unknown type", name);
  }
}

// The option that all strategies with an axis have. The core reads it too: it makes the mesh of the degrees.
constexpr km_option degree_option(const char* help) { return {"degree", KM_OPTION_I64, 0, "0", 0, 1e6, nullptr, help}; }

} // namespace kumiki::parallel
