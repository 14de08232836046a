// Regions of tensors: a flat range of a box of a logical tensor, and how one region is filled from others. Pure
// arithmetic on shapes: no file, no graph. All counts are elements, all orders row-major. Floor: checkpoint.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace kumiki {

using Shape = std::vector<int64_t>;

// Elements [flat_begin, flat_end) of a box. The box has the rank of its tensor.
struct Region {
  Shape offset;
  Shape shape;
  int64_t flat_begin = 0;
  int64_t flat_end = 0;
  int64_t elements() const { return flat_end - flat_begin; }
};

// Product of the dimensions; -1 if one is negative or the product does not fit.
int64_t checked_elements(const Shape& shape);
std::string shape_text(const Shape& shape); // "[2,3]"

// The region that stands for these parts of a tensor of this shape: empty offset = zeros, empty shape = the logical
// shape, flat_end -1 = the end of the box. Throws Error(where, …) if it does not lie inside the tensor.
Region make_region(const std::string& where, const Shape& logical, const Shape& offset, const Shape& shape,
                   int64_t flat_begin, int64_t flat_end);

// What of an interval is covered, by intervals added in any order, also overlapping ones.
class Coverage {
 public:
  void add(int64_t begin, int64_t end);
  // The first place in [begin, end) that nothing covers; -1: none.
  int64_t first_gap(int64_t begin, int64_t end);

 private:
  std::vector<std::pair<int64_t, int64_t>> intervals_;
};

// The elements that two regions of one tensor share, as runs that are contiguous in both: visit(place in from's flat
// range, place in to's flat range, elements), places counted from flat_begin.
void for_each_shared_run(const Region& from, const Region& to,
                         const std::function<void(int64_t from_place, int64_t to_place, int64_t elements)>& visit);

// Copies what `from` has of `to`, and notes it in `covered` (places from to.flat_begin). Data of both are dense, first
// element at flat_begin.
void copy_shared(const Region& from, const void* from_data, const Region& to, void* to_data, uint64_t element_bytes,
                 Coverage& covered);

} // namespace kumiki
