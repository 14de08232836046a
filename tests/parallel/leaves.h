// What the tests of this folder give to a graph's leaves: numbers that depend on names, logical elements and samples
// only, so that all layouts get the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace kumiki::test {

// The initial value of a logical element of the parameter `name`: norms near one, the rest around zero.
float initial_value(const Value& parameter, const std::string& name, int64_t element);

// "tokens", "targets" or "segments" of the samples from `first_sample` on; some of the first targets of a sample are
// ignored (-1), a number of its own for each, so that ranks count different tokens.
std::vector<int32_t> batch_of(const std::string& input, int64_t first_sample, const Shape& shape, int64_t vocabulary);

// Calls body(local element, logical element) for all elements of the part of a leaf that a rank has.
template <typename Body>
void for_elements(const Value& leaf, Body body) {
  const Shape whole = leaf.logical_shape.empty() ? leaf.type.shape : leaf.logical_shape;
  const Shape box = leaf.box_shape.empty() ? whole : leaf.box_shape;
  Shape offset = leaf.box_offset;
  offset.resize(whole.size(), 0);
  const int64_t n = Type{KM_F32, box}.elements();
  const int64_t begin = leaf.flat_end < 0 ? 0 : leaf.flat_begin, end = leaf.flat_end < 0 ? n : leaf.flat_end;
  for (int64_t e = begin; e < end; ++e) {
    int64_t rest = e, logical = 0, stride = 1;
    for (size_t d = whole.size(); d-- > 0;) {
      logical += (rest % box[d] + offset[d]) * stride;
      rest /= box[d];
      stride *= whole[d];
    }
    body(static_cast<size_t>(e - begin), logical);
  }
}

} // namespace kumiki::test
