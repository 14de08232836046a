#include "plugins/kernels/generic/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "plugins/kernels/generic/attention/attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "plugins/kernels/generic/attention/attention.h"
#include "plugins/kernels/generic/gemm/microkernel-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kumiki::generic {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kBlock = kAttentionBlock;
constexpr float kMasked = -1.0e30f;

int64_t PaddedWidth(int64_t width) { return (width + lanes() - 1) / lanes() * lanes(); }
HWY_INLINE int64_t round_up(int64_t n) { return PaddedWidth(n); }

/* Operands of a product of blocks: c [rows, columns] (+)= a b with a(i, k) = a[i * a_row + k * a_k]. */
struct BlockProduct {
  const float* a;
  int64_t a_row, a_k;
  const float* b;
  int64_t b_row;
  float* c;
  int64_t c_row;
  bool add;
};

/* The whole product, but for tiles that `range` leaves out: range(i, rows, j, columns, k0, k1) may narrow [k0, k1)
 * for a tile, which is skipped where nothing is left (then c stays as it was). */
template <class Range>
HWY_INLINE void block_product(const BlockProduct& p, int64_t rows, int64_t columns, int64_t k, const Range& range) {
  const int64_t n = lanes();
  for (int64_t j = 0; j < columns;) {
    const int64_t left = (columns - j) / n;
    const int vectors = static_cast<int>(left == 4 ? 2 : std::min<int64_t>(left, 3)); // 4 = 2 + 2, not 3 + 1
    for (int64_t i = 0; i < rows;) {
      const int height = tile_rows(rows - i);
      int64_t k0 = 0, k1 = k;
      range(i, height, j, vectors * n, k0, k1);
      if (k0 < k1) {
        float* c = p.c + i * p.c_row + j;
        tile_of(height, vectors)(1, k1 - k0, p.a + i * p.a_row + k0 * p.a_k, p.a_row, p.a_k, 0, p.b + k0 * p.b_row + j,
                                 p.b_row, p.add ? c : nullptr, c, p.c_row);
      }
      i += height;
    }
    j += vectors * n;
  }
}

/* Copies rows of `width` floats to rows of `to_pitch` floats, zero past width, times factor. */
void copy_rows(const float* from, int64_t pitch, int64_t rows, int64_t width, float factor, float* to,
               int64_t to_pitch) {
  const V f = set(factor);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < to_pitch; j += lanes())
      hn::StoreU(hn::Mul(f, load_upto(from + i * pitch + j, width - j)), F(), to + i * to_pitch + j);
}

/* to [width, kBlock] = transpose of `rows` <= kBlock rows; columns past `rows` zero. */
void copy_transposed(const float* from, int64_t pitch, int64_t rows, int64_t width, float* to) {
  if (rows < kBlock) std::memset(to, 0, static_cast<size_t>(width * kBlock) * sizeof(float));
  transpose(from, pitch, rows, width, to, kBlock);
}

HWY_INLINE V iota(int64_t first) { return hn::Iota(F(), static_cast<float>(first)); }

/* 1 where the segment of key or query `mine` is that of the `count` tokens at others. */
HWY_INLINE auto same_segment(int32_t mine, const int32_t* others, int64_t count) {
  const F d;
  const hn::RebindToSigned<F> di;
  HWY_ALIGN int32_t buffer[HWY_MAX_BYTES / sizeof(int32_t)];
  if (count >= lanes()) return hn::RebindMask(d, hn::Eq(hn::LoadU(di, others), hn::Set(di, mine)));
  std::memset(buffer, 0, sizeof buffer);
  std::memcpy(buffer, others, static_cast<size_t>(std::max<int64_t>(0, count)) * sizeof(int32_t));
  return hn::RebindMask(d, hn::Eq(hn::Load(di, buffer), hn::Set(di, mine)));
}

/* Whether two runs of tokens can share a segment: the ranges of their numbers meet. */
bool segments_meet(const int32_t* a, int64_t n, const int32_t* b, int64_t m) {
  const auto x = std::minmax_element(a, a + n), y = std::minmax_element(b, b + m);
  return *x.first <= *y.second && *y.first <= *x.second;
}

int64_t ForwardScratch(int64_t width, int64_t keys) {
  const int64_t w = round_up(width);
  return 2 * keys * w + width * kBlock + kBlock * kBlock + kBlock * w + 3 * kBlock;
}

/* Scores stand transposed, [keys][queries]: maximum and sum of a query run down a column, without horizontal steps. */
void Forward(const AttentionHead& h, int64_t begin, int64_t end, float* scratch) {
  const F d;
  const int64_t n = lanes(), w = round_up(h.width);
  const int64_t reach = std::min(h.keys, h.past + end);
  float* keys = scratch;
  float* values = keys + h.keys * w;
  float* queries = values + h.keys * w; // [width][kBlock]
  float* scores = queries + h.width * kBlock;
  float* output = scores + kBlock * kBlock;
  float* maxima = output + kBlock * w;
  float* sums = maxima + kBlock;
  float* factors = sums + kBlock;

  // A few queries read each key once: no copy, if rows are whole vectors.
  const bool direct = w == h.width && end - begin <= 8;
  const float *k = h.k, *v = h.v;
  int64_t pitch = h.k_pitch;
  if (!direct) {
    copy_rows(h.k, h.k_pitch, reach, h.width, 1.0f, keys, w);
    copy_rows(h.v, h.k_pitch, reach, h.width, 1.0f, values, w);
    k = keys;
    v = values;
    pitch = w;
  }

  for (int64_t q0 = begin; q0 < end; q0 += kBlock) {
    const int64_t nq = std::min(kBlock, end - q0), columns = round_up(nq);
    copy_transposed(h.q + q0 * h.q_pitch, h.q_pitch, nq, h.width, queries);
    for (int64_t i = 0; i < h.width * kBlock; i += n)
      hn::StoreU(hn::Mul(hn::LoadU(d, queries + i), hn::Set(d, h.scale)), d, queries + i);
    for (int64_t i = 0; i < kBlock; ++i) {
      maxima[i] = kMasked;
      sums[i] = 0.0f;
    }
    const int64_t last = std::min(reach, h.past + q0 + nq);
    bool first = true;
    for (int64_t k0 = 0; k0 < last; k0 += kBlock) {
      const int64_t nk = std::min(kBlock, last - k0);
      const int64_t shift = k0 - (h.past + q0); // key r is seen by the queries c >= r + shift
      const bool partly = nk - 1 + shift > 0;
      if (h.key_segments && !segments_meet(h.key_segments + k0, nk, h.query_segments + q0, nq)) continue;

      block_product({k + k0 * pitch, pitch, 1, queries, kBlock, scores, kBlock, false}, nk, columns, h.width,
                    [&](int64_t i, int64_t, int64_t j, int64_t count, int64_t&, int64_t& k1) {
                      if (j + count - 1 < i + shift) k1 = 0;
                    });
      if (partly || h.key_segments) {
        for (int64_t r = 0; r < nk; ++r) {
          float* row = scores + r * kBlock;
          for (int64_t j = 0; j < columns; j += n) {
            if (!h.key_segments && j >= r + shift) break;
            auto seen = hn::Ge(iota(j), hn::Set(d, static_cast<float>(r + shift)));
            if (h.key_segments)
              seen = hn::And(seen, same_segment(h.key_segments[k0 + r], h.query_segments + q0 + j, nq - j));
            hn::StoreU(hn::IfThenElse(seen, hn::LoadU(d, row + j), hn::Set(d, kMasked)), d, row + j);
          }
        }
      }

      for (int64_t j = 0; j < columns; j += n) {
        const V before = hn::LoadU(d, maxima + j);
        V m = before, m1 = before;
        int64_t r = 0;
        for (; r + 2 <= nk; r += 2) {
          m = hn::Max(m, hn::LoadU(d, scores + r * kBlock + j));
          m1 = hn::Max(m1, hn::LoadU(d, scores + (r + 1) * kBlock + j));
        }
        if (r < nk) m = hn::Max(m, hn::LoadU(d, scores + r * kBlock + j));
        m = hn::Max(m, m1);
        const V factor = exp_fast(hn::Sub(before, m));
        V s = hn::Mul(factor, hn::LoadU(d, sums + j)), s1 = hn::Zero(d);
        for (r = 0; r + 2 <= nk; r += 2) {
          float* x = scores + r * kBlock + j;
          const V e0 = exp_fast(hn::Sub(hn::LoadU(d, x), m)), e1 = exp_fast(hn::Sub(hn::LoadU(d, x + kBlock), m));
          hn::StoreU(e0, d, x);
          hn::StoreU(e1, d, x + kBlock);
          s = hn::Add(s, e0);
          s1 = hn::Add(s1, e1);
        }
        if (r < nk) {
          float* x = scores + r * kBlock + j;
          const V e = exp_fast(hn::Sub(hn::LoadU(d, x), m));
          hn::StoreU(e, d, x);
          s = hn::Add(s, e);
        }
        hn::StoreU(m, d, maxima + j);
        hn::StoreU(hn::Add(s, s1), d, sums + j);
        hn::StoreU(factor, d, factors + j);
      }
      if (!first)
        for (int64_t i = 0; i < nq; ++i) {
          if (factors[i] == 1.0f) continue;
          const V f = hn::Set(d, factors[i]);
          for (int64_t j = 0; j < w; j += n)
            hn::StoreU(hn::Mul(f, hn::LoadU(d, output + i * w + j)), d, output + i * w + j);
        }
      // keys beyond the diagonal weigh exactly 0; a tile of queries stops at the last key that it sees
      block_product({scores, 1, kBlock, v + k0 * pitch, pitch, output, w, !first}, nq, w, nk,
                    [&](int64_t i, int64_t height, int64_t, int64_t, int64_t&, int64_t& k1) {
                      k1 = std::max<int64_t>(1, std::min(k1, i + height - shift));
                    });
      first = false;
    }
    for (int64_t i = 0; i < nq; ++i) {
      float* to = h.o + (q0 + i) * h.q_pitch;
      if (maxima[i] <= kMasked) { // it sees no key
        h.lse[q0 + i] = -INFINITY;
        std::memset(to, 0, static_cast<size_t>(h.width) * sizeof(float));
        continue;
      }
      h.lse[q0 + i] = maxima[i] + std::log(sums[i]);
      const V f = hn::Set(d, 1.0f / sums[i]);
      for (int64_t j = 0; j < w; j += n) store_upto(hn::Mul(f, hn::LoadU(d, output + i * w + j)), to + j, h.width - j);
    }
  }
}

int64_t BackwardScratch(int64_t width, int64_t keys) {
  const int64_t w = round_up(width), blocks = (keys + kBlock - 1) / kBlock;
  return 3 * keys * w + 2 * blocks * kBlock * width + 3 * kBlock * w + 2 * kBlock * kBlock + kBlock;
}

/* One block of scores [queries][keys] becomes p = e^(s - lse) and, from dp, ds = p (dp - delta), masked. */
HWY_INLINE void block_gradient(const AttentionHead& h, const float* lse, const float* deltas, int64_t q0, int64_t nq,
                               int64_t k0, int64_t nk, float* scores, float* dp) {
  const F d;
  const int64_t n = lanes(), columns = round_up(nk), shift = k0 - q0 - h.past;
  for (int64_t i = 0; i < nq; ++i) {
    const V l = hn::Set(d, lse[q0 + i]), delta = hn::Set(d, deltas[i]);
    float *s = scores + i * kBlock, *g = dp + i * kBlock;
    const int64_t visible = i - shift + 1; // keys 0 … visible-1 of the block
    for (int64_t j = 0; j < columns; j += n) {
      V p = exp_fast(hn::Sub(hn::LoadU(d, s + j), l));
      V ds = hn::Mul(p, hn::Sub(hn::LoadU(d, g + j), delta));
      if (std::min(visible, nk) < j + n || h.key_segments) {
        auto seen = hn::Lt(iota(j), hn::Set(d, static_cast<float>(std::min(visible, nk))));
        if (h.key_segments)
          seen = hn::And(seen, same_segment(h.query_segments[q0 + i], h.key_segments + k0 + j, nk - j));
        p = hn::IfThenElseZero(seen, p);
        ds = hn::IfThenElseZero(seen, ds);
      }
      hn::StoreU(p, d, s + j);
      hn::StoreU(ds, d, g + j);
    }
  }
}

void Backward(const AttentionHead& h, const AttentionGradients& x, float* scratch) {
  const F d;
  const int64_t n = lanes(), w = round_up(h.width), blocks = (h.keys + kBlock - 1) / kBlock;
  float* keys = scratch; // [keys][w], as are dk and dv
  float* dk = keys + h.keys * w;
  float* dv = dk + h.keys * w;
  float* keys_t = dv + h.keys * w; // [blocks][width][kBlock]
  float* values_t = keys_t + blocks * kBlock * h.width;
  float* q = values_t + blocks * kBlock * h.width; // [kBlock][w], as are d_o and dq
  float* d_o = q + kBlock * w;
  float* dq = d_o + kBlock * w;
  float* scores = dq + kBlock * w;
  float* dp = scores + kBlock * kBlock;
  float* deltas = dp + kBlock * kBlock;

  copy_rows(h.k, h.k_pitch, h.keys, h.width, 1.0f, keys, w);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t first = b * kBlock, rows = std::min(kBlock, h.keys - first);
    copy_transposed(h.k + first * h.k_pitch, h.k_pitch, rows, h.width, keys_t + first * h.width);
    copy_transposed(h.v + first * h.k_pitch, h.k_pitch, rows, h.width, values_t + first * h.width);
  }
  std::memset(dk, 0, static_cast<size_t>(2 * h.keys * w) * sizeof(float));

  for (int64_t member = 0; member < x.group; ++member) {
    const float* lse = x.lse + member * x.lse_pitch;
    const int64_t column = member * h.width;
    for (int64_t q0 = 0; q0 < h.queries; q0 += kBlock) {
      const int64_t nq = std::min(kBlock, h.queries - q0), at = q0 * h.q_pitch + column;
      copy_rows(h.q + at, h.q_pitch, nq, h.width, h.scale, q, w);
      copy_rows(x.d_o + at, h.q_pitch, nq, h.width, 1.0f, d_o, w);
      for (int64_t i = 0; i < nq; ++i) {
        V s = hn::Zero(d);
        for (int64_t j = 0; j < w; j += n)
          s = hn::MulAdd(hn::LoadU(d, d_o + i * w + j), load_upto(x.o + at + i * h.q_pitch + j, h.width - j), s);
        deltas[i] = sum_lanes(s);
      }
      bool first = true;
      const int64_t reach = h.past == 0 ? std::min(h.keys, q0 + nq) : h.keys;
      for (int64_t k0 = 0; k0 < reach; k0 += kBlock) {
        const int64_t nk = std::min(kBlock, h.keys - k0), columns = round_up(nk);
        if (h.key_segments && !segments_meet(h.key_segments + k0, nk, h.query_segments + q0, nq)) continue;
        const bool diagonal = h.past == 0 && k0 == q0;
        const auto lower = [diagonal](int64_t i, int64_t height, int64_t j, int64_t, int64_t&, int64_t& k1) {
          if (diagonal && j > i + height - 1) k1 = 0; // all keys of the tile lie after its queries
        };
        block_product({q, w, 1, keys_t + k0 * h.width, kBlock, scores, kBlock, false}, nq, columns, h.width, lower);
        block_product({d_o, w, 1, values_t + k0 * h.width, kBlock, dp, kBlock, false}, nq, columns, h.width, lower);
        block_gradient(h, lse, deltas, q0, nq, k0, nk, scores, dp);
        const auto from_diagonal = [diagonal](int64_t i, int64_t, int64_t, int64_t, int64_t& from, int64_t&) {
          if (diagonal) from = i; // earlier queries do not see these keys
        };
        block_product({scores, 1, kBlock, d_o, w, dv + k0 * w, w, true}, nk, w, nq, from_diagonal);
        block_product({dp, 1, kBlock, q, w, dk + k0 * w, w, true}, nk, w, nq, from_diagonal);
        block_product({dp, kBlock, 1, keys + k0 * w, w, dq, w, !first}, nq, w, nk,
                      [diagonal](int64_t i, int64_t height, int64_t, int64_t, int64_t&, int64_t& k1) {
                        if (diagonal) k1 = std::min(k1, i + height);
                      });
        first = false;
      }
      if (first) std::memset(dq, 0, static_cast<size_t>(nq * w) * sizeof(float)); // they see no key
      for (int64_t i = 0; i < nq; ++i)
        for (int64_t j = 0; j < w; j += n)
          store_upto(hn::Mul(hn::Set(d, h.scale), hn::LoadU(d, dq + i * w + j)), x.dq + at + i * h.q_pitch + j,
                     h.width - j);
    }
  }
  for (int64_t t = 0; t < h.keys; ++t)
    for (int64_t j = 0; j < w; j += n) {
      store_upto(hn::LoadU(d, dk + t * w + j), x.dk + t * h.k_pitch + j, h.width - j);
      store_upto(hn::LoadU(d, dv + t * w + j), x.dv + t * h.k_pitch + j, h.width - j);
    }
}

} // namespace
} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kumiki::generic {
HWY_EXPORT(PaddedWidth);
HWY_EXPORT(ForwardScratch);
HWY_EXPORT(BackwardScratch);
HWY_EXPORT(Forward);
HWY_EXPORT(Backward);

int64_t padded_head_width(int64_t width) { return HWY_DYNAMIC_DISPATCH(PaddedWidth)(width); }
int64_t attention_forward_scratch(int64_t width, int64_t keys) {
  return HWY_DYNAMIC_DISPATCH(ForwardScratch)(width, keys);
}
int64_t attention_backward_scratch(int64_t width, int64_t keys) {
  return HWY_DYNAMIC_DISPATCH(BackwardScratch)(width, keys);
}
void attention_forward(const AttentionHead& head, int64_t begin, int64_t end, float* scratch) {
  HWY_DYNAMIC_DISPATCH(Forward)(head, begin, end, scratch);
}
void attention_backward(const AttentionHead& head, const AttentionGradients& gradients, float* scratch) {
  HWY_DYNAMIC_DISPATCH(Backward)(head, gradients, scratch);
}
} // namespace kumiki::generic
#endif
