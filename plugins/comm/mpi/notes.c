/* notes.c: short texts between any two ranks, for the core to ask other hosts what they do. A rank that is stopped takes none:
 * what was sent to it stays in a list, and nobody waits for it. */
#include <stdlib.h>
#include <string.h>

#include "comm_mpi.h"

typedef struct note {
  struct note* next;
  MPI_Request request;
  unsigned char bytes[];
} note;

int notes_open(comm_rank* owner) {
  owner->notes = NULL;
  owner->note_coming = MPI_REQUEST_NULL;
  int error = MPI_Comm_dup(MPI_COMM_WORLD, &owner->notes_comm);
  return error == MPI_SUCCESS ? MPI_Comm_set_errhandler(owner->notes_comm, MPI_ERRORS_RETURN) : error;
}

/* Frees those that have arrived. */
static int forget_arrived(comm_rank* owner) {
  for (note** each = &owner->notes; *each;) {
    note* sent = *each;
    int done = 0;
    const int error = MPI_Test(&sent->request, &done, MPI_STATUS_IGNORE);
    if (error != MPI_SUCCESS) return error;
    if (!done) {
      each = &sent->next;
      continue;
    }
    *each = sent->next;
    free(sent);
  }
  return MPI_SUCCESS;
}

static km_status note_send(void* self, uint32_t to, const void* bytes, uint32_t count) {
  comm_rank* owner = self;
  if (to >= (uint32_t)owner->size || count == 0 || count > KM_NOTE_BYTES) {
    return owner->host->fail(owner->host, KM_ERROR_HOST, "comm mpi: a note of %u bytes to rank %u of %d", count, to,
                             owner->size);
  }
  note* made = malloc(sizeof *made + count);
  if (!made)
    return owner->host->fail(owner->host, KM_ERROR_SYSTEM, "comm mpi: no memory for a note of %u bytes", count);
  memcpy(made->bytes, bytes, count);
  /* Synchronous: done when the other has begun to take it. So the end knows that none is under way. */
  int error = MPI_Issend(made->bytes, (int)count, MPI_BYTE, (int)to, 0, owner->notes_comm, &made->request);
  if (error != MPI_SUCCESS) {
    free(made);
    return mpi_failed(owner, "sending a note", error);
  }
  made->next = owner->notes;
  owner->notes = made;
  return KM_OK;
}

static km_status note_receive(void* self, void* bytes, uint32_t* count, uint32_t* from) {
  comm_rank* owner = self;
  *count = 0;
  int there = 0, done = 0, length = 0;
  MPI_Status status;
  int error = forget_arrived(owner);
  if (error == MPI_SUCCESS && owner->note_coming == MPI_REQUEST_NULL) {
    error = MPI_Iprobe(MPI_ANY_SOURCE, 0, owner->notes_comm, &there, &status);
    /* Its sender may stop in the middle, so its end is not waited for either. */
    if (error == MPI_SUCCESS && there)
      error = MPI_Irecv(owner->note_bytes, (int)KM_NOTE_BYTES, MPI_BYTE, status.MPI_SOURCE, 0, owner->notes_comm,
                        &owner->note_coming);
  }
  if (error == MPI_SUCCESS && owner->note_coming != MPI_REQUEST_NULL)
    error = MPI_Test(&owner->note_coming, &done, &status);
  if (error != MPI_SUCCESS) return mpi_failed(owner, "taking a note", error);
  if (!done) return KM_OK;
  MPI_Get_count(&status, MPI_BYTE, &length);
  memcpy(bytes, owner->note_bytes, (size_t)length);
  *count = (uint32_t)length;
  *from = (uint32_t)status.MPI_SOURCE;
  return KM_OK;
}

const km_comm_notes note_table = {
    .struct_size = sizeof(km_comm_notes),
    .send = note_send,
    .receive = note_receive,
};

/* Nobody leaves before all have come here and all that was sent has arrived: what still comes is taken meanwhile. */
void notes_close(comm_rank* owner) {
  MPI_Request all_here = MPI_REQUEST_NULL;
  int begun = 0, done = 0;
  while (!done) {
    unsigned char bytes[KM_NOTE_BYTES];
    uint32_t count = 0, from = 0;
    if (note_receive(owner, bytes, &count, &from) != KM_OK) return;
    if (begun) {
      if (MPI_Test(&all_here, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
    } else if (!owner->notes) {
      if (MPI_Ibarrier(owner->notes_comm, &all_here) != MPI_SUCCESS) return;
      begun = 1;
    }
  }
  MPI_Comm_free(&owner->notes_comm);
}
