// Network: how long messages between ranks take, by formula. In: the machine's levels, the ranks of a group, bytes.
// Out: seconds. Floor: plan.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plan/scale/machine.h"

namespace kumiki {

// How a group of ranks lies over the levels of the network.
struct GroupPlace {
  int64_t size = 1;
  size_t level = 0; // the outermost that it needs
  // At each level up to that one: how many blocks of the level below the group has members in, of one block of this
  // level.
  std::vector<int64_t> parts;
};

class Network {
 public:
  explicit Network(const Machine& machine) : machine_(machine) {}

  // `ranks` of one group, in any order; the first one's block is taken for all.
  GroupPlace place(std::vector<uint32_t> ranks) const;
  // Of one KM_COMM_* collective, `bytes` as sum over the members of what is gathered or scattered, or of the whole that
  // is reduced. Hockney's model, latency + bytes / bandwidth, of the best known algorithms (Thakur, Rabenseifner and
  // Gropp 2005; Chan et al. 2007): ring, (n−1)·α + (n−1)/n·bytes/β for each of scatter and gather; halving and
  // doubling, log₂ n·α; binomial tree, log₂ n·(α + bytes/β), for each of reduce and broadcast.
  double collective(uint32_t op, const GroupPlace& place, double bytes) const;
  // Of one message from rank to rank, all ranks of a node sending at once.
  double send(uint32_t from, uint32_t to, double bytes) const;
  size_t level_between(uint32_t from, uint32_t to) const;

 private:
  double bandwidth(size_t level, int64_t members_of_block) const;
  double one_level(uint32_t op, size_t level, int64_t members, double bytes, double bandwidth) const;
  const Machine& machine_;
};

} // namespace kumiki
