// Who is waited for: the decision, from what the boards say of all ranks, and its text. No clock and no messages here, so
// that tests can plant boards. In: what is known of each rank; out: one rank, or that none is to blame. Floor: run.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kumiki/comm.h"

namespace kumiki {

// "all_reduce" of KM_COMM_*; stays.
const std::string& op_name(uint32_t op);

// What is known of one rank when a message has taken too long.
struct RankState {
  uint32_t rank = 0;
  int64_t process = 0;
  uint32_t host = 0;     // the lowest rank of its host
  std::string host_name; // empty: this host
  bool asked = true;     // its line is at hand or its host was asked
  double unanswered = 0; // seconds since its host answered; < 0: it never did. 0 on this host
  double silent = 0;     // seconds since its communication thread looked up, when its line was read
  double waiting = 0;    // seconds that it has itself waited for others; 0: not for long
  int64_t step = 0;      // under way
  uint32_t op = 0;       // of its last message, as the next three
  uint64_t bytes = 0, group = 0, number = 0;
  std::vector<std::pair<uint64_t, uint64_t>> groups; // group, collectives started in it
  bool all_groups = true;                            // no group is missing there
};

// The message that is not complete.
struct Awaited {
  uint64_t group = 0;
  uint64_t number = 0;           // of the collective; 0: a send or receive
  std::vector<uint32_t> members; // whom it needs, without the rank that waits, in rising order
};

struct Culprit {
  enum Kind {
    kSilent,      // its communication thread gives no sign of life: stopped
    kHostSilent,  // its whole host does not answer
    kNotCome,     // it is alive and has not come to the message
    kWaitsItself, // it has not come because it waits in another message, and nobody is known to be stopped
    kNobody,      // all came to it
    kUnknown,     // of some ranks nothing can be known
  };
  Kind kind = kNobody;
  const RankState* rank = nullptr;        // into `all`
  std::vector<const RankState*> hostless; // kUnknown: the ranks; kHostSilent: all ranks of silent hosts
};

// `all`: every rank but the one that waits, in rising order. A communication thread that has not looked up for
// `silent_limit` seconds, or a host that has not answered for `answer_limit`, is taken for stopped.
Culprit find_culprit(const Awaited& awaited, const std::vector<RankState>& all, double silent_limit,
                     double answer_limit);
// For people: whom, where, and how far it is.
std::string describe(const Culprit& culprit);

} // namespace kumiki
