// The pool gives every task to one worker once, `each` to every worker once, and its barrier parts what comes before
// from what comes after; for one thread, as many as cores, and more than cores; with and without pinning.
#include <catch2/catch.hpp>

#include <sched.h>

#include <atomic>
#include <thread>
#include <vector>

#include "core/run/pool.h"

using namespace kumiki;

namespace {

const uint32_t kThreads[] = {1, 2, 5};

struct Counts {
  explicit Counts(uint32_t n) : of(n) {}
  std::vector<std::atomic<uint32_t>> of;
  std::atomic<uint32_t> strangers{0}; // calls with a worker that does not exist
  uint32_t workers = 0;
};

// Workers that run at the same time must be different ones: each says when it is inside.
void count(void* context, uint32_t task, uint32_t worker) {
  Counts& counts = *static_cast<Counts*>(context);
  counts.of[task].fetch_add(1, std::memory_order_relaxed);
  if (worker >= counts.workers) counts.strangers.fetch_add(1);
}

} // namespace

TEST_CASE("every task runs once, by a worker of the pool") {
  for (uint32_t threads : kThreads) {
    for (bool pin : {false, true}) {
      Pool pool(threads, pin);
      REQUIRE(pool.threads() == threads);
      for (uint32_t tasks : {0u, 1u, 2u, 3u, 17u, 1000u}) {
        Counts counts(tasks);
        counts.workers = threads;
        pool.run(tasks, count, &counts);
        CAPTURE(threads, pin, tasks);
        uint32_t right = 0;
        for (const auto& n : counts.of) right += n == 1;
        CHECK(right == tasks);
        CHECK(counts.strangers == 0);
      }
    }
  }
}

TEST_CASE("what tasks wrote is seen after run, thousands of times over") {
  for (uint32_t threads : kThreads) {
    Pool pool(threads);
    struct Sums {
      uint64_t of[7] = {};
    } sums;
    constexpr uint64_t kRuns = 4000;
    for (uint64_t i = 0; i < kRuns; ++i) // plain memory: a race would show under TSan, a lost task in the sums
      pool.run(
          7, [](void* c, uint32_t task, uint32_t) { static_cast<Sums*>(c)->of[task] += task + 1; }, &sums);
    CAPTURE(threads);
    for (uint64_t t = 0; t < 7; ++t) CHECK(sums.of[t] == kRuns * (t + 1));
  }
}

TEST_CASE("workers that fell asleep wake up again") {
  Pool pool(2);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1)); // longer than they spin
    Counts counts(3);
    counts.workers = 2;
    pool.run(3, count, &counts);
    for (const auto& n : counts.of) CHECK(n == 1);
  }
}

TEST_CASE("each runs once on every worker") {
  for (uint32_t threads : kThreads) {
    Pool pool(threads);
    struct Seen {
      std::vector<std::thread::id> thread;
      std::vector<uint32_t> calls;
    } seen{std::vector<std::thread::id>(threads), std::vector<uint32_t>(threads)};
    constexpr uint32_t kRuns = 500;
    for (uint32_t i = 0; i < kRuns; ++i) {
      pool.each(
          [](void* c, uint32_t task, uint32_t worker) {
            Seen& s = *static_cast<Seen*>(c);
            if (task != worker) return;
            ++s.calls[worker];
            s.thread[worker] = std::this_thread::get_id();
          },
          &seen);
    }
    CAPTURE(threads);
    CHECK(seen.calls == std::vector<uint32_t>(threads, kRuns));
    CHECK(seen.thread[0] == std::this_thread::get_id());
    for (uint32_t a = 0; a < threads; ++a)
      for (uint32_t b = a + 1; b < threads; ++b) CHECK(seen.thread[a] != seen.thread[b]);
  }
}

TEST_CASE("the barrier parts phases") {
  for (uint32_t threads : kThreads) {
    Pool pool(threads);
    struct Phases {
      Pool* pool;
      std::vector<uint32_t> at; // phase that a worker has written, plain memory
      std::atomic<uint32_t> wrong{0};
    } phases{&pool, std::vector<uint32_t>(threads, 0), {}};
    const auto task = [](void* c, uint32_t, uint32_t worker) {
      Phases& p = *static_cast<Phases*>(c);
      for (uint32_t phase = 1; phase <= 200; ++phase) {
        p.at[worker] = phase;
        p.pool->barrier();
        for (uint32_t other : p.at) p.wrong += other != phase;
        p.pool->barrier();
      }
    };
    pool.each(task, &phases);
    CAPTURE(threads);
    CHECK(phases.wrong == 0);
    CHECK(phases.at == std::vector<uint32_t>(threads, 200));
  }
}
