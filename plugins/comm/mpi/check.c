/* check.c: with check = true, members tell each other what they call before each collective. The exchange is a collective
 * of its own on a communicator of its own; the real ones begin in their order, as MPI asks. */
#include <stdio.h>
#include <string.h>

#include "comm_mpi.h"

km_status check_start(operation* op) {
  km_group* group = op->group;
  message_record(op->message, group->size, op->record);
  int error = MPI_Iallgather(op->record, RECORD_WORDS, MPI_UINT64_T, op->records, RECORD_WORDS, MPI_UINT64_T,
                             group->check_comm, &op->check_request);
  if (error != MPI_SUCCESS) return mpi_failed(group->owner, "comparing a collective with other ranks", error);
  op->stage = CHECKED;
  if (group->last_checked) {
    group->last_checked->next = op;
  } else {
    group->first_checked = op;
  }
  group->last_checked = op;
  return KM_OK;
}

static int agree(const operation* op, uint32_t a, uint32_t b) {
  const uint64_t* records = op->records;
  return memcmp(records + a * RECORD_WORDS, records + b * RECORD_WORDS, RECORD_WORDS * sizeof *records) == 0;
}

static uint32_t members_like(const operation* op, uint32_t m) {
  uint32_t like = 0;
  for (uint32_t other = 0; other < op->group->size; ++other) like += (uint32_t)agree(op, m, other);
  return like;
}

/* Appends as far as there is room. */
static void append(char* text, uint64_t bytes, const char* more) {
  uint64_t used = strlen(text);
  snprintf(text + used, bytes - used, "%s", more);
}

/* The member that calls what most do: by majority vote (Boyer and Moore); the first where there is no majority. */
static uint32_t usual_member(const operation* op) {
  uint32_t candidate = 0, votes = 0;
  for (uint32_t m = 0; m < op->group->size; ++m) {
    if (votes == 0) candidate = m;
    votes = agree(op, candidate, m) ? votes + 1 : votes - 1;
  }
  return members_like(op, candidate) > members_like(op, 0) ? candidate : 0;
}

/* Names the ranks that do not call what most do. */
static void fail_difference(operation* op) {
  const km_group* group = op->group;
  const uint32_t usual = usual_member(op);
  uint32_t named = 0;
  char differs[512] = "", call[160], line[224];
  for (uint32_t m = 0; m < group->size; ++m) {
    if (agree(op, usual, m) || ++named > 3) continue;
    record_text(op->records + m * RECORD_WORDS, call, sizeof call);
    snprintf(line, sizeof line, "%srank %u calls %s", named > 1 ? ", " : "", group->ranks[m], call);
    append(differs, sizeof differs, line);
  }
  if (named > 3) {
    snprintf(line, sizeof line, " and %u more differ", named - 3);
    append(differs, sizeof differs, line);
  }
  record_text(op->records + usual * RECORD_WORDS, call, sizeof call);
  operation_fail(op, KM_ERROR_HOST,
                 "collective %llu of the group of ranks %u … %u (%u) differs: %s, where rank %u calls %s",
                 (unsigned long long)op->number, group->ranks[0], group->ranks[group->size - 1], group->size, differs,
                 group->ranks[usual], call);
}

void check_advance(km_group* group) {
  while (group->first_checked) {
    operation* op = group->first_checked;
    int arrived = 0;
    int error = MPI_Test(&op->check_request, &arrived, MPI_STATUS_IGNORE);
    if (error == MPI_SUCCESS && !arrived) return;
    group->first_checked = op->next;
    if (!group->first_checked) group->last_checked = NULL;
    op->next = NULL;
    if (error != MPI_SUCCESS) {
      operation_fail(op, KM_ERROR_SYSTEM, "comparing collective %llu with other ranks failed (MPI error %d)",
                     (unsigned long long)op->number, error);
    } else if (members_like(op, 0) == group->size) {
      operation_begin(op);
    } else {
      fail_difference(op);
    }
  }
}
