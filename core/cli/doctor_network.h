// The part of `kumiki doctor --measure` that times messages between the ranks of a launcher, through the comm component and
// the communication threads of a run. In: ranks that joined. Out: latency, bandwidth, what messages take from computing.
// Floor: cli.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/run/communicator.h"

namespace kumiki {

// Seconds of one operation among all ranks; bytes as the formulas of docs/machines.md count them.
struct NetworkSample {
  uint32_t op = 0; // KM_COMM_SEND: there or back; KM_COMM_ALL_REDUCE, KM_COMM_ALL_GATHER, …
  double bytes = 0, seconds = 0;
};

struct NetworkFacts {
  uint32_t ranks = 0, ranks_of_host = 0;
  std::vector<NetworkSample> samples;
  double overlap = 1; // share of a message's time that takes nothing from what is computed meanwhile
};

// α and β of seconds = rounds · α + moved / β, both at least 0: the fit whose relative errors are least.
struct Hockney {
  double latency = 0, bytes_per_second = 0;
};
struct HockneyPoint {
  double rounds = 0, moved = 0, seconds = 0;
};
Hockney fit_hockney(const std::vector<HockneyPoint>& points);

// Rounds and bytes on one link of a sample, by the formulas of a ring of `ranks`.
HockneyPoint hockney_point(const NetworkSample& sample, uint32_t ranks);

// All ranks call it, at the same time. A second or two on a fast network. Throws Error. [main]
NetworkFacts measure_network(Communicator& communicator);

} // namespace kumiki
