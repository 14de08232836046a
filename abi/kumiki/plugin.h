/* kumiki/plugin.h: what a shared object exports: one symbol, kumiki_plugin_v0, made by KM_PLUGIN.
 *
 *   static const km_component components[] = {{"kernels", "acme", 1, &kernels, NULL, 0, "layernorm for …"}};
 *   static const km_plugin plugin = {sizeof(km_plugin), KM_ABI_MINOR, "acme", "1.2", "Acme K.K.", "Apache-2.0",
 *                                    components, 1, sizeof(km_component), sizeof(km_option)};
 *   KM_PLUGIN(plugin)
 */
#ifndef KUMIKI_PLUGIN_H
#define KUMIKI_PLUGIN_H

#include "kumiki/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One component of a plugin: a named table of functions of one kind. */
typedef struct km_component {
  const char* kind;         /* "model", "kernels", "optimizer", "data", "metrics", "comm", "parallel" */
  const char* name;         /* what TOML's `use` says; unique within the kind */
  uint32_t interface_version; /* of the kind's table: KM_KERNELS_VERSION and the like */
  uint32_t option_count;
  const void* table;        /* km_kernels, km_model, …: begins with its struct_size */
  const km_option* options; /* NULL if option_count is 0 */
  const char* summary;      /* one line */
} km_component;

/* The static description of a plugin. The two arrays may be of later, larger structs: their strides are said. */
typedef struct km_plugin {
  uint32_t struct_size;
  uint32_t abi_minor;       /* KM_ABI_MINOR of the headers that it was built with */
  const char* name;
  const char* version;
  const char* vendor;
  const char* licence;      /* SPDX */
  const km_component* components;
  uint32_t component_count;
  uint32_t component_size;  /* sizeof(km_component) */
  uint32_t option_size;     /* sizeof(km_option) */
  uint32_t reserved;
} km_plugin;

typedef const km_plugin* (*km_plugin_entry)(const km_host* host);
#define KM_PLUGIN_SYMBOL "kumiki_plugin_v0"

/* The negotiation, inline so that no author forgets it: NULL, with the reason by host->fail, when the host does not speak
 * the minor version that the plugin was built with. [main] */
static inline const km_plugin* km_negotiate(const km_host* host, const km_plugin* plugin) {
  if (plugin->abi_minor < host->minor_lowest || plugin->abi_minor > host->minor_highest) {
    host->fail(host, KM_ERROR_USER,
               "plugin %s %s was built for ABI %u.%u; this host speaks %u.%u to %u.%u: rebuild it, or use another kumiki",
               plugin->name, plugin->version, KM_ABI_MAJOR, plugin->abi_minor, host->abi_major, host->minor_lowest,
               host->abi_major, host->minor_highest);
    return NULL;
  }
  return plugin;
}

#ifdef __cplusplus
#define KM_EXTERN_C extern "C"
#else
#define KM_EXTERN_C
#endif
#define KM_PLUGIN(description)                                            \
  KM_EXTERN_C KM_EXPORT const km_plugin* kumiki_plugin_v0(const km_host* host); \
  KM_EXTERN_C KM_EXPORT const km_plugin* kumiki_plugin_v0(const km_host* host) { return km_negotiate(host, &(description)); }

#ifdef __cplusplus
}
#endif
#endif
