// The loops are assembly, so that no compiler optimizes them away or spills. Each accumulator waits for itself only:
// there are enough of them for the latency times the pipes of what exists (12 on x86: 4 to 6 cycles, two pipes; 20 on
// Arm: 9 cycles, two pipes).
#include "core/base/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <thread>

#include "core/base/cores.h"
#include "core/base/threads.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace kumiki {
namespace {

using Clock = std::chrono::steady_clock;

// A loop of multiply-adds: body(loops), and how many operations one pass of it makes.
struct Loop {
  std::string name = "none";
  void (*body)(long loops) = nullptr;
  double operations = 0;
  int lanes = 0;
};

constexpr long kLoops = 20'000'000;

#if defined(__x86_64__)

#define KM_TWELVE(op, r)                                                                                           \
  op " %%" r "12, %%" r "13, %%" r "0\n" op " %%" r "12, %%" r "13, %%" r "1\n" op " %%" r "12, %%" r "13, %%" r   \
     "2\n" op " %%" r "12, %%" r "13, %%" r "3\n" op " %%" r "12, %%" r "13, %%" r "4\n" op " %%" r "12, %%" r     \
     "13, %%" r "5\n" op " %%" r "12, %%" r "13, %%" r "6\n" op " %%" r "12, %%" r "13, %%" r "7\n" op " %%" r     \
     "12, %%" r "13, %%" r "8\n" op " %%" r "12, %%" r "13, %%" r "9\n" op " %%" r "12, %%" r "13, %%" r "10\n" op \
     " %%" r "12, %%" r "13, %%" r "11\n"
#define KM_ZERO(n) "vpxor %%xmm" n ", %%xmm" n ", %%xmm" n "\n"
#define KM_ZEROS \
  KM_ZERO("0")   \
  KM_ZERO("1")   \
  KM_ZERO("2")   \
  KM_ZERO("3")   \
  KM_ZERO("4")   \
  KM_ZERO("5")   \
  KM_ZERO("6") KM_ZERO("7") KM_ZERO("8") KM_ZERO("9") KM_ZERO("10") KM_ZERO("11") KM_ZERO("12") KM_ZERO("13")
#define KM_LOOP(name, op, r)                                                                                    \
  void name(long loops) {                                                                                       \
    asm volatile(KM_ZEROS "1:\n" KM_TWELVE(op, r) "dec %0\n jnz 1b\n vzeroupper\n"                              \
                 : "+r"(loops)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                   "xmm10", "xmm11", "xmm12", "xmm13", "cc");                                                   \
  }
KM_LOOP(fma_avx512, "vfmadd231ps", "zmm")
KM_LOOP(fma_avx2, "vfmadd231ps", "ymm")
KM_LOOP(dot_bf16, "vdpbf16ps", "zmm")

Loop f32_loop() {
  if (__builtin_cpu_supports("avx512f")) return {"AVX-512", fma_avx512, 12 * 16 * 2, 16};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {"AVX2", fma_avx2, 12 * 8 * 2, 8};
  return {};
}
Loop bf16_loop() {
  if (__builtin_cpu_supports("avx512bf16")) return {"AVX512-BF16", dot_bf16, 12 * 32 * 2, 0};
  return {};
}

#elif defined(__aarch64__)

#define KM_FOUR(f, a, b, c, d) f(a) f(b) f(c) f(d)
#define KM_TWENTY(f)             \
  KM_FOUR(f, "0", "1", "2", "3") \
  KM_FOUR(f, "4", "5", "6", "7") \
  KM_FOUR(f, "8", "9", "10", "11") KM_FOUR(f, "12", "13", "14", "15") KM_FOUR(f, "16", "17", "18", "19")
#define KM_ZERO(n) "movi v" n ".4s, #0\n"
#define KM_NEON(n) "fmla v" n ".4s, v20.4s, v21.4s\n"
#define KM_SVE(n) "fmla z" n ".s, p0/m, z20.s, z21.s\n"
#define KM_CLOBBERS                                                                                                   \
  "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", \
      "v18", "v19", "v20", "v21", "cc"

void fma_neon(long loops) {
  asm volatile(KM_TWENTY(KM_ZERO) KM_ZERO("20") KM_ZERO("21") "1:\n" KM_TWENTY(KM_NEON) "subs %0, %0, #1\n b.ne 1b\n"
               : "+r"(loops)::KM_CLOBBERS);
}
void fma_sve(long loops) {
  asm volatile(".arch_extension sve\n ptrue p0.s\n" KM_TWENTY(KM_ZERO) KM_ZERO("20")
                   KM_ZERO("21") "1:\n" KM_TWENTY(KM_SVE) "subs %0, %0, #1\n b.ne 1b\n"
               : "+r"(loops)::KM_CLOBBERS);
}
long sve_bytes() {
  long bytes = 0;
  asm volatile(".arch_extension sve\n rdvl %0, #1\n" : "=r"(bytes));
  return bytes;
}

#define KM_ADD(n) "add %1, %1, #1\n"
void additions(long loops) {
  long sum = 0;
  asm volatile("1:\n" KM_TWENTY(KM_ADD) "subs %0, %0, #1\n b.ne 1b\n" : "+r"(loops), "+r"(sum)::"cc");
}

constexpr unsigned long kHasSve = 1ul << 22; // HWCAP_SVE

Loop f32_loop() {
  if ((getauxval(AT_HWCAP) & kHasSve) == 0) return {"NEON", fma_neon, 20 * 4 * 2, 4};
  const long bytes = sve_bytes();
  return {"SVE " + std::to_string(bytes * 8), fma_sve, static_cast<double>(20 * bytes / 4 * 2),
          static_cast<int>(bytes / 4)};
}
Loop bf16_loop() { return {}; }

#else
Loop f32_loop() { return {}; }
Loop bf16_loop() { return {}; }
#endif

// Seconds that body(number) takes on all cores at once: the best of three.
double best_seconds(const std::vector<int>& cores, const std::function<void(size_t)>& body) {
  double best = 1e30;
  for (int round = 0; round < 3; ++round) {
    std::atomic<size_t> ready{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < cores.size(); ++t) {
      threads.push_back(start_thread([&, t] {
        run_on_core(cores[t]);
        ready.fetch_add(1);
        while (!go.load()) {
        }
        body(t);
      }));
    }
    while (ready.load() != cores.size()) std::this_thread::yield();
    const auto begin = Clock::now();
    go.store(true);
    for (std::thread& thread : threads) thread.join();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

double peak(const Loop& loop, const std::vector<int>& cores) {
  if (!loop.body || cores.empty()) return 0;
  const double seconds = best_seconds(cores, [&](size_t) { loop.body(kLoops); });
  return static_cast<double>(cores.size()) * static_cast<double>(kLoops) * loop.operations / seconds;
}

__attribute__((noinline)) void triad(float* a, const float* b, const float* c, size_t n, float s) {
  for (size_t i = 0; i < n; ++i) a[i] = b[i] + s * c[i];
}

} // namespace

int f32_lanes() { return f32_loop().lanes; }

double clock_hertz([[maybe_unused]] int core) {
#if defined(__aarch64__)
  constexpr long kAdditions = 10'000'000;
  return 20.0 * kAdditions / best_seconds({core}, [](size_t) { additions(kAdditions); });
#else
  return 0;
#endif
}

std::string peak_instructions() { return f32_loop().name; }
double f32_peak(const std::vector<int>& cores) { return peak(f32_loop(), cores); }
double bf16_peak(const std::vector<int>& cores) { return peak(bf16_loop(), cores); }

double memory_peak(const std::vector<int>& cores) {
  if (cores.empty()) return 0;
  constexpr size_t kAllElements = 100'000'000; // of each of the three arrays, over all cores
  const size_t n = kAllElements / cores.size();
  std::vector<std::vector<float>> arrays(cores.size() * 3);
  for (std::vector<float>& array : arrays) array.reserve(n);
  best_seconds(cores, [&](size_t t) { // each core touches its part first: the pages lie near it
    for (size_t k = 0; k < 3; ++k) arrays[t * 3 + k].assign(n, 1.0f);
  });
  const double seconds = best_seconds(cores, [&](size_t t) {
    triad(arrays[t * 3].data(), arrays[t * 3 + 1].data(), arrays[t * 3 + 2].data(), n, 0.5f);
  });
  return static_cast<double>(cores.size()) * 3.0 * sizeof(float) * static_cast<double>(n) / seconds;
}

} // namespace kumiki
