// Host: what the core offers to plugins, as the km_host of one rank: error texts, log, memory, services by id. Upper
// floors register their services and the rank's context; a service finds them again from the km_host* that a plugin
// hands back. Floor: plugin (stands on config, base, abi).
#pragma once

#include <map>
#include <memory>
#include <string>

#include "core/base/error.h"
#include "kumiki/base.h"

namespace kumiki {

class Host {
 public:
  Host();
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // Valid as long as this Host: it must outlive every component that was opened with it.
  const km_host* abi() const;
  static Host* from(const km_host* host);

  // Services by id ("kumiki.graph/1"): static tables. Registered before components are opened; afterwards only read.
  // [main]
  void set_service(const std::string& id, const void* table);
  const void* service(const std::string& id) const; // null: none. [any]

  // The rank that this host belongs to, as the upper floors see it. [main]
  void set_context(void* context) { context_ = context; }
  template <class T>
  T* context() const {
    return static_cast<T*>(context_);
  }

  // The text of the calling thread's last fail on any host, which is cleared by it; empty if there is none. [any]
  static std::string take_error();

 private:
  struct Handle;
  std::unique_ptr<Handle> handle_;
  std::map<std::string, const void*, std::less<>> services_;
  void* context_ = nullptr;
};

// Throws Error with the plugin's text where status is not KM_OK. component: "kernels generic"; what: "matmul" or
// "open". Exit codes: user 2, system 6, else 1. [any]
void check(km_status status, const std::string& component, const std::string& what);
// "KM_ERROR_USER" and so on; "status 17" for what is not known.
std::string status_name(km_status status);

} // namespace kumiki
