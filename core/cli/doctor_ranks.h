// The part of `kumiki doctor` that looks at all ranks of a launcher: one table of where each computes, and what is wrong with
// that. In: what each rank found about itself. Out: text on stdout of rank 0. Floor: cli.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "core/run/communicator.h"

namespace kumiki {

struct RankFacts {
  uint32_t rank = 0;
  std::string host;
  bool bound = false;          // the launcher left the process fewer cores than the host has
  uint64_t host_cores = 0;     // that the process may use
  std::vector<int> cores;      // that the rank computes on; none: it shares what there is
  std::vector<int> memory;     // numbers of the memory groups (NUMA nodes) that they lie in
  uint64_t wanted_threads = 0; // run.threads; 0: as many as cores
};

// A line for each rank: rank, host, cores, memory group; lines about hosts whose ranks nobody bound come behind.
std::string rank_table(const std::vector<RankFacts>& ranks);
// A sentence with a remedy for each: cores that ranks of a host share, fewer cores than threads, memory groups of a host that
// serve unequally many ranks.
std::vector<std::string> rank_problems(const std::vector<RankFacts>& ranks);

// What this process is as a rank. Null: the only one.
RankFacts facts_of_rank(const Config& config, const Communicator* communicator);
// Brings the facts of all ranks together: the same list on each, in order. Collective.
std::vector<RankFacts> gather_facts(const RankFacts& own, Communicator& communicator);

} // namespace kumiki
