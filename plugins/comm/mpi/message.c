/* message.c: what can be said and done about a message without MPI. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "comm_mpi.h"

static const char* const kOps[] = {"no op",      "all_reduce", "reduce_scatter", "all_gather",
                                   "all_to_all", "broadcast",  "send",           "recv"};
static const char* const kDtypes[] = {"no dtype", "f32", "bf16", "f16", "f64", "i32", "i64", "u8"};

static int reduces(uint64_t op) { return op == KM_COMM_ALL_REDUCE || op == KM_COMM_REDUCE_SCATTER; }
static int has_rows(uint64_t op) { return op == KM_COMM_REDUCE_SCATTER || op == KM_COMM_ALL_GATHER; }

uint64_t message_part(const km_message* message, uint32_t m) {
  return message->counts ? message->counts[m] : message->count;
}

uint64_t message_row(const km_message* message, uint32_t members) {
  if (!message->counts) return message->count * members;
  uint64_t sum = 0;
  for (uint32_t m = 0; m < members; ++m) sum += message->counts[m];
  return sum;
}

int message_is_collective(const km_message* message) {
  return message->op != KM_COMM_SEND && message->op != KM_COMM_RECV;
}

/* The largest number that MPI is to be told; the same for all members. What goes in pieces has no limit. */
static uint64_t largest_count(const km_message* message, uint32_t members) {
  switch (message->op) {
    case KM_COMM_ALL_REDUCE: return exchanges(message, members) ? message->count / members + 1 : 0;
    case KM_COMM_ALL_GATHER: return message_row(message, members) * message->outer;
    case KM_COMM_ALL_TO_ALL: return message->count * members;
    case KM_COMM_REDUCE_SCATTER: {
      uint64_t largest = 0;
      for (uint32_t m = 0; m < members; ++m) {
        const uint64_t part = message_part(message, m) * message->outer;
        if (part > largest) largest = part;
      }
      return largest;
    }
    default: return 0;
  }
}

const char* message_fault(const km_message* message, uint32_t members) {
  if (message->op < KM_COMM_ALL_REDUCE || message->op > KM_COMM_RECV) return "it has no such op";
  if (km_dtype_bytes(message->dtype) == 0) return "it has no such dtype";
  if (reduces(message->op)) {
    if (message->reduce != KM_REDUCE_SUM && message->reduce != KM_REDUCE_MAX) return "it has no such reduction";
    if (message->dtype == KM_U8) return "u8 is moved, not reduced";
  }
  if (message->op == KM_COMM_BROADCAST || !message_is_collective(message)) {
    if (message->peer < 0 || (uint32_t)message->peer >= members) return "its peer is no member of the group";
  }
  if (!message_is_collective(message) && (message->tag < 0 || message->tag > 32767)) {
    return "its tag is not in 0 … 32767";
  }
  if (!has_rows(message->op) && (message->outer != 1 || message->counts)) {
    return "only reduce_scatter and all_gather have rows or uneven parts";
  }
  if (largest_count(message, members) > INT_MAX) {
    return "MPI counts in int: it would have to count 2^31 elements or more; use smaller buckets";
  }
  return NULL;
}

void message_record(const km_message* message, uint32_t members, uint64_t record[RECORD_WORDS]) {
  record[RECORD_OP] = message->op;
  record[RECORD_DTYPE] = message->dtype;
  record[RECORD_REDUCE] = reduces(message->op) ? message->reduce : 0;
  record[RECORD_PEER] = message->op == KM_COMM_BROADCAST ? (uint64_t)message->peer : 0;
  record[RECORD_COUNT] = message_part(message, 0);
  record[RECORD_OUTER] = message->outer;
  record[RECORD_PARTS] = 0;
  int uneven = 0;
  uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
  for (uint32_t m = 0; has_rows(message->op) && m < members; ++m) {
    uint64_t part = message_part(message, m);
    uneven |= part != message_part(message, 0);
    for (int i = 0; i < 8; ++i) hash = (hash ^ (part >> 8 * i & 0xff)) * UINT64_C(0x100000001b3);
  }
  if (uneven) {
    record[RECORD_COUNT] = message_row(message, members);
    record[RECORD_PARTS] = hash;
  }
}

void record_text(const uint64_t record[RECORD_WORDS], char* text, uint64_t bytes) {
  char rows[40] = "", parts[48] = "", last[48] = "";
  if (record[RECORD_OUTER] != 1) snprintf(rows, sizeof rows, "%llu rows of ", (unsigned long long)record[RECORD_OUTER]);
  if (record[RECORD_PARTS]) {
    snprintf(parts, sizeof parts, " in uneven parts %08x", (unsigned)(record[RECORD_PARTS] & 0xffffffffu));
  }
  if (record[RECORD_REDUCE])
    snprintf(last, sizeof last, " (%s)", record[RECORD_REDUCE] == KM_REDUCE_SUM ? "sum" : "max");
  if (record[RECORD_OP] == KM_COMM_BROADCAST) {
    snprintf(last, sizeof last, " from member %llu", (unsigned long long)record[RECORD_PEER]);
  }
  snprintf(text, bytes, "%s of %s%llu %s%s%s", record[RECORD_OP] <= KM_COMM_RECV ? kOps[record[RECORD_OP]] : kOps[0],
           rows, (unsigned long long)record[RECORD_COUNT],
           record[RECORD_DTYPE] <= KM_U8 ? kDtypes[record[RECORD_DTYPE]] : kDtypes[0], parts, last);
}

void rows_to_parts(const km_message* message, uint32_t members, const void* rows, void* parts) {
  const uint64_t width = km_dtype_bytes(message->dtype);
  const char* from = (const char*)rows;
  uint64_t before = 0; /* elements of a row */
  for (uint64_t r = 0; r < message->outer; ++r, before = 0) {
    for (uint32_t m = 0; m < members; ++m) {
      uint64_t part = message_part(message, m);
      memcpy((char*)parts + (before * message->outer + r * part) * width, from, part * width);
      from += part * width;
      before += part;
    }
  }
}

void parts_to_rows(const km_message* message, uint32_t members, const void* parts, void* rows) {
  const uint64_t width = km_dtype_bytes(message->dtype);
  char* to = (char*)rows;
  uint64_t before = 0;
  for (uint64_t r = 0; r < message->outer; ++r, before = 0) {
    for (uint32_t m = 0; m < members; ++m) {
      uint64_t part = message_part(message, m);
      memcpy(to, (const char*)parts + (before * message->outer + r * part) * width, part * width);
      to += part * width;
      before += part;
    }
  }
}
