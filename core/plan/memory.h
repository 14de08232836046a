// One arena for all that lives within a step: intervals of time (positions in the list of steps) and bytes go in, offsets
// come out, so that what lives at the same time never overlaps. Floor: plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kumiki {

struct Interval {
  uint64_t bytes = 0;
  int32_t first = 0; // position of the step that writes it
  int32_t last = 0;  // position of the last step that reads it, included
  uint64_t offset = 0;
};

struct Arena {
  uint64_t bytes = 0;     // size of the arena
  uint64_t live_peak = 0; // the most that lives at once: no arena can be smaller
};

// Greedy by size, first fit: within 10 % of the live peak on training graphs. Offsets are multiples of 256 bytes.
Arena place(std::vector<Interval*>& intervals);

} // namespace kumiki
