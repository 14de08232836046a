/* exchange.c: reduce_scatter, and all_reduce of bf16, f16 and whatever is large, by messages between members and a
 * reduction made here.
 *
 * Each member sends every other its part, reduces its own from all, and (all_reduce) sends the outcome to all: 1 or 2 times
 * (members - 1) / members of the buffer per member, the least there is, in 1 or 2 steps. MPI's own nonblocking reductions go
 * in rings, whose many steps each wait for the next poll, or (reduce_scatter of libnbc, which Open MPI 4 uses) send all to
 * one member first; and they round bf16 after each addition. Here it is rounded once, and the order of additions is that of
 * the ranks whatever the library does. */
#include <stddef.h>

#include "comm_mpi.h"

/* Below this (bytes of all members' buffers) an all_reduce gathers all of them everywhere: one step instead of two. */
#define SMALL_BYTES (64u << 10)
/* What is read in one call: about a millisecond. */
#define BYTES_AT_A_TIME (4u << 20)

static void* pointer(km_address address) { return (void*)(uintptr_t)address; }

/* Parts from this size on are worth the messages; below, a reduction of MPI has fewer. */
#define PART_BYTES (4u << 10)

int exchanges(const km_message* message, uint32_t members) {
  if (message->op == KM_COMM_REDUCE_SCATTER) return 1;
  if (message->op != KM_COMM_ALL_REDUCE) return 0;
  const int narrow = message->dtype == KM_BF16 || message->dtype == KM_F16;
  if (narrow && message->reduce == KM_REDUCE_SUM) return 1; /* MPI would round it again and again */
  return message->count / members * km_dtype_bytes(message->dtype) >= PART_BYTES;
}

static int gathers_all(const operation* op) {
  const km_message* message = op->message;
  return message->op == KM_COMM_ALL_REDUCE &&
         message->count * op->group->size * km_dtype_bytes(message->dtype) <= SMALL_BYTES;
}

/* Where the members' parts begin: all_reduce cuts its buffer into parts that differ by one element at most. */
static void set_begins(operation* op) {
  const km_message* message = op->message;
  const uint32_t members = op->group->size;
  const uint64_t each = message->count / members, more = message->count % members;
  op->begins[0] = 0;
  for (uint32_t m = 0; m < members; ++m) {
    const uint64_t part =
        message->op == KM_COMM_ALL_REDUCE ? each + (m < more) : message_part(message, m) * message->outer;
    op->begins[m + 1] = op->begins[m] + part;
  }
}

static uint64_t own_elements(const operation* op) {
  if (gathers_all(op)) return op->message->count;
  return op->begins[op->group->me + 1] - op->begins[op->group->me];
}

/* Where the reduction of the own part goes. */
static char* own_output(const operation* op) {
  char* output = pointer(op->message->output);
  if (op->message->op != KM_COMM_ALL_REDUCE || gathers_all(op)) return output;
  return output + op->begins[op->group->me] * km_dtype_bytes(op->message->dtype);
}

/* The tag of a step, 0 or 1, of this collective: no two that are under way have the same. */
static int tag_of(const operation* op, int step) { return (int)((2 * op->number + (uint64_t)step) % 32768); }

static int send_to(operation* op, uint32_t m, const char* from, uint64_t elements, int step) {
  if (elements == 0) return MPI_SUCCESS;
  MPI_Request* request = operation_request(op);
  if (!request) return MPI_ERR_NO_MEM;
  return MPI_Isend(from, (int)elements, datatype_of(op->message->dtype), (int)m, tag_of(op, step),
                   op->group->exchange_comm, request);
}

static int recv_from(operation* op, uint32_t m, char* to, uint64_t elements, int step) {
  if (elements == 0) return MPI_SUCCESS;
  MPI_Request* request = operation_request(op);
  if (!request) return MPI_ERR_NO_MEM;
  return MPI_Irecv(to, (int)elements, datatype_of(op->message->dtype), (int)m, tag_of(op, step),
                   op->group->exchange_comm, request);
}

int exchange_begin(operation* op) {
  const km_message* message = op->message;
  km_group* group = op->group;
  const uint32_t n = group->size, me = group->me;
  set_begins(op);
  const uint64_t width = km_dtype_bytes(message->dtype), own = own_elements(op);
  const char* input = pointer(message->input);
  if (message->outer > 1) {
    op->rows = staging_take(group, op->begins[n] * width);
    if (!op->rows) return MPI_ERR_NO_MEM;
    rows_to_parts(message, n, input, op->rows->memory);
    input = op->rows->memory;
  }
  op->parts = staging_take(group, n * own * width + 1);
  if (!op->parts) return MPI_ERR_NO_MEM;
  char* parts = op->parts->memory;
  const int whole = gathers_all(op);
  /* Each begins with its right neighbour, so that not all send to the same one at first. */
  for (uint32_t i = 1; i < n; ++i) {
    const uint32_t from = (me + n - i) % n;
    int error = recv_from(op, from, parts + from * own * width, own, 0);
    if (error != MPI_SUCCESS) return error;
    op->sources[from] = parts + from * own * width;
  }
  for (uint32_t i = 1; i < n; ++i) {
    const uint32_t to = (me + i) % n;
    const uint64_t begin = whole ? 0 : op->begins[to], end = whole ? own : op->begins[to + 1];
    int error = send_to(op, to, input + begin * width, end - begin, 0);
    if (error != MPI_SUCCESS) return error;
  }
  op->sources[me] = input + (whole ? 0 : op->begins[me]) * width;
  return MPI_SUCCESS;
}

void active_add(operation* op) {
  comm_rank* owner = op->group->owner;
  op->active = 1;
  op->active_after = NULL;
  op->active_before = owner->last_active;
  *(owner->last_active ? &owner->last_active->active_after : &owner->first_active) = op;
  owner->last_active = op;
}

void active_remove(operation* op) {
  comm_rank* owner = op->group->owner;
  if (!op->active) return;
  op->active = 0;
  *(op->active_before ? &op->active_before->active_after : &owner->first_active) = op->active_after;
  *(op->active_after ? &op->active_after->active_before : &owner->last_active) = op->active_before;
}

int exchange_reduce(operation* op) {
  const km_message* message = op->message;
  const uint64_t own = own_elements(op);
  uint64_t n = BYTES_AT_A_TIME / (km_dtype_bytes(message->dtype) * op->group->size) + 4096;
  if (n > own - op->reduced) n = own - op->reduced;
  reduce_members(message->dtype, message->reduce, op->sources, op->group->size, op->reduced, own_output(op), n);
  op->reduced += n;
  return op->reduced == own;
}

int exchange_spread(operation* op) {
  const uint32_t n = op->group->size, me = op->group->me;
  const uint64_t width = km_dtype_bytes(op->message->dtype), own = own_elements(op);
  op->request_count = 0;
  if (op->message->op != KM_COMM_ALL_REDUCE || gathers_all(op)) return MPI_SUCCESS;
  for (uint32_t i = 1; i < n; ++i) {
    const uint32_t to = (me + i) % n, from = (me + n - i) % n;
    const uint64_t begin = op->begins[from];
    char* output = pointer(op->message->output);
    int error = recv_from(op, from, output + begin * width, op->begins[from + 1] - begin, 1);
    if (error == MPI_SUCCESS) error = send_to(op, to, own_output(op), own, 1);
    if (error != MPI_SUCCESS) return error;
  }
  return MPI_SUCCESS;
}
