/* operation.c: one message from start to done.
 *
 *   start ─→ CHECKED ─→ RUNNING ─→ DELAYED ─→ done      CHECKED only with `check`, DELAYED only with `latency`;
 *                │          │                           FAILED ends in an error
 *                └──────────┴─────→ FAILED
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

static MPI_Op reduction(const operation* op) {
  const comm_rank* owner = op->group->owner;
  return (op->message->reduce == KM_REDUCE_SUM ? owner->sum : owner->max)[op->message->dtype];
}

/* all_reduce, broadcast, send and recv go in pieces of what an int can count; an empty send is sent, too. */
static int begin_in_pieces(operation* op) {
  const km_message* message = op->message;
  MPI_Comm comm = op->group->comm;
  MPI_Datatype type = datatype_of(message->dtype);
  const uint64_t width = km_dtype_bytes(message->dtype);
  char *input = pointer(message->input), *output = pointer(message->output);
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
        error = MPI_Iallreduce(in == out ? MPI_IN_PLACE : in, out, n, type, reduction(op), comm, request);
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

/* Sets the members' counts, with all rows together. */
static void count_parts(operation* op) {
  int offset = 0;
  for (uint32_t m = 0; m < op->group->size; ++m) {
    op->counts[m] = (int)(message_part(op->message, m) * op->message->outer);
    op->offsets[m] = offset;
    offset += op->counts[m];
  }
}

static int begin_reduce_scatter(operation* op, MPI_Request* request) {
  const km_message* message = op->message;
  const void* input = pointer(message->input);
  if (op->rows) {
    rows_to_parts(message, op->group->size, input, op->rows->memory);
    input = op->rows->memory;
  }
  MPI_Datatype type = datatype_of(message->dtype);
  if (!message->counts) {
    return MPI_Ireduce_scatter_block(input, pointer(message->output), (int)(message->count * message->outer), type,
                                     reduction(op), op->group->comm, request);
  }
  count_parts(op);
  return MPI_Ireduce_scatter(input, pointer(message->output), op->counts, type, reduction(op), op->group->comm,
                             request);
}

static int begin_all_gather(operation* op, MPI_Request* request) {
  const km_message* message = op->message;
  const void* input = pointer(message->input);
  void* output = op->rows ? op->rows->memory : pointer(message->output);
  MPI_Datatype type = datatype_of(message->dtype);
  if (!message->counts) {
    int n = (int)(message->count * message->outer);
    return MPI_Iallgather(input, n, type, output, n, type, op->group->comm, request);
  }
  count_parts(op);
  return MPI_Iallgatherv(input, op->counts[op->group->me], type, output, op->counts, op->offsets, type, op->group->comm,
                         request);
}

/* Of one member, or of nothing: no MPI. */
static void copy_own(const km_message* message) {
  uint64_t bytes = message_part(message, 0) * message->outer * km_dtype_bytes(message->dtype);
  if (bytes && message->input != message->output) memcpy(pointer(message->output), pointer(message->input), bytes);
}

void operation_begin(operation* op) {
  const km_message* message = op->message;
  km_group* group = op->group;
  int error = MPI_SUCCESS;
  op->stage = RUNNING;
  if (message_is_collective(message)) {
    if (group->size == 1) {
      copy_own(message);
      return;
    }
    if (message_row(message, group->size) * message->outer == 0) return;
  }
  const int gathers = message->op == KM_COMM_ALL_GATHER, scatters = message->op == KM_COMM_REDUCE_SCATTER;
  if ((gathers || scatters) && message->outer > 1) {
    uint64_t bytes = message_row(message, group->size) * message->outer * km_dtype_bytes(message->dtype);
    op->rows = staging_take(group, bytes);
    if (!op->rows) {
      operation_fail(op, KM_ERROR_SYSTEM, "no memory for %llu bytes of rows", (unsigned long long)bytes);
      return;
    }
  }
  if (gathers || scatters || message->op == KM_COMM_ALL_TO_ALL) {
    MPI_Datatype type = datatype_of(message->dtype);
    MPI_Request* request = operation_request(op);
    error = !request   ? MPI_ERR_NO_MEM
            : scatters ? begin_reduce_scatter(op, request)
            : gathers  ? begin_all_gather(op, request)
                       : MPI_Ialltoall(pointer(message->input), (int)message->count, type, pointer(message->output),
                                       (int)message->count, type, group->comm, request);
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

/* True once MPI is done with it, well or not. */
static int has_ended(operation* op) {
  int ended = 0;
  int error = MPI_Testall(op->request_count, op->requests, &ended, op->statuses);
  if (error != MPI_SUCCESS) {
    for (int i = 0; error == MPI_ERR_IN_STATUS && i < op->request_count; ++i) {
      int each = op->statuses[i].MPI_ERROR;
      if (each != MPI_SUCCESS && each != MPI_ERR_PENDING) error = each;
    }
    fail_mpi(op, error);
    return 1;
  }
  if (!ended) return 0;
  if (op->message->op == KM_COMM_RECV) check_received(op);
  return 1;
}

km_status operation_test(operation* op, uint32_t* done) {
  const comm_rank* owner = op->group->owner;
  *done = 0;
  check_advance(op->group);
  if (op->stage == CHECKED) return KM_OK;
  if (op->stage == RUNNING) {
    if (!has_ended(op)) return KM_OK;
    if (op->stage == RUNNING) {
      if (op->rows && op->message->op == KM_COMM_ALL_GATHER) {
        parts_to_rows(op->message, op->group->size, op->rows->memory, pointer(op->message->output));
      }
      op->stage = DELAYED;
      op->end = owner->latency > 0 ? MPI_Wtime() + owner->latency : 0;
    }
  }
  if (op->stage == FAILED) {
    km_status error = op->error;
    owner->host->fail(owner->host, error, "comm mpi: %s", op->text);
    operation_release(op);
    return error;
  }
  if (owner->latency > 0 && MPI_Wtime() < op->end) return KM_OK;
  operation_release(op);
  *done = 1;
  return KM_OK;
}
