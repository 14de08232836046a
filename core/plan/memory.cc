#include "core/plan/memory.h"

#include <algorithm>

namespace kumiki {

Arena place(std::vector<Interval*>& intervals) {
  constexpr uint64_t kAlign = 256;
  Arena arena;
  std::vector<Interval*> order;
  int32_t end = 0;
  for (Interval* i : intervals) {
    i->bytes = (i->bytes + kAlign - 1) / kAlign * kAlign;
    if (i->bytes == 0) continue;
    order.push_back(i);
    end = std::max(end, i->last);
  }

  std::vector<int64_t> change(static_cast<size_t>(end) + 2, 0);
  for (const Interval* i : order) {
    change[static_cast<size_t>(i->first)] += static_cast<int64_t>(i->bytes);
    change[static_cast<size_t>(i->last) + 1] -= static_cast<int64_t>(i->bytes);
  }
  int64_t live = 0;
  for (int64_t c : change) {
    live += c;
    arena.live_peak = std::max(arena.live_peak, static_cast<uint64_t>(live));
  }

  std::stable_sort(order.begin(), order.end(),
                   [](const Interval* a, const Interval* b) { return a->bytes > b->bytes; });
  std::vector<const Interval*> placed; // by offset
  for (Interval* i : order) {
    uint64_t offset = 0;
    for (const Interval* other : placed) {
      if (other->last < i->first || i->last < other->first) continue;
      if (offset + i->bytes <= other->offset) break;
      offset = std::max(offset, other->offset + other->bytes);
    }
    i->offset = offset;
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                   [](const Interval* a, const Interval* b) { return a->offset < b->offset; }),
                  i);
    arena.bytes = std::max(arena.bytes, offset + i->bytes);
  }
  return arena;
}

} // namespace kumiki
