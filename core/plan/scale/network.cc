#include "core/plan/scale/network.h"

#include <algorithm>
#include <bit>
#include <set>

#include "core/base/error.h"
#include "kumiki/comm.h"

namespace kumiki {

size_t Network::level_between(uint32_t from, uint32_t to) const {
  for (size_t i = 0; i < machine_.network.size(); ++i) {
    const int64_t block = machine_.network[i].ranks;
    if (block == 0 || from / block == to / block) return i;
  }
  return machine_.network.size() - 1;
}

GroupPlace Network::place(std::vector<uint32_t> ranks) const {
  GroupPlace place;
  place.size = static_cast<int64_t>(ranks.size());
  const uint32_t first = ranks.front();
  for (const uint32_t rank : ranks) place.level = std::max(place.level, level_between(first, rank));
  int64_t below = 1;
  for (size_t i = 0; i <= place.level; ++i) {
    const int64_t block = machine_.network[i].ranks;
    std::set<int64_t> parts;
    for (const uint32_t rank : ranks)
      if (block == 0 || rank / block == first / block) parts.insert(rank / below);
    place.parts.push_back(static_cast<int64_t>(parts.size()));
    below = block;
  }
  return place;
}

// What one rank gets of a level, where of each block of the level below so many are members of its group and work side
// by side: the other ranks of the block do the same in groups of their own.
double Network::bandwidth(size_t level, int64_t streams_of_block) const {
  const NetworkLevel& l = machine_.network[level];
  if (l.shared <= 0 || level == 0) return l.bytes_per_second;
  return std::min(l.bytes_per_second, l.shared / static_cast<double>(std::max<int64_t>(1, streams_of_block)));
}

double Network::one_level(uint32_t op, size_t level, int64_t members, double bytes, double bandwidth) const {
  if (members < 2) return 0;
  const double n = static_cast<double>(members), latency = machine_.network[level].latency;
  const double rounds = static_cast<double>(std::bit_width(static_cast<uint64_t>(members - 1)));
  const double passes = op == KM_COMM_ALL_REDUCE ? 2 : 1;
  const double moved = (n - 1) / n * bytes / bandwidth;
  const double ring = passes * ((n - 1) * latency + moved);
  const double tree = passes * rounds * (latency + bytes / bandwidth);
  const double halving = passes * (rounds * latency + moved);
  if (op == KM_COMM_ALL_TO_ALL) return (n - 1) * latency + moved;
  if (op == KM_COMM_BROADCAST) return std::min(tree, rounds * latency + 2 * moved);
  if (machine_.collectives == Machine::Algorithm::kRing) return ring;
  if (machine_.collectives == Machine::Algorithm::kTree) return tree;
  return std::min({ring, tree, halving});
}

double Network::collective(uint32_t op, const GroupPlace& place, double bytes) const {
  if (place.size < 2) return 0;
  const int64_t node = machine_.network.size() > 1 ? machine_.network[0].ranks : 1;
  // Flat: all members in one ring or tree; each block below has but one stream that leaves it.
  const int64_t inside = place.level == 0 ? place.size : place.parts[0];
  double slowest = bandwidth(place.level, std::max<int64_t>(1, node / std::max<int64_t>(1, inside)));
  for (size_t i = 0; i < place.level; ++i)
    if (place.parts[i] > 1) slowest = std::min(slowest, bandwidth(i, 1));
  const double flat = one_level(op, place.level, place.size, bytes, slowest);
  if (place.level == 0 || inside < 2 || machine_.collectives != Machine::Algorithm::kFastest) return flat;
  // By levels: scatter within the node, the rest of the work on a part each between nodes, gather within the node.
  double part = bytes, staged = 0;
  for (size_t i = 0; i <= place.level; ++i) {
    const double rate = i == 0 ? bandwidth(0, 1) : bandwidth(i, node);
    staged += one_level(op, i, place.parts[i], part, rate);
    part /= static_cast<double>(place.parts[i]);
  }
  return std::min(flat, staged);
}

double Network::send(uint32_t from, uint32_t to, double bytes) const {
  const size_t level = level_between(from, to);
  const int64_t node = machine_.network.size() > 1 ? machine_.network[0].ranks : 1;
  return machine_.network[level].latency + bytes / bandwidth(level, node);
}

} // namespace kumiki
