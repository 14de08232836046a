/* Dropout by Philox4x32-10 (Salmon et al. 2011; docs/ops.md): four vectors of counters at a time, each giving the words
 * of four vectors of elements. A round of one vector of counters is a chain of 13 cycles on A64FX; four of them fill
 * both pipes. */
#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

using U = svuint32_t;

constexpr int kRounds = 10;
constexpr int64_t kCounters = 4; /* vectors of them; each makes four vectors of elements */

/* What stands for all elements of a sample: the round keys, and the counter's upper half. */
struct Draws {
  uint32_t key0[kRounds], key1[kRounds];
  uint32_t sample0, sample1;

  explicit Draws(const Dropout& d)
      : sample0(static_cast<uint32_t>(d.sample)), sample1(static_cast<uint32_t>(d.sample >> 32)) {
    uint32_t k0 = static_cast<uint32_t>(d.seed) ^ d.stream, k1 = static_cast<uint32_t>(d.seed >> 32);
    for (int r = 0; r < kRounds; ++r, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      key0[r] = k0;
      key1[r] = k1;
    }
  }
};

/* The low words of `counter`, counter + 1, ..., and their high words: the low one may wrap inside the vector. */
inline U low_words(uint64_t counter) { return svindex_u32(static_cast<uint32_t>(counter), 1); }
inline U high_words(uint64_t counter, U low) {
  const svbool_t wrapped = svcmplt(all(), low, static_cast<uint32_t>(counter));
  const U high = svdup_u32(static_cast<uint32_t>(counter >> 32));
  return svadd_m(wrapped, high, 1u);
}

struct Kept {
  uint32_t threshold;
  bool none; /* threshold 2^32 */
  float factor;
};

/* y = x factor where a word reaches the threshold, else 0: the `left` elements of a vector, or all of them. */
template <bool kWhole>
inline void keep(const Kept& k, U words, const float* x, float* y, int64_t left) {
  const svbool_t p = kWhole ? all() : first(left);
  const svbool_t kept = k.none ? svpfalse_b() : svcmpge(p, words, k.threshold);
  svst1(p, y, svmul_z(kept, svld1(p, x), k.factor));
}

/* The words of lane i, c0 … c3, belong to elements 4 i … 4 i + 3: two levels of ZIP put them in that order. */
template <bool kWhole>
inline void keep_four(const Kept& k, U c0, U c1, U c2, U c3, const float* x, float* y, int64_t left) {
  const int64_t n = lanes();
  const U even0 = svzip1(c0, c2), even1 = svzip2(c0, c2), odd0 = svzip1(c1, c3), odd1 = svzip2(c1, c3);
  keep<kWhole>(k, svzip1(even0, odd0), x, y, left);
  keep<kWhole>(k, svzip2(even0, odd0), x + n, y + n, left - n);
  keep<kWhole>(k, svzip1(even1, odd1), x + 2 * n, y + 2 * n, left - 2 * n);
  keep<kWhole>(k, svzip2(even1, odd1), x + 3 * n, y + 3 * n, left - 3 * n);
}

/* kCounters vectors of counters from `counter` on, and the elements that they decide on. An address past `left` is made
 * but not used. */
template <bool kWhole>
inline void draw(const Draws& d, const Kept& k, uint64_t counter, const float* x, float* y, int64_t left) {
  const int64_t n = lanes();
  const svbool_t p = all();
  const U m0 = svdup_u32(0xD2511F53u), m1 = svdup_u32(0xCD9E8D57u);
#define KM_EACH(DO) DO(0) DO(1) DO(2) DO(3)
#define KM_BEGIN(i)                                          \
  const uint64_t at##i = counter + i * uint64_t(n);          \
  U a##i = low_words(at##i), b##i = high_words(at##i, a##i); \
  U c##i = svdup_u32(d.sample0), e##i = svdup_u32(d.sample1);
  KM_EACH(KM_BEGIN)
  for (int r = 0; r < kRounds; ++r) {
    const U k0 = svdup_u32(d.key0[r]), k1 = svdup_u32(d.key1[r]);
#define KM_ROUND(i)                                                       \
  {                                                                       \
    const U high0 = svmulh_x(p, a##i, m0), high1 = svmulh_x(p, c##i, m1); \
    const U low0 = svmul_x(p, a##i, m0), low1 = svmul_x(p, c##i, m1);     \
    a##i = sveor_x(p, sveor_x(p, b##i, k0), high1), b##i = low1;          \
    c##i = sveor_x(p, sveor_x(p, e##i, k1), high0), e##i = low0;          \
  }
    KM_EACH(KM_ROUND)
  }
#define KM_KEEP(i) keep_four<kWhole>(k, a##i, b##i, c##i, e##i, x + i * 4 * n, y + i * 4 * n, left - i * 4 * n);
  KM_EACH(KM_KEEP)
#undef KM_KEEP
#undef KM_ROUND
#undef KM_BEGIN
#undef KM_EACH
}

} // namespace

void dropout(const Dropout& parameters, int64_t begin, const float* x, float* y, int64_t n) {
  const Draws draws(parameters);
  const Kept kept{static_cast<uint32_t>(parameters.threshold), parameters.threshold > 0xffffffffu, parameters.factor};
  const int64_t step = 4 * kCounters * lanes();
  uint64_t counter = static_cast<uint64_t>(begin) / 4;
  int64_t i = 0;
  for (; i + step <= n; i += step, counter += static_cast<uint64_t>(step) / 4)
    draw<true>(draws, kept, counter, x + i, y + i, step);
  if (i < n) draw<false>(draws, kept, counter, x + i, y + i, n - i);
}

} // namespace kumiki::sve
