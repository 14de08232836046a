/* kumiki/base.h: the types that every other header stands on: status, tensor, attribute, options, host.
 *
 * Conventions of all headers in this folder (docs/architecture.md, section 4):
 *  1. C11, no dependency but <stdint.h> and friends. No C++ type, exception, FILE*, long, bool or enum-typed field crosses.
 *  2. Structs that grow begin with struct_size, set by whoever fills them. Fields are only ever added at the end; ask with
 *     KM_HAS before reading one that came later. Structs without struct_size (km_tensor, km_attribute, km_option_value) are fixed.
 *  3. Functions return km_status. On error the outputs are untouched and the text was handed over by host->fail.
 *     Functions that release return void and accept NULL.
 *  4. Who allocates frees. Strings passed in are valid during the call; strings returned live as long as the plugin.
 *  5. Threads are named at each function: [main] the thread that drives a rank (one for each rank of the process),
 *     [any] any thread, also several at once, [queue] the thread of the queue that the call names, one at a time.
 */
#ifndef KUMIKI_BASE_H
#define KUMIKI_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KM_ABI_MAJOR 0u
#define KM_ABI_MINOR 1u

/* True if a struct is large enough to hold FIELD: KM_HAS(km_host, host, service). Fields that came after 0.1 are read only
 * behind this. */
#define KM_HAS(type, table, field) \
  ((table)->struct_size >= (uint32_t)(offsetof(type, field) + sizeof((table)->field)))

/* ---- status ---------------------------------------------------------------------------------------------------- */
typedef int32_t km_status;
#define KM_OK 0
#define KM_ERROR_HOST 1      /* the core's fault */
#define KM_ERROR_PLUGIN 2    /* the plugin's fault */
#define KM_ERROR_USER 3      /* an option, a file or data that the user gave */
#define KM_ERROR_SYSTEM 4    /* memory, disk, network, driver */
#define KM_UNSUPPORTED 5     /* no fault: "not I, ask the next" */
#define KM_DEVICE_LOST 6     /* the device gives this to every later call */

/* ---- tensors --------------------------------------------------------------------------------------------------- */
#define KM_MAX_RANK 8
#define KM_MAX_INPUTS 16
#define KM_MAX_OUTPUTS 8

/* Element types. Values are never reused. */
#define KM_F32 1u
#define KM_BF16 2u
#define KM_F16 3u
#define KM_F64 4u
#define KM_I32 5u
#define KM_I64 6u
#define KM_U8 7u

static inline uint64_t km_dtype_bytes(uint32_t dtype) {
  switch (dtype) {
    case KM_F32: case KM_I32: return 4;
    case KM_BF16: case KM_F16: return 2;
    case KM_F64: case KM_I64: return 8;
    case KM_U8: return 1;
    default: return 0;
  }
}

/* The type and static shape of a tensor; the memory is given apart. Layout 0 is dense row-major ("rows"), the only one so far. */
typedef struct km_tensor {
  uint32_t dtype;
  uint32_t rank; /* 0 = one element */
  uint32_t layout;
  uint32_t reserved;
  int64_t dims[KM_MAX_RANK];
} km_tensor;

static inline int64_t km_elements(const km_tensor* t) {
  int64_t n = 1;
  for (uint32_t i = 0; i < t->rank; ++i) n *= t->dims[i];
  return n;
}
static inline uint64_t km_bytes(const km_tensor* t) { return (uint64_t)km_elements(t) * km_dtype_bytes(t->dtype); }

/* An address in a device's memory: opaque to all but the device that gave it; adding bytes to it is allowed.
 * On the host device it is the pointer. */
typedef uint64_t km_address;

/* ---- attributes of a node --------------------------------------------------------------------------------------- */
#define KM_ATTRIBUTE_I64 1u
#define KM_ATTRIBUTE_F64 2u
#define KM_ATTRIBUTE_STRING 3u
#define KM_ATTRIBUTE_I64_LIST 4u

typedef struct km_attribute {
  const char* name;
  uint32_t type;  /* KM_ATTRIBUTE_* */
  uint32_t count; /* of an i64 list */
  union {
    int64_t i64;
    double f64;
    const char* string;
    const int64_t* i64_list;
  } value;
} km_attribute;

/* An op with its shapes: what a kernels component is asked for, and what shape rules read. Valid during the call. */
typedef struct km_op {
  uint32_t struct_size;
  uint32_t n_inputs;
  uint32_t n_outputs;
  uint32_t n_attributes;
  const char* name; /* "matmul", "acme.fused_mlp": docs/ops.md has the built-in vocabulary */
  const km_tensor* inputs;
  const km_tensor* outputs;
  const km_attribute* attributes;
} km_op;

static inline int km_same_text(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}
static inline const km_attribute* km_find_attribute(const km_op* op, const char* name) {
  for (uint32_t i = 0; i < op->n_attributes; ++i)
    if (km_same_text(op->attributes[i].name, name)) return &op->attributes[i];
  return NULL;
}
static inline int64_t km_attribute_i64(const km_op* op, const char* name, int64_t otherwise) {
  const km_attribute* a = km_find_attribute(op, name);
  return a && a->type == KM_ATTRIBUTE_I64 ? a->value.i64 : otherwise;
}
static inline double km_attribute_f64(const km_op* op, const char* name, double otherwise) {
  const km_attribute* a = km_find_attribute(op, name);
  if (!a) return otherwise;
  return a->type == KM_ATTRIBUTE_F64 ? a->value.f64 : a->type == KM_ATTRIBUTE_I64 ? (double)a->value.i64 : otherwise;
}
static inline const char* km_attribute_string(const km_op* op, const char* name, const char* otherwise) {
  const km_attribute* a = km_find_attribute(op, name);
  return a && a->type == KM_ATTRIBUTE_STRING ? a->value.string : otherwise;
}

/* ---- options ----------------------------------------------------------------------------------------------------
 * A component declares its options; the core checks the user's TOML against them, says file, line and column of what is
 * wrong, fills in defaults, and hands over one value for each declared option, in the order of the declaration. */
#define KM_OPTION_I64 1u
#define KM_OPTION_F64 2u
#define KM_OPTION_STRING 3u
#define KM_OPTION_BOOL 4u        /* value in .i64, 0 or 1 */
#define KM_OPTION_PATH 5u        /* a string; made absolute by the core: relative to the file that names it */
#define KM_OPTION_I64_LIST 6u
#define KM_OPTION_STRING_LIST 7u

#define KM_OPTION_REQUIRED 1u    /* flag: there is no default */

/* One declared option. The array may be of a later, larger struct: the component says its stride (option_size). */
typedef struct km_option {
  const char* name;         /* snake_case */
  uint32_t type;            /* KM_OPTION_* */
  uint32_t flags;           /* KM_OPTION_REQUIRED */
  const char* default_text; /* as in TOML, without quotes for strings: "0.9", "true", "tanh"; NULL = absent (0, "", empty) */
  double minimum, maximum;  /* of numbers, both included; both 0 = no limit */
  const char* choices;      /* of strings: "gelu|silu"; NULL = any */
  const char* help;         /* one line; shown by `kumiki plugin info`, printed into docs/configuration.md */
} km_option;

typedef struct km_option_value {
  const char* name;
  uint32_t type;  /* as declared */
  uint32_t given; /* 1: the user wrote it, 0: the default */
  int64_t i64;    /* of KM_OPTION_I64, KM_OPTION_BOOL */
  double f64;     /* of KM_OPTION_F64 (and of I64, converted) */
  const char* string; /* of STRING, PATH; "" if absent */
  uint32_t count;     /* of lists */
  uint32_t reserved;
  const int64_t* i64_list;
  const char* const* string_list;
} km_option_value;

/* Valid during the call that passes it. */
typedef struct km_options {
  uint32_t struct_size;
  uint32_t count;
  const km_option_value* values;
} km_options;

static inline const km_option_value* km_find_option(const km_options* options, const char* name) {
  for (uint32_t i = 0; i < options->count; ++i)
    if (km_same_text(options->values[i].name, name)) return &options->values[i];
  return NULL;
}
static inline int64_t km_option_i64(const km_options* options, const char* name) {
  const km_option_value* v = km_find_option(options, name);
  return v ? v->i64 : 0;
}
static inline double km_option_f64(const km_options* options, const char* name) {
  const km_option_value* v = km_find_option(options, name);
  return v ? v->f64 : 0.0;
}
static inline const char* km_option_string(const km_options* options, const char* name) {
  const km_option_value* v = km_find_option(options, name);
  return v && v->string ? v->string : "";
}

/* ---- host ------------------------------------------------------------------------------------------------------- */
#define KM_LOG_DEBUG 1u
#define KM_LOG_INFO 2u
#define KM_LOG_WARNING 3u
#define KM_LOG_ERROR 4u

#if defined(__GNUC__)
#define KM_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#define KM_EXPORT __attribute__((visibility("default")))
#else
#define KM_PRINTF(format_index, first)
#define KM_EXPORT
#endif

/* What the core offers to a plugin. One for each rank of the process: a component keeps the one that its open() got and
 * passes it back. Lives until the component is closed. All functions [any]. */
typedef struct km_host km_host;
struct km_host {
  uint32_t struct_size;
  uint32_t abi_major;
  uint32_t minor_lowest;  /* the host speaks these minor versions, both included; 0 is refused */
  uint32_t minor_highest;
  /* Hands over the text of an error (printf's format) and returns `code`: `return host->fail(host, KM_ERROR_USER, "…", …);`
   * Say what, where and what to do. The text is copied; it belongs to the calling thread until its next fail. */
  km_status (*fail)(const km_host* host, km_status code, const char* format, ...) KM_PRINTF(3, 4);
  /* One line for the log, without newline. */
  void (*log)(const km_host* host, uint32_t level, const char* text);
  /* Host memory; alignment is a power of two. NULL when there is none. */
  void* (*allocate)(const km_host* host, uint64_t bytes, uint64_t alignment);
  void (*release)(const km_host* host, void* memory);
  /* A service of the core by id ("kumiki.graph/1", "kumiki.parallel/1"), or NULL. A static table. */
  const void* (*service)(const km_host* host, const char* id);
};

#ifdef __cplusplus
}
#endif
#endif
