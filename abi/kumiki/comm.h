/* kumiki/comm.h: components of kind "comm" join ranks and move tensors between them.
 *
 * The core gives each rank a communication thread of its own. All functions of the table but `ranks_here` and `abort` are
 * called on that one thread, so that a component may stand on a library that one thread alone may call. Operations are
 * started, then asked for until they are done; they may end in another order than they began. In a group all members start
 * their collectives in the same order. Buffers are host memory unless the component has an ability of a device. */
#ifndef KUMIKI_COMM_H
#define KUMIKI_COMM_H

#include "kumiki/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_COMM_VERSION 1u

typedef struct km_group km_group; /* a component's own */

#define KM_COMM_ALL_REDUCE 1u     /* output[i] = the reduction of all members' input[i] */
#define KM_COMM_REDUCE_SCATTER 2u /* input: the members' parts side by side; output: the own part, reduced over members */
#define KM_COMM_ALL_GATHER 3u     /* input: the own part; output: the members' parts side by side */
#define KM_COMM_ALL_TO_ALL 4u     /* input: a part for each member; output: a part from each member */
#define KM_COMM_BROADCAST 5u      /* output of all = input of member `peer`, which may give the same buffer for both */
#define KM_COMM_SEND 6u           /* input goes to member `peer` */
#define KM_COMM_RECV 7u           /* output comes from member `peer` */

#define KM_REDUCE_SUM 1u
#define KM_REDUCE_MAX 2u

/* One operation. Fixed in the core's memory from start until it is done; `counts` too. */
typedef struct km_message {
  uint32_t struct_size;
  uint32_t op;     /* KM_COMM_* */
  uint32_t dtype;  /* KM_F32, KM_BF16, KM_F16 (both reduced in f32), KM_F64, KM_I32, KM_I64, KM_U8 (moved, not reduced) */
  uint32_t reduce; /* KM_REDUCE_*, of the two that reduce */
  km_group* group;
  int32_t peer; /* index in the group: of send, recv, broadcast */
  int32_t tag;  /* of send and recv, 0 … 32767: matched with source and tag, first in, first out */
  /* Elements of one member's part (all ops; of all_reduce, broadcast, send, recv: of the whole), for each of `outer` rows. */
  uint64_t count;
  /* reduce_scatter and all_gather: elements of each member's part where they differ, else NULL. */
  const uint64_t* counts;
  /* reduce_scatter and all_gather: how many rows: the parts lie side by side within each row. 1 elsewhere. */
  uint64_t outer;
  km_address input;  /* all_reduce: may be the output's own buffer */
  km_address output;
} km_message;

typedef struct km_rank_info {
  uint32_t struct_size;
  uint32_t rank;       /* 0 … size-1 */
  uint32_t size;
  uint32_t local_rank; /* among the ranks of this host */
  uint32_t local_size;
  uint32_t reserved;
  uint32_t host; /* the lowest rank of this host: equal on all its ranks. Left as it is by components that cannot say */
} km_rank_info;

typedef struct km_comm {
  uint32_t struct_size;
  uint32_t reserved;
  /* How many ranks of the run this process is to drive, each with an instance of its own: 1 where a launcher starts a
   * process for each rank. [main], before any open. */
  km_status (*ranks_here)(const km_host* host, const km_options* options, uint32_t* ranks);
  /* Joins: returns when all ranks have. [the communication thread, as all below] */
  km_status (*open)(const km_host* host, const km_options* options, void** self);
  void (*close)(void* self); /* all operations are done; collective, waits for all ranks */
  km_status (*place)(void* self, km_rank_info* info);
  /* A group of ranks, in rising order; the caller is a member. Collective over the members, which make their groups in one
   * common order. Lives until close. */
  km_status (*group)(void* self, const uint32_t* ranks, uint32_t n, km_group** group);
  /* Starts an operation, without waiting for any other rank. `request` names it until it is done. */
  km_status (*start)(void* self, const km_message* message, uint64_t* request);
  /* Moves things on. *done = 1: it is complete and `request` is void. An error is one of the network or of another rank. */
  km_status (*test)(void* self, uint64_t request, uint32_t* done);
  /* Ends the whole job, on all ranks, with `text` on standard error and the exit code. Returns only if it cannot. [any] */
  void (*abort)(void* self, int32_t exit_code, const char* text);
  /* An optional ability by id, or NULL: a static table. May be NULL itself. */
  const void* (*ability)(void* self, const char* id);
} km_comm;

/* The ability "kumiki.comm.notes/1": short texts between any two ranks, apart from groups and their order. The core asks other
 * hosts with them what their ranks do once a message has taken too long; nothing is sent in a run that goes well. */
#define KM_COMM_NOTES "kumiki.comm.notes/1"
#define KM_NOTE_BYTES 4096u /* at most, of one note */

typedef struct km_comm_notes {
  uint32_t struct_size;
  uint32_t reserved;
  /* Sends a copy of `bytes` to a rank, without waiting for it. Notes of one rank to another arrive in order. Whoever sends sees
   * to it that they are few: memory is kept for each until it has arrived. [the communication thread, as below] */
  km_status (*send)(void* self, uint32_t to, const void* bytes, uint32_t count);
  /* A note that has arrived, of any rank: its bytes go into `bytes` (room for KM_NOTE_BYTES), their number into `count`, 0 where
   * none is there. Never waits. */
  km_status (*receive)(void* self, void* bytes, uint32_t* count, uint32_t* from);
} km_comm_notes;

#ifdef __cplusplus
}
#endif
#endif
