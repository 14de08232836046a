// The option `split`: shares of training, validation and test, as "98,2,0" or "969,30,1". The parts are contiguous and
// disjoint; bounds are rounded as Megatron-core does it, so that the same split gives the same documents.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace kumiki::data {

struct Part {
  int64_t begin;
  int64_t end;
};

// One to three shares, not negative, not all zero; they need not add up to 100. Throws Failure that says what is wrong.
std::array<double, 3> parse_split(const std::string& text);

// The part of `count` things (tokens, documents) that belongs to split KM_SPLIT_*.
Part part_of(const std::array<double, 3>& shares, uint32_t split, int64_t count);

const char* split_name(uint32_t split);

} // namespace kumiki::data
