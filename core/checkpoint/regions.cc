#include "core/checkpoint/regions.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"

namespace kumiki {

int64_t checked_elements(const Shape& shape) {
  int64_t elements = 1;
  for (int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(elements, size, &elements)) return -1;
  }
  return elements;
}

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? "," : "") + std::to_string(shape[i]);
  return text + "]";
}

Region make_region(const std::string& where, const Shape& logical, const Shape& offset, const Shape& shape,
                   int64_t flat_begin, int64_t flat_end) {
  Region region{offset, shape, flat_begin, flat_end};
  if (offset.empty()) region.offset.assign(logical.size(), 0);
  if (shape.empty()) region.shape = logical;
  if (checked_elements(logical) < 0) throw Error(where, "shape " + shape_text(logical) + " is not possible");
  bool inside = region.offset.size() == logical.size() && region.shape.size() == logical.size();
  for (size_t i = 0; inside && i < logical.size(); ++i) {
    inside = region.offset[i] >= 0 && region.shape[i] >= 0 && region.shape[i] <= logical[i] &&
             region.offset[i] <= logical[i] - region.shape[i];
  }
  if (!inside) {
    throw Error(where, "box " + shape_text(region.shape) + " at " + shape_text(region.offset) +
                           " does not lie inside the tensor's shape " + shape_text(logical));
  }
  const int64_t elements = checked_elements(region.shape);
  if (flat_end < 0) region.flat_end = elements;
  if (region.flat_begin < 0 || region.flat_begin > region.flat_end || region.flat_end > elements) {
    throw Error(where, "elements " + std::to_string(flat_begin) + " to " + std::to_string(region.flat_end) +
                           " do not lie inside a box " + shape_text(region.shape));
  }
  return region;
}

void Coverage::add(int64_t begin, int64_t end) {
  if (begin >= end) return;
  if (!intervals_.empty() && intervals_.back().second == begin) {
    intervals_.back().second = end;
  } else {
    intervals_.emplace_back(begin, end);
  }
}

int64_t Coverage::first_gap(int64_t begin, int64_t end) {
  std::sort(intervals_.begin(), intervals_.end());
  int64_t reached = begin;
  for (const auto& [from, to] : intervals_) {
    if (from > reached) break;
    reached = std::max(reached, to);
  }
  return reached < end ? reached : -1;
}

void for_each_shared_run(const Region& from, const Region& to,
                         const std::function<void(int64_t, int64_t, int64_t)>& visit) {
  const size_t rank = from.shape.size();
  Shape low(rank), extent(rank), from_stride(rank, 1), to_stride(rank, 1);
  for (size_t i = rank; i-- > 0;) {
    low[i] = std::max(from.offset[i], to.offset[i]);
    extent[i] = std::min(from.offset[i] + from.shape[i], to.offset[i] + to.shape[i]) - low[i];
    if (extent[i] <= 0) return;
    if (i + 1 < rank) {
      from_stride[i] = from_stride[i + 1] * from.shape[i + 1];
      to_stride[i] = to_stride[i + 1] * to.shape[i + 1];
    }
  }
  // The inner dimensions that both boxes hold as a whole make one run, with a part of the dimension before them.
  size_t outer = rank;
  int64_t run = 1;
  while (outer > 0) {
    --outer;
    run *= extent[outer];
    if (extent[outer] != from.shape[outer] || extent[outer] != to.shape[outer]) break;
  }
  Shape index(outer, 0);
  int64_t from_at = 0, to_at = 0;
  for (size_t i = 0; i < rank; ++i) {
    from_at += (low[i] - from.offset[i]) * from_stride[i];
    to_at += (low[i] - to.offset[i]) * to_stride[i];
  }
  while (true) {
    const int64_t begin = std::max({int64_t{0}, from.flat_begin - from_at, to.flat_begin - to_at});
    const int64_t end = std::min({run, from.flat_end - from_at, to.flat_end - to_at});
    if (begin < end) visit(from_at + begin - from.flat_begin, to_at + begin - to.flat_begin, end - begin);
    size_t i = outer;
    while (i > 0) {
      --i;
      from_at += from_stride[i];
      to_at += to_stride[i];
      if (++index[i] < extent[i]) break;
      from_at -= extent[i] * from_stride[i];
      to_at -= extent[i] * to_stride[i];
      index[i] = 0;
      if (i == 0) return;
    }
    if (outer == 0) return;
  }
}

void copy_shared(const Region& from, const void* from_data, const Region& to, void* to_data, uint64_t element_bytes,
                 Coverage& covered) {
  const auto* source = static_cast<const unsigned char*>(from_data);
  auto* target = static_cast<unsigned char*>(to_data);
  for_each_shared_run(from, to, [&](int64_t from_place, int64_t to_place, int64_t elements) {
    std::memcpy(target + static_cast<uint64_t>(to_place) * element_bytes,
                source + static_cast<uint64_t>(from_place) * element_bytes,
                static_cast<uint64_t>(elements) * element_bytes);
    covered.add(to_place, to_place + elements);
  });
}

} // namespace kumiki
