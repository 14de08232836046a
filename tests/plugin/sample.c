/* A plugin for the loader's tests. SAMPLE picks what is right or wrong with it; the BUILD file makes one .so of each. */
#include "kumiki/metrics.h"
#include "kumiki/plugin.h"

#define GOOD 0
#define NO_SYMBOL 1
#define MAJOR_TOO_NEW 2
#define MINOR_TOO_NEW 3
#define PLUGIN_TOO_SMALL 4
#define TABLE_TOO_SMALL 5
#define LARGER_STRUCTS 6
#define SILENT 7
#define NEGOTIATES_NOTHING 8
#define TWICE 9
#define COMPONENT_TOO_SMALL 10
#define OPTION_TOO_SMALL 11
#define NAMELESS 12
#define OTHER_INTERFACE 13

#ifndef NAME
#define NAME "sample"
#endif

static km_status open_sample(const km_host* host, const km_options* options, const km_run_info* run, void** self) {
  (void)options, (void)run;
  *self = NULL;
  return host->fail(host, KM_ERROR_USER, "%s cannot open: %d", NAME, 7);
}
static void close_sample(void* self) { (void)self; }
static km_status step(void* self, const km_metric* metrics, uint32_t n) {
  (void)self, (void)metrics, (void)n;
  return KM_OK;
}
static km_status event(void* self, int64_t at, const char* kind, const char* text) {
  (void)self, (void)at, (void)kind, (void)text;
  return KM_OK;
}

/* As a later version may have them: more at the end. */
typedef struct larger_metrics {
  km_metrics known;
  void (*later)(void);
} larger_metrics;
typedef struct larger_component {
  km_component known;
  uint64_t later[3];
} larger_component;
typedef struct larger_option {
  km_option known;
  uint64_t later;
} larger_option;
typedef struct larger_plugin {
  km_plugin known;
  uint64_t later[2];
} larger_plugin;

static void later(void) {}
static const larger_metrics table = {{SAMPLE == TABLE_TOO_SMALL  ? 24u
                                      : SAMPLE == LARGER_STRUCTS ? sizeof(larger_metrics)
                                                                 : sizeof(km_metrics),
                                      0, open_sample, close_sample, step, event},
                                     later};

static const larger_option options[] = {
    {{"size", KM_OPTION_I64, 0, "4", 1, 8, NULL, "how large"}, 1},
    {{"file", KM_OPTION_PATH, KM_OPTION_REQUIRED, NULL, 0, 0, NULL, "where"}, 2},
    {{"mode", KM_OPTION_STRING, 0, "fast", 0, 0, "fast|slow", "how"}, 3},
};
static const km_option plain_options[] = {
    {"size", KM_OPTION_I64, 0, "4", 1, 8, NULL, "how large"},
    {"file", KM_OPTION_PATH, KM_OPTION_REQUIRED, NULL, 0, 0, NULL, "where"},
    {"mode", KM_OPTION_STRING, 0, "fast", 0, 0, "fast|slow", "how"},
};
#define OPTIONS (SAMPLE == LARGER_STRUCTS ? &options[0].known : plain_options)

#define VERSION (SAMPLE == OTHER_INTERFACE ? KM_METRICS_VERSION + 1 : KM_METRICS_VERSION)
static const larger_component components[] = {
    {{"metrics", SAMPLE == NAMELESS ? NULL : NAME, VERSION, 3, &table, OPTIONS, "a sample"}, {1, 2, 3}},
    {{"metrics", SAMPLE == TWICE ? NAME : NAME "_second", VERSION, 0, &table, NULL, "another"}, {4, 5, 6}},
};
static const km_component plain_components[] = {
    {"metrics", SAMPLE == NAMELESS ? NULL : NAME, VERSION, 3, &table, OPTIONS, "a sample"},
    {"metrics", SAMPLE == TWICE ? NAME : NAME "_second", VERSION, 0, &table, NULL, "another"},
};

static const larger_plugin plugin = {
    {SAMPLE == PLUGIN_TOO_SMALL ? 40u
     : SAMPLE == LARGER_STRUCTS ? sizeof(larger_plugin)
                                : sizeof(km_plugin),
     SAMPLE == MINOR_TOO_NEW || SAMPLE == NEGOTIATES_NOTHING ? 99u : KM_ABI_MINOR, "samples", "1.0", "the tests",
     "Apache-2.0", SAMPLE == LARGER_STRUCTS ? &components[0].known : plain_components, 2,
     SAMPLE == LARGER_STRUCTS        ? sizeof(larger_component)
     : SAMPLE == COMPONENT_TOO_SMALL ? 40u
                                     : sizeof(km_component),
     SAMPLE == LARGER_STRUCTS     ? sizeof(larger_option)
     : SAMPLE == OPTION_TOO_SMALL ? 48u
                                  : sizeof(km_option),
     0},
    {7, 8}};

#if SAMPLE == MAJOR_TOO_NEW
KM_EXPORT const void* kumiki_plugin_v1(const km_host* host);
KM_EXPORT const void* kumiki_plugin_v1(const km_host* host) { return host ? &plugin : NULL; }
#elif SAMPLE == NO_SYMBOL
KM_EXPORT const void* some_other_library(void);
KM_EXPORT const void* some_other_library(void) { return &plugin; }
#elif SAMPLE == SILENT
KM_EXPORT const km_plugin* kumiki_plugin_v0(const km_host* host);
KM_EXPORT const km_plugin* kumiki_plugin_v0(const km_host* host) { return host ? NULL : &plugin.known; }
#elif SAMPLE == NEGOTIATES_NOTHING
KM_EXPORT const km_plugin* kumiki_plugin_v0(const km_host* host);
KM_EXPORT const km_plugin* kumiki_plugin_v0(const km_host* host) { return host ? &plugin.known : NULL; }
#else
KM_PLUGIN(plugin.known)
#endif
