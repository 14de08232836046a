/* The plugins that are linked into this program, found by name where other tests load a file: test_host.cc is compiled
 * with dlopen and its sisters renamed to these. So the whole test is one static program that runs under qemu. */
#include <cstring>

#include "kumiki/plugin.h"

extern "C" {
const km_plugin* sve_plugin(const km_host* host);
const km_plugin* reference_plugin(const km_host* host);

void* linked_dlopen(const char* path, int);
void* linked_dlsym(void* library, const char* symbol);
char* linked_dlerror();
}

namespace {

struct LinkedPlugin {
  const char* path;
  km_plugin_entry entry;
};
LinkedPlugin plugins[] = {{"linked/sve", sve_plugin}, {"linked/reference", reference_plugin}};

} // namespace

void* linked_dlopen(const char* path, int) {
  for (LinkedPlugin& plugin : plugins)
    if (std::strcmp(plugin.path, path) == 0) return &plugin;
  return nullptr;
}

void* linked_dlsym(void* library, const char* symbol) {
  if (std::strcmp(symbol, KM_PLUGIN_SYMBOL) != 0) return nullptr;
  return reinterpret_cast<void*>(static_cast<LinkedPlugin*>(library)->entry);
}

char* linked_dlerror() {
  static char text[] = "not among the plugins that are linked in";
  return text;
}
