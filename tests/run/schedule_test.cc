// The learning rate and the global batch at the ends and turns of their schedules.
#include <catch2/catch.hpp>

#include "core/run/schedule.h"

using namespace kumiki;

TEST_CASE("the learning rate at the ends and turns of each schedule") {
  struct Row {
    const char* use;
    int64_t warmup, decay, step;
    double rate;
  };
  constexpr int64_t kSteps = 100;
  constexpr double kPeak = 1.0, kMinimum = 0.1;
  const Row rows[] = {
      // warm-up is the same for all: peak/warmup at the first step, peak at its last
      {"constant", 10, 0, 1, 0.1},
      {"cosine", 10, 0, 1, 0.1},
      {"linear", 10, 0, 5, 0.5},
      {"wsd", 10, 20, 10, 1.0},
      {"cosine", 10, 0, 10, 1.0},
      {"constant", 0, 0, 1, 1.0},
      {"constant", 10, 0, 100, 1.0},
      {"cosine", 10, 0, 55, 0.55},
      {"cosine", 10, 0, 100, 0.1},
      {"cosine", 0, 0, 50, 0.55},
      {"linear", 10, 0, 55, 0.55},
      {"linear", 10, 0, 100, 0.1},
      {"wsd", 10, 20, 80, 1.0},
      {"wsd", 10, 20, 90, 0.55},
      {"wsd", 10, 20, 100, 0.1},
      {"wsd", 10, 0, 100, 1.0},
      // a warm-up as long as the run, and longer
      {"cosine", 100, 0, 100, 1.0},
      {"linear", 200, 0, 100, 0.5},
      {"wsd", 95, 20, 100, 0.1},
  };
  for (const Row& row : rows) {
    OptimizerSettings settings;
    settings.learning_rate = kPeak;
    settings.schedule = {row.use, row.warmup, kMinimum, row.decay};
    CAPTURE(row.use, row.warmup, row.decay, row.step);
    CHECK(learning_rate(settings, row.step, kSteps) == Approx(row.rate));
  }
}

TEST_CASE("after the warm-up the rate never rises, and stays between minimum and peak") {
  for (const char* use : {"constant", "cosine", "linear", "wsd"}) {
    OptimizerSettings settings;
    settings.learning_rate = 0.5;
    settings.schedule = {use, 7, 0.05, 30};
    for (int64_t step = 8; step <= 100; ++step) {
      CAPTURE(use, step);
      const double rate = learning_rate(settings, step, 100);
      CHECK(rate <= learning_rate(settings, step - 1, 100) + 1e-12);
      CHECK(rate >= 0.05 - 1e-12);
      CHECK(rate <= 0.5 + 1e-12);
    }
  }
}

TEST_CASE("the global batch grows from start to end in whole micro-batches") {
  const GlobalBatch ramp{4, 32, 1000};
  CHECK(global_batch(ramp, 0, 4) == 4);
  CHECK(global_batch(ramp, 500, 4) == 16);
  CHECK(global_batch(ramp, 1000, 4) == 32);
  CHECK(global_batch(ramp, 1 << 30, 4) == 32);
  CHECK(global_batch({8, 8, 0}, 12345, 4) == 8);
  int64_t before = 0;
  for (int64_t tokens = 0; tokens <= 1100; ++tokens) {
    const int64_t now = global_batch(ramp, tokens, 4);
    REQUIRE(now % 4 == 0);
    REQUIRE(now >= before);
    REQUIRE(now <= 32);
    before = now;
  }
  // A ramp may also shrink.
  CHECK(global_batch({32, 4, 1000}, 0, 4) == 32);
  CHECK(global_batch({32, 4, 1000}, 1000, 4) == 4);
}
