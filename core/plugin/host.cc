#include "core/plugin/host.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "core/base/log.h"

namespace kumiki {

// What a plugin holds: the ABI's table first, so that the pointer to it is the pointer to this.
struct Host::Handle {
  km_host table;
  Host* self;
};

namespace {

thread_local std::string last_error;

km_status fail(const km_host*, km_status code, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  va_list again;
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, arguments);
  va_end(arguments);
  try {
    last_error.assign(static_cast<size_t>(length > 0 ? length : 0), '\0');
    if (length > 0) std::vsnprintf(last_error.data(), last_error.size() + 1, format, again);
  } catch (...) { // no memory for the text: the status still tells
    last_error.clear();
  }
  va_end(again);
  return code;
}

void log_line(const km_host*, uint32_t level, const char* text) {
  try {
    switch (level) {
      case KM_LOG_DEBUG: return log_debug(text);
      case KM_LOG_WARNING: return log_warning(text);
      case KM_LOG_ERROR: return log_error(text);
      default: return log_info(text);
    }
  } catch (...) {
    std::fputs("kumiki: a line of the log was lost: no memory\n", stderr);
  }
}

void* allocate(const km_host*, uint64_t bytes, uint64_t alignment) {
  if (alignment < sizeof(void*)) alignment = sizeof(void*);
  if ((alignment & (alignment - 1)) != 0) return nullptr;
  void* memory = nullptr;
  return ::posix_memalign(&memory, alignment, bytes ? bytes : 1) == 0 ? memory : nullptr;
}

void release(const km_host*, void* memory) { std::free(memory); }

const void* service_of(const km_host* host, const char* id) { return id ? Host::from(host)->service(id) : nullptr; }

} // namespace

Host::Host() : handle_(new Handle{}) {
  km_host& table = handle_->table;
  table.struct_size = sizeof(km_host);
  table.abi_major = KM_ABI_MAJOR;
  table.minor_lowest = 1;
  table.minor_highest = KM_ABI_MINOR;
  table.fail = fail;
  table.log = log_line;
  table.allocate = allocate;
  table.release = release;
  table.service = service_of;
  handle_->self = this;
}

Host::~Host() = default;

const km_host* Host::abi() const { return &handle_->table; }

Host* Host::from(const km_host* host) { return reinterpret_cast<const Handle*>(host)->self; }

void Host::set_service(const std::string& id, const void* table) { services_[id] = table; }

const void* Host::service(const std::string& id) const {
  const auto found = services_.find(id);
  return found == services_.end() ? nullptr : found->second;
}

std::string Host::take_error() {
  std::string out;
  out.swap(last_error);
  return out;
}

std::string status_name(km_status status) {
  switch (status) {
    case KM_OK: return "KM_OK";
    case KM_ERROR_HOST: return "KM_ERROR_HOST";
    case KM_ERROR_PLUGIN: return "KM_ERROR_PLUGIN";
    case KM_ERROR_USER: return "KM_ERROR_USER";
    case KM_ERROR_SYSTEM: return "KM_ERROR_SYSTEM";
    case KM_UNSUPPORTED: return "KM_UNSUPPORTED";
    case KM_DEVICE_LOST: return "KM_DEVICE_LOST";
    default: return "status " + std::to_string(status);
  }
}

void check(km_status status, const std::string& component, const std::string& what) {
  if (status == KM_OK) return;
  std::string text = Host::take_error();
  if (text.empty()) text = "no reason given (" + status_name(status) + ")";
  std::string remedy;
  if (status == KM_ERROR_PLUGIN) remedy = "this is a fault of the plugin: tell its authors";
  if (status == KM_ERROR_HOST) remedy = "this is a bug of kumiki, please report it";
  if (status == KM_DEVICE_LOST) remedy = "the device is lost: start again with --resume";
  Error error(component, (what.empty() ? "" : what + ": ") + text, remedy);
  error.exit_code = status == KM_ERROR_USER || status == KM_UNSUPPORTED     ? 2
                    : status == KM_ERROR_SYSTEM || status == KM_DEVICE_LOST ? 6
                                                                            : 1;
  throw error;
}

} // namespace kumiki
