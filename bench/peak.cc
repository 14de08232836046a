// What this machine can do at most: multiply-adds in f32 and bf16 by a loop of independent FMAs in registers, and memory
// bandwidth by a triad, on all threads at once. Prints one line of JSON. The roof that bench/train divides by.
//
//   bazel run //bench:peak            (or: bench/train, which builds and runs it)
//
// The loops are assembly, so that no compiler optimizes them away or spills: 12 accumulators, enough for the latency of any
// FMA unit of two pipes up to 6 cycles.
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr long kLoops = 40'000'000;
constexpr int kAccumulators = 12;

#define KM_TWELVE(op, r)                                                                                           \
  op " %%" r "12, %%" r "13, %%" r "0\n" op " %%" r "12, %%" r "13, %%" r "1\n" op " %%" r "12, %%" r "13, %%" r   \
     "2\n" op " %%" r "12, %%" r "13, %%" r "3\n" op " %%" r "12, %%" r "13, %%" r "4\n" op " %%" r "12, %%" r     \
     "13, %%" r "5\n" op " %%" r "12, %%" r "13, %%" r "6\n" op " %%" r "12, %%" r "13, %%" r "7\n" op " %%" r     \
     "12, %%" r "13, %%" r "8\n" op " %%" r "12, %%" r "13, %%" r "9\n" op " %%" r "12, %%" r "13, %%" r "10\n" op \
     " %%" r "12, %%" r "13, %%" r "11\n"
#define KM_CLOBBERS \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13"

void zero_registers() {
  asm volatile(
      "vpxor %%xmm0,%%xmm0,%%xmm0\n vpxor %%xmm1,%%xmm1,%%xmm1\n vpxor %%xmm2,%%xmm2,%%xmm2\n vpxor "
      "%%xmm3,%%xmm3,%%xmm3\n"
      "vpxor %%xmm4,%%xmm4,%%xmm4\n vpxor %%xmm5,%%xmm5,%%xmm5\n vpxor %%xmm6,%%xmm6,%%xmm6\n vpxor "
      "%%xmm7,%%xmm7,%%xmm7\n"
      "vpxor %%xmm8,%%xmm8,%%xmm8\n vpxor %%xmm9,%%xmm9,%%xmm9\n vpxor %%xmm10,%%xmm10,%%xmm10\n"
      "vpxor %%xmm11,%%xmm11,%%xmm11\n vpxor %%xmm12,%%xmm12,%%xmm12\n vpxor %%xmm13,%%xmm13,%%xmm13\n" ::
          : KM_CLOBBERS);
}

void fma_avx512(long loops) {
  asm volatile("1:\n" KM_TWELVE("vfmadd231ps", "zmm") "dec %0\n jnz 1b\n" : "+r"(loops)::KM_CLOBBERS, "cc");
}
void fma_avx2(long loops) {
  asm volatile("1:\n" KM_TWELVE("vfmadd231ps", "ymm") "dec %0\n jnz 1b\n" : "+r"(loops)::KM_CLOBBERS, "cc");
}
void dot_bf16(long loops) {
  asm volatile("1:\n" KM_TWELVE("vdpbf16ps", "zmm") "dec %0\n jnz 1b\n" : "+r"(loops)::KM_CLOBBERS, "cc");
}

void pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

// Seconds that body(thread) takes on all cores at once: the best of three.
template <typename Body>
double best_seconds(const std::vector<int>& cores, const Body& body) {
  double best = 1e30;
  for (int round = 0; round < 3; ++round) {
    std::atomic<size_t> ready{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < cores.size(); ++t) {
      threads.emplace_back([&, t] {
        pin(cores[t]);
        ready.fetch_add(1);
        while (!go.load()) {
        }
        body(t);
      });
    }
    while (ready.load() != cores.size()) std::this_thread::yield();
    const auto begin = Clock::now();
    go.store(true);
    for (std::thread& thread : threads) thread.join();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

__attribute__((noinline)) void triad(float* a, const float* b, const float* c, size_t n, float s) {
  for (size_t i = 0; i < n; ++i) a[i] = b[i] + s * c[i];
}

} // namespace

int main() {
  std::vector<int> cores;
  cpu_set_t set;
  sched_getaffinity(0, sizeof set, &set);
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) cores.push_back(i);

  const bool avx512 = __builtin_cpu_supports("avx512f");
  const bool bf16 = __builtin_cpu_supports("avx512bf16");
  const double threads = static_cast<double>(cores.size());
  const double fma = best_seconds(cores, [&](size_t) {
    zero_registers();
    avx512 ? fma_avx512(kLoops) : fma_avx2(kLoops);
  });
  const double f32_flops = threads * kLoops * kAccumulators * (avx512 ? 32.0 : 16.0) / fma;
  double bf16_flops = 0;
  if (bf16) {
    const double seconds = best_seconds(cores, [&](size_t) {
      zero_registers();
      dot_bf16(kLoops);
    });
    bf16_flops = threads * kLoops * kAccumulators * 64.0 / seconds;
  }
  const size_t n = size_t{1} << 25; // 128 MB an array and thread, far beyond caches
  std::vector<std::vector<float>> arrays(cores.size() * 3);
  best_seconds(cores, [&](size_t t) {
    for (size_t k = 0; k < 3; ++k)
      if (arrays[t * 3 + k].empty()) arrays[t * 3 + k].assign(n, 1.0f);
  });
  const double copy = best_seconds(cores, [&](size_t t) {
    triad(arrays[t * 3].data(), arrays[t * 3 + 1].data(), arrays[t * 3 + 2].data(), n, 0.5f);
  });
  std::printf("{\"threads\": %zu, \"f32_gflops\": %.1f, \"bf16_gflops\": %.1f, \"triad_gb_per_second\": %.1f}\n",
              cores.size(), f32_flops * 1e-9, bf16_flops * 1e-9, threads * 12.0 * static_cast<double>(n) / copy * 1e-9);
}
