// The arena: what lives at the same time never lies in the same place, and little is lost to gaps.
#include <catch2/catch.hpp>

#include <random>

#include "core/plan/memory.h"

using namespace kumiki;

namespace {

Arena placed(std::vector<Interval>& intervals) {
  std::vector<Interval*> pointers;
  for (Interval& i : intervals) pointers.push_back(&i);
  return place(pointers);
}

void check_sound(const std::vector<Interval>& intervals, const Arena& arena) {
  for (size_t a = 0; a < intervals.size(); ++a) {
    const Interval& x = intervals[a];
    if (x.bytes == 0) continue;
    REQUIRE(x.offset % 256 == 0);
    REQUIRE(x.offset + x.bytes <= arena.bytes);
    for (size_t b = a + 1; b < intervals.size(); ++b) {
      const Interval& y = intervals[b];
      if (x.last < y.first || y.last < x.first || y.bytes == 0) continue;
      CAPTURE(a, b);
      REQUIRE((x.offset + x.bytes <= y.offset || y.offset + y.bytes <= x.offset));
    }
  }
  REQUIRE(arena.bytes >= arena.live_peak);
}

// As a step of training has them: each layer keeps some activations until its own backward, and has others that live
// for a few steps only; gradients live from their backward to the end.
std::vector<Interval> training_pattern(std::mt19937& random, int32_t layers) {
  const auto draw = [&](uint64_t low, uint64_t high) {
    return std::uniform_int_distribution<uint64_t>(low, high)(random);
  };
  const int32_t per_layer = static_cast<int32_t>(draw(4, 12));
  const int32_t forward = layers * per_layer, end = 3 * forward;
  std::vector<uint64_t> kept_bytes;
  for (int32_t i = 0; i < per_layer; ++i) kept_bytes.push_back(draw(1, 64) * 4096);
  std::vector<Interval> out;
  for (int32_t layer = 0; layer < layers; ++layer) {
    for (int32_t i = 0; i < per_layer; ++i) {
      const int32_t at = layer * per_layer + i;
      const int32_t backward = forward + 2 * (forward - 1 - at);
      if (draw(0, 2) != 0) out.push_back({kept_bytes[static_cast<size_t>(i)], at, backward, 0});
      out.push_back({draw(1, 64) * 4096, at, at + static_cast<int32_t>(draw(0, 3)), 0});
      out.push_back({draw(1, 64) * 4096, backward, backward + static_cast<int32_t>(draw(1, 4)), 0});
      if (draw(0, 1) != 0) out.push_back({draw(1, 32) * 4096, backward + 1, end + 1, 0});
    }
  }
  return out;
}

} // namespace

TEST_CASE("random intervals never overlap in time and place") {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Interval> intervals(std::uniform_int_distribution<size_t>(0, 80)(random));
    for (Interval& i : intervals) {
      i.bytes = std::uniform_int_distribution<uint64_t>(0, 5000)(random);
      i.first = std::uniform_int_distribution<int32_t>(0, 60)(random);
      i.last = i.first + std::uniform_int_distribution<int32_t>(0, 30)(random);
    }
    CAPTURE(round);
    check_sound(intervals, placed(intervals));
  }
}

TEST_CASE("the live peak is the most bytes that live at one time") {
  std::vector<Interval> intervals = {{256, 0, 1, 0}, {512, 1, 2, 0}, {256, 2, 3, 0}, {1, 3, 3, 0}, {0, 0, 3, 0}};
  const Arena arena = placed(intervals);
  CHECK(arena.live_peak == 768);
  CHECK(arena.bytes == 768);
  check_sound(intervals, arena);
}

TEST_CASE("gaps take less than 30 % on patterns of training") {
  std::mt19937 random(2);
  for (int round = 0; round < 30; ++round) {
    std::vector<Interval> intervals = training_pattern(random, 2 + round % 12);
    const Arena arena = placed(intervals);
    CAPTURE(round, arena.bytes, arena.live_peak);
    check_sound(intervals, arena);
    CHECK(static_cast<double>(arena.bytes) <= 1.3 * static_cast<double>(arena.live_peak));
  }
}
