/* group.c: communicators of groups, and what they keep so that a steady run allocates nothing. */
#include <stdlib.h>
#include <string.h>

#include "comm_mpi.h"

static int create_communicator(km_group* group, int* ranks) {
  MPI_Group world, members;
  int error = MPI_Comm_group(MPI_COMM_WORLD, &world);
  if (error != MPI_SUCCESS) return error;
  error = MPI_Group_incl(world, (int)group->size, ranks, &members);
  if (error == MPI_SUCCESS) {
    /* Members make their groups in one common order: two under way at once have no member in common, so one tag will do. */
    error = MPI_Comm_create_group(MPI_COMM_WORLD, members, 0, &group->comm);
    MPI_Group_free(&members);
  }
  MPI_Group_free(&world);
  /* Communicators made from this one take its way of telling errors. */
  if (error == MPI_SUCCESS) error = MPI_Comm_set_errhandler(group->comm, MPI_ERRORS_RETURN);
  if (group->size == 1) return error;
  if (error == MPI_SUCCESS) error = MPI_Comm_dup(group->comm, &group->exchange_comm);
  if (error == MPI_SUCCESS && group->owner->check) error = MPI_Comm_dup(group->comm, &group->check_comm);
  return error;
}

km_status group_create(comm_rank* owner, const uint32_t* ranks, uint32_t n, km_group** group) {
  int mine = 0, rising = 1;
  for (uint32_t m = 0; m < n; ++m) {
    mine |= (int)ranks[m] == owner->rank;
    rising &= (int)ranks[m] < owner->size && (m == 0 || ranks[m - 1] < ranks[m]);
  }
  if (!mine || !rising) {
    return owner->host->fail(owner->host, KM_ERROR_HOST,
                             "comm mpi: the %u ranks of a group must rise, lie below %d and include the caller, %d", n,
                             owner->size, owner->rank);
  }
  km_group* made = calloc(1, sizeof *made);
  int* members = malloc(n * sizeof *members);
  if (made) made->ranks = malloc(n * sizeof *made->ranks);
  if (!made || !members || !made->ranks) {
    if (made) free(made->ranks);
    free(made);
    free(members);
    return owner->host->fail(owner->host, KM_ERROR_SYSTEM, "comm mpi: no memory for a group of %u ranks", n);
  }
  made->owner = owner;
  made->comm = made->exchange_comm = made->check_comm = MPI_COMM_NULL;
  made->size = n;
  for (uint32_t m = 0; m < n; ++m) {
    made->ranks[m] = ranks[m];
    members[m] = (int)ranks[m];
    if (members[m] == owner->rank) made->me = m;
  }
  int error = create_communicator(made, members);
  free(members);
  if (error != MPI_SUCCESS) {
    free(made->ranks);
    free(made);
    return mpi_failed(owner, "making a group", error);
  }
  if (owner->last_group) {
    owner->last_group->next = made;
  } else {
    owner->groups = made;
  }
  owner->last_group = made;
  *group = made;
  return KM_OK;
}

static void operation_free(operation* op) {
  free(op->requests);
  free(op->statuses);
  free(op->counts);
  free(op->sources);
  free(op->begins);
  free(op->records);
  free(op);
}

void group_free(km_group* group) {
  if (group->check_comm != MPI_COMM_NULL) MPI_Comm_free(&group->check_comm);
  if (group->exchange_comm != MPI_COMM_NULL) MPI_Comm_free(&group->exchange_comm);
  if (group->comm != MPI_COMM_NULL) MPI_Comm_free(&group->comm);
  while (group->all) {
    operation* op = group->all;
    group->all = op->older;
    operation_free(op);
  }
  while (group->free_staging) {
    staging* rows = group->free_staging;
    group->free_staging = rows->next;
    group->owner->host->release(group->owner->host, rows->memory);
    free(rows);
  }
  free(group->ranks);
  free(group);
}

operation* operation_take(km_group* group) {
  operation* op = group->free_operations;
  if (op) {
    group->free_operations = op->next;
  } else {
    op = calloc(1, sizeof *op);
    if (!op) return NULL;
    const int check = group->owner->check;
    op->counts = malloc(2 * group->size * sizeof *op->counts);
    op->sources = malloc(group->size * sizeof *op->sources);
    op->begins = malloc((group->size + 1) * sizeof *op->begins);
    op->records = check ? malloc(group->size * RECORD_WORDS * sizeof *op->records) : NULL;
    if (!op->counts || !op->sources || !op->begins || (check && !op->records)) {
      operation_free(op);
      return NULL;
    }
    op->offsets = op->counts + group->size;
    op->group = group;
    op->older = group->all;
    group->all = op;
  }
  op->next = NULL;
  op->request_count = 0;
  op->rows = op->parts = NULL;
  op->reduced = 0;
  op->check_request = MPI_REQUEST_NULL;
  return op;
}

static void keep(km_group* group, staging* memory) {
  if (!memory) return;
  memory->next = group->free_staging;
  group->free_staging = memory;
}

void operation_release(operation* op) {
  km_group* group = op->group;
  keep(group, op->rows);
  keep(group, op->parts);
  op->next = group->free_operations;
  group->free_operations = op;
}

MPI_Request* operation_request(operation* op) {
  if (op->request_count == op->request_capacity) {
    int capacity = op->request_capacity ? 2 * op->request_capacity : 1;
    MPI_Request* requests = realloc(op->requests, (size_t)capacity * sizeof *requests);
    if (!requests) return NULL;
    op->requests = requests;
    MPI_Status* statuses = realloc(op->statuses, (size_t)capacity * sizeof *statuses);
    if (!statuses) return NULL;
    op->statuses = statuses;
    op->request_capacity = capacity;
  }
  op->requests[op->request_count] = MPI_REQUEST_NULL;
  return &op->requests[op->request_count++];
}

staging* staging_take(km_group* group, uint64_t bytes) {
  const km_host* host = group->owner->host;
  /* The smallest that is large enough; else the largest is made larger. */
  staging **best = NULL, **largest = NULL;
  for (staging** each = &group->free_staging; *each; each = &(*each)->next) {
    if ((*each)->bytes >= bytes && (!best || (*each)->bytes < (*best)->bytes)) best = each;
    if (!largest || (*each)->bytes > (*largest)->bytes) largest = each;
  }
  if (!best) best = largest;
  staging* out;
  if (best) {
    out = *best;
    *best = out->next;
  } else {
    out = calloc(1, sizeof *out);
    if (!out) return NULL;
  }
  if (out->bytes < bytes) {
    host->release(host, out->memory);
    out->memory = host->allocate(host, bytes, 64);
    out->bytes = out->memory ? bytes : 0;
    if (!out->memory) {
      free(out);
      return NULL;
    }
  }
  return out;
}
