/* comm_mpi.h: the component "mpi" of kind "comm", in C11 against kumiki's headers and MPI 3.1 alone. In: messages of
 * kumiki/comm.h; out: nonblocking MPI operations on a communicator for each group. One thread makes all MPI calls, the one
 * that called open; only abort may come from another. */
#ifndef KUMIKI_COMM_MPI_H
#define KUMIKI_COMM_MPI_H

#include <mpi.h>

#include "kumiki/comm.h"

#if MPI_VERSION < 3
#error "comm mpi needs MPI 3.0 or later: nonblocking collectives and MPI_Comm_create_group"
#endif

/* MPI counts in int: what is longer goes in pieces of so many elements. Tests build with few. */
#ifndef COMM_MPI_PIECE
#define COMM_MPI_PIECE (UINT64_C(1) << 30)
#endif

/* ---- what a rank calls, as numbers to be compared (check.c) */
enum { RECORD_OP, RECORD_DTYPE, RECORD_REDUCE, RECORD_PEER, RECORD_COUNT, RECORD_OUTER, RECORD_PARTS, RECORD_WORDS };

typedef struct comm_rank comm_rank;
typedef struct operation operation;

/* Memory for rows on their way, kept by the group for the next operation. */
typedef struct staging {
  struct staging* next;
  uint64_t bytes;
  void* memory;
} staging;

struct km_group {
  comm_rank* owner;
  struct km_group* next; /* in the order of creation */
  MPI_Comm comm;
  MPI_Comm exchange_comm; /* of exchange.c, whose messages have tags of their own; MPI_COMM_NULL with one member */
  MPI_Comm check_comm;    /* of the descriptors, so that they stay apart; MPI_COMM_NULL without `check` */
  uint32_t size, me;
  uint32_t* ranks;
  uint64_t collectives;                    /* started so far */
  operation *first_checked, *last_checked; /* that wait for the others' descriptors, in order */
  operation* all;                          /* ever made, by `older` */
  operation* free_operations;
  staging* free_staging;
};

typedef enum { CHECKED, RUNNING, REDUCING, SPREADING, DELAYED, FAILED } stage;

struct operation {
  km_group* group;
  operation* next;  /* in the list of free ones or of checked ones */
  operation* older; /* in the list of all */
  const km_message* message;
  stage stage;
  uint64_t number; /* of the collective in the group */
  int request_count, request_capacity;
  MPI_Request* requests;
  MPI_Status* statuses;
  int *counts, *offsets; /* of each member, for MPI: fixed until it is done */
  staging* rows;         /* of `outer` rows, as parts; or NULL */
  staging* parts;        /* that the others sent, to be reduced here; or NULL */
  const void** sources;  /* of each member: where the part to be reduced lies */
  uint64_t* begins;      /* size + 1: where the members' parts begin, in elements of all rows together */
  uint64_t reduced;      /* elements of the own part that are */
  int active;            /* in the rank's list of exchanges under way */
  operation *active_before, *active_after;
  double end; /* DELAYED: done then */
  MPI_Request check_request;
  uint64_t record[RECORD_WORDS];
  uint64_t* records; /* of all members */
  km_status error;   /* FAILED */
  char text[768];
};

struct comm_rank {
  const km_host* host;
  int check;
  double latency; /* seconds */
  int rank, size, local_rank, local_size;
  int first_local; /* the lowest rank of this host */
  km_group *groups, *last_group;
  operation *first_active, *last_active; /* exchanges under way */
  MPI_Op max[8];                         /* by dtype; sums that MPI makes are MPI_SUM */
  MPI_Comm notes_comm;
  struct note* notes;      /* sent, not yet known to have arrived */
  MPI_Request note_coming; /* into note_bytes; MPI_REQUEST_NULL: none is */
  unsigned char note_bytes[KM_NOTE_BYTES];
};

/* plugin.c. Text of an MPI error through host->fail. */
km_status mpi_failed(const comm_rank* owner, const char* what, int error);

/* group.c */
km_status group_create(comm_rank* owner, const uint32_t* ranks, uint32_t n, km_group** group);
void group_free(km_group* group); /* collective */
/* An operation of the group that is not in use; NULL without memory. */
operation* operation_take(km_group* group);
/* The operation, and its rows, are free for the next. */
void operation_release(operation* op);
/* Room for one more request; NULL without memory. */
MPI_Request* operation_request(operation* op);
/* Rows of so many bytes; NULL without memory. */
staging* staging_take(km_group* group, uint64_t bytes);

/* operation.c */
km_status operation_start(comm_rank* owner, const km_message* message, uint64_t* request);
km_status operation_test(operation* op, uint32_t* done);
/* Gives the operation to MPI, or makes it FAILED. */
void operation_begin(operation* op);
/* Makes it FAILED with this text. */
void operation_fail(operation* op, km_status error, const char* format, ...) KM_PRINTF(3, 4);

/* message.c: what needs no MPI. Elements of member m's part; of a row of all parts; 1 if it is one of the group. */
uint64_t message_part(const km_message* message, uint32_t m);
uint64_t message_row(const km_message* message, uint32_t members);
int message_is_collective(const km_message* message);
/* What is wrong with it in a group of so many, or NULL. */
const char* message_fault(const km_message* message, uint32_t members);
/* The numbers to compare, and their text: "all_reduce of 12 f32 (sum)". */
void message_record(const km_message* message, uint32_t members, uint64_t record[RECORD_WORDS]);
void record_text(const uint64_t record[RECORD_WORDS], char* text, uint64_t bytes);
/* Rows of parts side by side, [outer][part 0, part 1, …], into parts of rows side by side, [part 0 of all rows, …]; back. */
void rows_to_parts(const km_message* message, uint32_t members, const void* rows, void* parts);
void parts_to_rows(const km_message* message, uint32_t members, const void* parts, void* rows);

/* exchange.c: reductions made here: members send each other their parts, each reduces its own in the order of ranks. */
int exchanges(const km_message* message, uint32_t members); /* whether it goes this way, not by a reduction of MPI */
int exchange_begin(operation* op);                          /* an MPI error code */
/* Once the parts are here: some milliseconds' worth of the reduction; 1 when it is complete. */
int exchange_reduce(operation* op);
/* all_reduce: sends the own part to all, receives theirs. An MPI error code. */
int exchange_spread(operation* op);
/* Exchanges under way are kept in a list, so that asking for one moves others on as well. */
void active_add(operation* op);
void active_remove(operation* op); /* if it is there */

/* check.c. Sends what this rank calls to the other members. */
km_status check_start(operation* op);
/* Begins, in order, the checked operations whose descriptors are there and agree. */
void check_advance(km_group* group);

/* notes.c: the ability of notes, on a communicator of its own. */
extern const km_comm_notes note_table;
int notes_open(comm_rank* owner);   /* an MPI error code */
void notes_close(comm_rank* owner); /* collective: waits until all notes have arrived */

/* reduce.c */
MPI_Datatype datatype_of(uint32_t dtype);
/* Elements [at, at + count) of all members' sources, taken in order, into those of the output, which may be one of them. */
void reduce_members(uint32_t dtype, uint32_t reduce, const void* const* sources, uint32_t members, uint64_t at,
                    void* output, uint64_t count);
int reductions_create(comm_rank* owner); /* an MPI error code */
void reductions_free(comm_rank* owner);

#endif
