#include "core/run/pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <chrono>

#include "core/base/pause.h"
#include "core/base/threads.h"
#include "core/plugin/host.h"

namespace kumiki {
namespace {

constexpr auto kSpin = std::chrono::microseconds(50);

// Spins until done() or until 50 µs have passed; true if done.
template <typename Done>
bool spin_until(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      pause();
    }
    if (std::chrono::steady_clock::now() > end) return false;
  }
}

} // namespace

void flush_denormals() {
#if defined(__x86_64__)
  _mm_setcsr(_mm_getcsr() | 0x8040); // FTZ | DAZ
#elif defined(__aarch64__)
  uint64_t fpcr;
  asm volatile("mrs %0, fpcr" : "=r"(fpcr));
  asm volatile("msr fpcr, %0" ::"r"(fpcr | (uint64_t{1} << 24)));
#endif
}

Pool::Pool(uint32_t threads, bool pin, const std::vector<int>& cores) {
  if (threads == 0) threads = std::max(1u, static_cast<uint32_t>(cores.size()));
  // More threads than cores: pinning and spinning would only keep others from running.
  if (threads > cores.size()) pin = spin_ = false;
  flush_denormals();
  pinned_ = pin;
  if (pin) run_on_core(cores[0]);
  for (uint32_t w = 1; w < threads; ++w) {
    workers_.push_back(start_thread([this, w, pin, core = cores.empty() ? 0 : cores[w % cores.size()]] {
      if (pin) run_on_core(core);
      flush_denormals();
      work(w);
    }));
  }
}

Pool::~Pool() {
  stop_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  if (pinned_) run_on_any_core();
}

void Pool::drain(uint32_t worker) {
  if (each_) {
    task_(context_, worker, worker);
    return;
  }
  for (uint32_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) task_(context_, i, worker);
}

void Pool::work(uint32_t worker) {
  uint32_t seen = 0;
  for (;;) {
    const auto changed = [&] { return generation_.load(std::memory_order_acquire) != seen; };
    if (!(spin_ && spin_until(changed))) {
      sleepers_.fetch_add(1);
      while (!changed()) generation_.wait(seen);
      sleepers_.fetch_sub(1);
    }
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    drain(worker);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1 && !spin_) busy_.notify_one();
  }
}

void Pool::start() {
  next_.store(0, std::memory_order_relaxed);
  busy_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1); // sequentially consistent, so that either we see the sleeper or it sees the number
  if (!spin_ || sleepers_.load() != 0) generation_.notify_all();
}

void Pool::finish() {
  while (busy_.load(std::memory_order_acquire) != 0) {
    if (spin_) {
      pause();
    } else {
      const uint32_t busy = busy_.load(std::memory_order_acquire);
      if (busy != 0) busy_.wait(busy);
    }
  }
}

void Pool::run(uint32_t tasks, km_task task, void* context) {
  if (workers_.empty() || tasks <= 1) {
    for (uint32_t i = 0; i < tasks; ++i) task(context, i, 0);
    return;
  }
  task_ = task;
  context_ = context;
  tasks_ = tasks;
  each_ = false;
  start();
  drain(0);
  finish();
}

void Pool::each(km_task task, void* context) {
  if (workers_.empty()) {
    task(context, 0, 0);
    return;
  }
  task_ = task;
  context_ = context;
  each_ = true;
  start();
  drain(0);
  finish();
}

void Pool::barrier() {
  const uint32_t all = threads();
  if (all == 1) return;
  const uint32_t phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == all) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.fetch_add(1, std::memory_order_release);
    phase_.notify_all();
  } else {
    while (phase_.load(std::memory_order_acquire) == phase) {
      if (spin_)
        pause();
      else
        phase_.wait(phase);
    }
  }
}

const km_parallel* Pool::service() {
  static const km_parallel table = {
      sizeof(km_parallel),
      0,
      [](const km_host* host) { return Host::from(host)->context<Pool>()->threads(); },
      [](const km_host* host, uint32_t tasks, km_task task, void* context) {
        Host::from(host)->context<Pool>()->run(tasks, task, context);
      },
      [](const km_host* host, km_task task, void* context) { Host::from(host)->context<Pool>()->each(task, context); },
      [](const km_host* host) { Host::from(host)->context<Pool>()->barrier(); },
  };
  return &table;
}

} // namespace kumiki
