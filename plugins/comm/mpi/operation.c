/* operation.c: one message from start to done.
 *
 *   start ─→ CHECKED ─→ RUNNING ─→ REDUCING ─→ SPREADING ─→ DELAYED ─→ done
 *
 * CHECKED with `check` only, REDUCING and SPREADING for what exchange.c does, DELAYED with `latency`. From each a fault
 * leads to FAILED, which ends in an error.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "comm_mpi.h"

static void* pointer(km_address address) { return (void*)(uintptr_t)address; }

void operation_fail(operation* op, km_status error, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(op->text, sizeof op->text, format, arguments);
  va_end(arguments);
  op->error = error;
  op->stage = FAILED;
  active_remove(op);
}

static void fail_mpi(operation* op, int error) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(error, text, &length);
  uint64_t record[RECORD_WORDS];
  char call[160];
  message_record(op->message, op->group->size, record);
  record_text(record, call, sizeof call);
  operation_fail(op, KM_ERROR_SYSTEM, "%s failed: %.500s", call, text);
}

/* all_reduce, broadcast, send and recv go in pieces of what an int can count; an empty send is sent, too. */
static int begin_in_pieces(operation* op) {
  const km_message* message = op->message;
  MPI_Comm comm = op->group->comm;
  MPI_Datatype type = datatype_of(message->dtype);
  const uint64_t width = km_dtype_bytes(message->dtype);
  char *input = pointer(message->input), *output = pointer(message->output);
  const MPI_Op reduction = message->reduce == KM_REDUCE_MAX ? op->group->owner->max[message->dtype] : MPI_SUM;
  const int root = message->op == KM_COMM_BROADCAST && (uint32_t)message->peer == op->group->me;
  uint64_t at = 0;
  do {
    uint64_t left = message->count - at;
    int n = (int)(left < COMM_MPI_PIECE ? left : COMM_MPI_PIECE), error = MPI_SUCCESS;
    char *in = input + at * width, *out = output + at * width;
    MPI_Request* request = operation_request(op);
    if (!request) return MPI_ERR_NO_MEM;
    switch (message->op) {
      case KM_COMM_ALL_REDUCE:
        error = MPI_Iallreduce(in == out ? MPI_IN_PLACE : in, out, n, type, reduction, comm, request);
        break;
      case KM_COMM_BROADCAST: error = MPI_Ibcast(root ? in : out, n, type, message->peer, comm, request); break;
      case KM_COMM_SEND: error = MPI_Isend(in, n, type, message->peer, message->tag, comm, request); break;
      default: error = MPI_Irecv(out, n, type, message->peer, message->tag, comm, request); break;
    }
    if (error != MPI_SUCCESS) return error;
    at += (uint64_t)n;
  } while (at < message->count);
  if (root && input != output && message->count) memcpy(output, input, message->count * width);
  return MPI_SUCCESS;
}

static int begin_all_gather(operation* op) {
  const km_message* message = op->message;
  const void* input = pointer(message->input);
  MPI_Request* request = operation_request(op);
  if (!request) return MPI_ERR_NO_MEM;
  if (message->outer > 1) {
    const uint64_t row = message_row(message, op->group->size);
    op->rows = staging_take(op->group, row * message->outer * km_dtype_bytes(message->dtype));
    if (!op->rows) return MPI_ERR_NO_MEM;
  }
  void* output = op->rows ? op->rows->memory : pointer(message->output);
  MPI_Datatype type = datatype_of(message->dtype);
  if (!message->counts) {
    int n = (int)(message->count * message->outer);
    return MPI_Iallgather(input, n, type, output, n, type, op->group->comm, request);
  }
  int offset = 0; /* all rows of a part together */
  for (uint32_t m = 0; m < op->group->size; ++m) {
    op->counts[m] = (int)(message->counts[m] * message->outer);
    op->offsets[m] = offset;
    offset += op->counts[m];
  }
  return MPI_Iallgatherv(input, op->counts[op->group->me], type, output, op->counts, op->offsets, type, op->group->comm,
                         request);
}

static int begin_all_to_all(operation* op) {
  const km_message* message = op->message;
  const int n = (int)message->count;
  MPI_Datatype type = datatype_of(message->dtype);
  MPI_Request* request = operation_request(op);
  if (!request) return MPI_ERR_NO_MEM;
  return MPI_Ialltoall(pointer(message->input), n, type, pointer(message->output), n, type, op->group->comm, request);
}

/* Of one member: no MPI. */
static void copy_own(const km_message* message) {
  uint64_t bytes = message_part(message, 0) * message->outer * km_dtype_bytes(message->dtype);
  if (bytes && message->input != message->output) memcpy(pointer(message->output), pointer(message->input), bytes);
}

void operation_begin(operation* op) {
  const km_message* message = op->message;
  const km_group* group = op->group;
  int error = MPI_SUCCESS;
  op->stage = RUNNING;
  if (message_is_collective(message)) {
    if (group->size == 1) {
      copy_own(message);
      return;
    }
    if (message_row(message, group->size) * message->outer == 0) return;
  }
  if (exchanges(message, group->size)) {
    error = exchange_begin(op);
    if (error == MPI_SUCCESS) active_add(op);
  } else if (message->op == KM_COMM_ALL_GATHER) {
    error = begin_all_gather(op);
  } else if (message->op == KM_COMM_ALL_TO_ALL) {
    error = begin_all_to_all(op);
  } else {
    error = begin_in_pieces(op);
  }
  if (error != MPI_SUCCESS) fail_mpi(op, error);
}

km_status operation_start(comm_rank* owner, const km_message* message, uint64_t* request) {
  km_group* group = message->group;
  const char* fault = message_fault(message, group->size);
  if (fault) {
    return owner->host->fail(owner->host, KM_ERROR_HOST,
                             "comm mpi: rank %d starts an operation that cannot be (op %u): %s", owner->rank,
                             message->op, fault);
  }
  operation* op = operation_take(group);
  if (!op) return owner->host->fail(owner->host, KM_ERROR_SYSTEM, "comm mpi: no memory for an operation");
  op->message = message;
  const int collective = message_is_collective(message);
  op->number = collective ? group->collectives++ : 0;
  if (collective && group->check_comm != MPI_COMM_NULL) {
    km_status status = check_start(op);
    if (status != KM_OK) {
      operation_release(op);
      return status;
    }
  } else {
    operation_begin(op);
  }
  *request = (uint64_t)(uintptr_t)op;
  return KM_OK;
}

/* A recv that brought less than it asked for is a fault of the sender's or of the receiver's count. */
static void check_received(operation* op) {
  uint64_t received = 0;
  for (int i = 0; i < op->request_count; ++i) {
    int n = 0;
    MPI_Get_count(&op->statuses[i], datatype_of(op->message->dtype), &n);
    received += n > 0 ? (uint64_t)n : 0;
  }
  if (received == op->message->count) return;
  operation_fail(op, KM_ERROR_HOST, "rank %u sent %llu elements where rank %d receives %llu (tag %d)",
                 op->group->ranks[op->message->peer], (unsigned long long)received, op->group->owner->rank,
                 (unsigned long long)op->message->count, op->message->tag);
}

/* True once MPI is done with the operation's requests, well or not. */
static int have_ended(operation* op) {
  int ended = 0;
  int error = MPI_Testall(op->request_count, op->requests, &ended, op->statuses);
  for (int i = 0; error == MPI_ERR_IN_STATUS && i < op->request_count; ++i) {
    int each = op->statuses[i].MPI_ERROR;
    if (each != MPI_SUCCESS && each != MPI_ERR_PENDING) error = each;
  }
  if (error != MPI_SUCCESS) fail_mpi(op, error);
  return ended || error != MPI_SUCCESS;
}

static void delay(operation* op) {
  op->stage = DELAYED;
  active_remove(op);
  op->end = op->group->owner->latency > 0 ? MPI_Wtime() + op->group->owner->latency : 0;
}

/* From one stage to the next, as far as it goes without waiting. */
static void advance(operation* op) {
  if (op->stage == RUNNING && have_ended(op) && op->stage == RUNNING) {
    op->stage = DELAYED;
    if (op->message->op == KM_COMM_RECV) check_received(op);
    if (op->rows && op->message->op == KM_COMM_ALL_GATHER) {
      parts_to_rows(op->message, op->group->size, op->rows->memory, pointer(op->message->output));
    }
    if (op->parts) op->stage = REDUCING;
    if (op->stage == DELAYED) delay(op);
  }
  if (op->stage == REDUCING && exchange_reduce(op)) {
    op->stage = SPREADING;
    int error = exchange_spread(op);
    if (error != MPI_SUCCESS) fail_mpi(op, error);
  }
  if (op->stage == SPREADING && have_ended(op) && op->stage == SPREADING) delay(op);
}

/* What MPI does by itself goes on with every call; what needs a step of ours goes on here, also where the core asks for one
 * operation only, and each rank for another. */
static void advance_others(comm_rank* owner, const operation* op) {
  if (owner->check) {
    for (km_group* group = owner->groups; group; group = group->next) check_advance(group);
  }
  operation* other = owner->first_active;
  if (!other) return;
  active_remove(other); /* it goes to the end: each has its turn */
  active_add(other);
  if (other != op) advance(other);
}

km_status operation_test(operation* op, uint32_t* done) {
  comm_rank* owner = op->group->owner;
  *done = 0;
  check_advance(op->group);
  advance(op);
  if (op->stage == FAILED) {
    km_status error = op->error;
    owner->host->fail(owner->host, error, "comm mpi: %s", op->text);
    operation_release(op);
    return error;
  }
  if (op->stage != DELAYED || (owner->latency > 0 && MPI_Wtime() < op->end)) {
    advance_others(owner, op);
    return KM_OK;
  }
  operation_release(op);
  *done = 1;
  return KM_OK;
}
