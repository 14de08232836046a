/* kernel.c: from a row of the table to a kernel: what all ops have in common. */
#include <stdalign.h>

#include "reference.h"

struct reference_kernel {
  const km_host* host;
  const reference_op* row;
  km_op op; /* points into the rest of this allocation */
};

const reference_op* reference_find(const char* name) {
  for (const reference_op* row = reference_table; row->name; ++row)
    if (km_same_text(row->name, name)) return row;
  return NULL;
}

km_status reference_refuse(const km_host* host, const km_op* op, const char* reason) {
  return host->fail(host, KM_UNSUPPORTED, "reference: %s: %s", op->name, reason);
}

static uint32_t count_bits(int64_t mask) {
  uint32_t n = 0;
  for (; mask; mask &= mask - 1) ++n;
  return n;
}

km_status reference_check_counts(const km_host* host, const km_op* op, km_support* support, uint32_t inputs,
                                 uint32_t outputs, int64_t may_accumulate) {
  int64_t mask = km_attribute_i64(op, "accumulate", 0);
  REFERENCE_REQUIRE((mask & ~may_accumulate) == 0, "accumulate names an output that cannot be added to");
  uint32_t addend = inputs;
  REFERENCE_REQUIRE(op->n_inputs == inputs + count_bits(mask), "wrong number of inputs");
  REFERENCE_REQUIRE(op->n_outputs == outputs, "wrong number of outputs");
  for (uint32_t o = 0; o < outputs; ++o) {
    if (!(mask >> o & 1)) continue;
    REFERENCE_REQUIRE(reference_same(&op->inputs[addend], &op->outputs[o]), "an addend differs from its output");
    support->in_place[o] |= 1u << addend++;
  }
  if (mask) support->flags |= KM_SUPPORT_ADDEND_APART;
  return KM_OK;
}

const void* reference_addend(const reference_call* call, uint32_t output) {
  int64_t mask = km_attribute_i64(call->op, "accumulate", 0);
  if (!(mask >> output & 1)) return NULL;
  uint32_t first = call->op->n_inputs - count_bits(mask);
  return call->in[first + count_bits(mask & ((INT64_C(1) << output) - 1))];
}

km_status reference_query(const km_host* host, const km_request* request, km_support* support) {
  const km_op* op = request->op;
  const reference_op* row = reference_find(op->name);
  if (!row) return host->fail(host, KM_UNSUPPORTED, "reference: no op '%s' in docs/ops.md", op->name);
  for (uint32_t i = 0; i < op->n_inputs; ++i)
    REFERENCE_REQUIRE(op->inputs[i].layout == 0, "only the row layout is read");
  for (uint32_t i = 0; i < op->n_outputs; ++i)
    REFERENCE_REQUIRE(op->outputs[i].layout == 0, "only the row layout is written");
  return row->check(host, op, support);
}

/* ---- a copy of an op in one allocation -------------------------------------------------------------------------- */

/* With base NULL only counts; so one walk gives both the size and the copy. */
typedef struct arena {
  char* base;
  uint64_t used;
} arena;

static void* take(arena* a, const void* from, uint64_t bytes) {
  void* to = a->base ? a->base + a->used : NULL;
  if (to && bytes) memcpy(to, from, bytes);
  a->used += (bytes + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
  return to;
}

static void copy_op(arena* a, const km_op* op, km_op* copy) {
  copy->struct_size = sizeof(km_op);
  copy->n_inputs = op->n_inputs;
  copy->n_outputs = op->n_outputs;
  copy->n_attributes = op->n_attributes;
  copy->name = take(a, op->name, strlen(op->name) + 1);
  copy->inputs = take(a, op->inputs, op->n_inputs * sizeof(km_tensor));
  copy->outputs = take(a, op->outputs, op->n_outputs * sizeof(km_tensor));
  km_attribute* attributes = take(a, op->attributes, op->n_attributes * sizeof(km_attribute));
  copy->attributes = attributes;
  for (uint32_t i = 0; i < op->n_attributes; ++i) {
    const km_attribute* from = &op->attributes[i];
    const char* name = take(a, from->name, strlen(from->name) + 1);
    const void* body = NULL;
    if (from->type == KM_ATTRIBUTE_STRING) body = take(a, from->value.string, strlen(from->value.string) + 1);
    if (from->type == KM_ATTRIBUTE_I64_LIST) body = take(a, from->value.i64_list, from->count * sizeof(int64_t));
    if (!attributes) continue;
    attributes[i].name = name;
    if (from->type == KM_ATTRIBUTE_STRING) attributes[i].value.string = body;
    if (from->type == KM_ATTRIBUTE_I64_LIST) attributes[i].value.i64_list = body;
  }
}

km_status reference_create(const km_host* host, const km_request* request, reference_kernel** kernel) {
  km_support support = {.struct_size = sizeof(km_support)};
  REFERENCE_TRY(reference_query(host, request, &support));
  reference_kernel made = {.host = host, .row = reference_find(request->op->name)};
  arena size = {0};
  take(&size, &made, sizeof made);
  copy_op(&size, request->op, &made.op);
  arena memory = {.base = host->allocate(host, size.used, 64)};
  if (!memory.base)
    return host->fail(host, KM_ERROR_SYSTEM, "reference: no memory for a kernel of %s (%llu bytes)", request->op->name,
                      (unsigned long long)size.used);
  reference_kernel* k = take(&memory, &made, sizeof made);
  copy_op(&memory, request->op, &k->op);
  *kernel = k;
  return KM_OK;
}

void reference_destroy(reference_kernel* kernel) {
  if (kernel) kernel->host->release(kernel->host, kernel);
}

uint32_t reference_buffers(const reference_kernel* kernel) { return kernel->op.n_inputs + kernel->op.n_outputs; }

km_status reference_run(const reference_kernel* kernel, void* const* buffers, void* workspace) {
  const void* in[KM_MAX_INPUTS];
  for (uint32_t i = 0; i < kernel->op.n_inputs; ++i) in[i] = buffers[i];
  reference_call call = {kernel->host, &kernel->op, in, buffers + kernel->op.n_inputs, workspace};
  return kernel->row->run(&call);
}
