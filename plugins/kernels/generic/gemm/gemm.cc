#include "plugins/kernels/generic/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "plugins/kernels/generic/gemm/gemm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>

#include "plugins/kernels/generic/gemm/gemm.h"
#include "plugins/kernels/generic/gemm/microkernel-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kumiki::generic {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kAhead = 4; /* rows that packing prefetches before it reads them */

int64_t PanelWidth() { return kTileVectors * lanes(); }
int64_t TileHeight() { return kTileRows; }

HWY_INLINE V activate(Activation activation, V x) { return activation == Activation::kGelu ? gelu(x) : silu(x); }

/* Finishes `rows` x `columns` numbers of `from`: adds the addend and the bias, stores c and the activated copy. */
void finish(const float* from, int64_t from_row, int64_t rows, int64_t columns, const float* addend, const float* bias,
            const Result& c, int64_t at) {
  const int64_t n = lanes();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; j += n) {
      const int64_t left = columns - j, o = at + i * c.row + j;
      V x = hn::LoadU(F(), from + i * from_row + j);
      if (addend) x = hn::Add(x, load_upto(addend + o, left));
      if (bias) x = hn::Add(x, load_upto(bias + j, left));
      store_upto(x, c.c + o, left);
      if (c.activated) store_upto(activate(c.activation, x), c.activated + o, left);
    }
  }
}

struct Block {
  int64_t chunks, chunk; /* of this k block */
  const float* bias;     /* null but in the last k block */
  const float* addend;   /* what to add: the addend in the first k block, c afterwards */
  bool last;
};

/* One tile of c. */
HWY_INLINE void one_tile(const Left& a, const float* a_tile, int rows, const float* b, int64_t b_row, int64_t columns,
                         const Result& c, int64_t at, const Block& block) {
  const int64_t n = lanes();
  const int vectors = static_cast<int>((columns + n - 1) / n);
  const Tile product = tile_of(rows, vectors);
  const bool whole = c.padded || columns == vectors * n;
  const bool plain = !block.last || (!block.bias && !c.activated);
  if (whole && plain) {
    product(block.chunks, block.chunk, a_tile, a.row, a.column, a.chunk_step, b, b_row,
            block.addend ? block.addend + at : nullptr, c.c + at, c.row);
    return;
  }
  HWY_ALIGN float buffer[kTileRows * kTileVectors * (HWY_MAX_BYTES / sizeof(float))];
  const int64_t pitch = kTileVectors * n;
  product(block.chunks, block.chunk, a_tile, a.row, a.column, a.chunk_step, b, b_row, nullptr, buffer, pitch);
  if (block.last) {
    finish(buffer, pitch, rows, columns, block.addend, block.bias, c, at);
  } else {
    Result partial;
    partial.c = c.c;
    partial.row = c.row;
    finish(buffer, pitch, rows, columns, block.addend, nullptr, partial, at);
  }
}

void Multiply(const Left& a, const Right& b, const Result& c, const Rectangle& where, int64_t columns, int64_t k,
              const Blocking& blocking) {
  const int64_t width = PanelWidth(), panels = (columns + width - 1) / width;
  for (int64_t k0 = 0; k0 < k; k0 += blocking.k_block) {
    const int64_t kb = std::min(blocking.k_block, k - k0);
    const bool last = k0 + kb == k;
    const float* a_block = a.data + (k0 / a.chunk) * a.chunk_step + (k0 % a.chunk) * a.column;
    const int64_t chunk = std::min(a.chunk, kb);
    const int64_t whole = kb / chunk, rest = kb - whole * chunk;
    const auto do_tile = [&](int64_t i, int rows, int64_t p) {
      const float* a_tile = a_block + (i / a.group) * a.group_step + (i % a.group) * a.row;
      const bool apart = b.last && p == panels - 1;
      const float* b_panel = apart ? b.last + k0 * width : b.data + p * b.panel + k0 * b.row;
      const int64_t b_row = apart ? width : b.row;
      const int64_t at = i * c.row + p * c.panel;
      const int64_t n = std::min(width, columns - p * width);
      const float* bias = c.bias && last ? c.bias + p * width : nullptr;
      const float* addend = k0 == 0 ? c.addend : c.c;
      if (rest == 0) {
        one_tile(a, a_tile, rows, b_panel, b_row, n, c, at, {whole, chunk, bias, addend, last});
      } else { // the last k block of a chunked operand: whole chunks, then the rest
        if (whole) one_tile(a, a_tile, rows, b_panel, b_row, n, c, at, {whole, chunk, nullptr, addend, false});
        one_tile(a, a_tile + whole * a.chunk_step, rows, b_panel + whole * chunk * b_row, b_row, n, c, at,
                 {1, rest, bias, whole ? c.c : addend, last});
      }
    };
    const auto rows_at = [&](int64_t i) {
      return tile_rows(std::min(where.row_end - i, a.group == INT64_MAX ? INT64_MAX : a.group - i % a.group));
    };
    if (blocking.rows_inner) {
      for (int64_t p = where.panel_begin; p < where.panel_end; ++p)
        for (int64_t i = where.row_begin; i < where.row_end;) {
          const int rows = rows_at(i);
          do_tile(i, rows, p);
          i += rows;
        }
    } else {
      for (int64_t i = where.row_begin; i < where.row_end;) {
        const int rows = rows_at(i);
        for (int64_t p = where.panel_begin; p < where.panel_end; ++p) do_tile(i, rows, p);
        i += rows;
      }
    }
  }
}

void PackRight(const float* b, int64_t row, bool transposed, int64_t k, int64_t columns, int64_t panel_begin,
               int64_t panel_end, float* packed) {
  const int64_t width = PanelWidth(), n = lanes();
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    float* to = packed + p * k * width;
    const int64_t valid = std::min(width, columns - p * width);
    if (transposed) {
      if (valid < width) std::fill(to, to + k * width, 0.0f);
      // 64 k at a time: the rows written to stay in L1. Such short runs are too little for the hardware's prefetcher.
      for (int64_t k0 = 0; k0 < k; k0 += 64) {
        const int64_t kb = std::min<int64_t>(64, k - k0);
        const float* from = b + p * width * row + k0;
        for (int64_t i = 0; i < valid; i += 4) {
          const int64_t rows = std::min<int64_t>(4, valid - i);
          for (int64_t ahead = i + kAhead; ahead < std::min(valid, i + kAhead + 4); ++ahead)
            for (int64_t j = 0; j < kb; j += 16) hwy::Prefetch(from + ahead * row + j);
          transpose(from + i * row, row, rows, kb, to + k0 * width + i, width);
        }
        if (k0 + kb < k)
          for (int64_t ahead = 0; ahead < std::min<int64_t>(kAhead, valid); ++ahead)
            for (int64_t j = 0; j < kb; j += 16) hwy::Prefetch(from + ahead * row + kb + j);
      }
    } else {
      const float* from = b + p * width;
      for (int64_t i = 0; i < k; ++i, from += row, to += width) {
        if (valid == width) {
          for (int64_t j = 0; j < width; j += n) hn::StoreU(hn::LoadU(F(), from + j), F(), to + j);
        } else {
          for (int64_t j = 0; j < width; j += n)
            hn::StoreU(load_upto(from + std::min(j, valid), std::max<int64_t>(0, valid - j)), F(), to + j);
        }
      }
    }
  }
}

void PackLeftTransposed(const float* a, int64_t row, int64_t k, int64_t m, int64_t begin, int64_t end, float* packed) {
  constexpr int64_t kHeight = kTileRows;
  const int64_t pitch = packed_left_pitch(k);
  const hn::FixedTag<float, 4> d4;
  const int64_t full = std::min(end, m / kHeight);
  // All tiles of a row of a at once: one pass over whole cache lines.
  for (int64_t i = 0; i < k; ++i) {
    const float* from = a + i * row;
    float* to = packed + i * kHeight;
    for (int64_t t = begin; t < full; ++t)
      for (int64_t j = 0; j < kHeight; j += 4)
        hn::StoreU(hn::LoadU(d4, from + t * kHeight + j), d4, to + t * pitch + j);
    for (int64_t t = full; t < end; ++t)
      for (int64_t j = 0; j < kHeight; ++j) to[t * pitch + j] = t * kHeight + j < m ? from[t * kHeight + j] : 0.0f;
  }
}

void MultiplyFewRows(const float* a, int64_t a_row, int64_t m, const float* b, int64_t k, int64_t n0, int64_t n1,
                     const Result& c) {
  const F d;
  const int64_t n = lanes();
  const float* bias = c.bias;
  for (int64_t j = n0; j < n1; ++j) {
    const float* w = b + j * k;
    for (int64_t i = 0; i < m; ++i) {
      const float* x = a + i * a_row;
      V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
      int64_t e = 0;
      for (; e + 4 * n <= k; e += 4 * n) {
        s0 = hn::MulAdd(hn::LoadU(d, x + e), hn::LoadU(d, w + e), s0);
        s1 = hn::MulAdd(hn::LoadU(d, x + e + n), hn::LoadU(d, w + e + n), s1);
        s2 = hn::MulAdd(hn::LoadU(d, x + e + 2 * n), hn::LoadU(d, w + e + 2 * n), s2);
        s3 = hn::MulAdd(hn::LoadU(d, x + e + 3 * n), hn::LoadU(d, w + e + 3 * n), s3);
      }
      for (; e < k; e += n) s0 = hn::MulAdd(load_upto(x + e, k - e), load_upto(w + e, k - e), s0);
      float y = sum_lanes(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
      const int64_t at = i * c.row + j;
      if (c.addend) y += c.addend[at];
      if (bias) y += bias[j];
      c.c[at] = y;
      if (c.activated) c.activated[at] = hn::GetLane(activate(c.activation, hn::Set(d, y)));
    }
  }
}

} // namespace
} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kumiki::generic {
HWY_EXPORT(PanelWidth);
HWY_EXPORT(TileHeight);
HWY_EXPORT(Multiply);
HWY_EXPORT(PackRight);
HWY_EXPORT(PackLeftTransposed);
HWY_EXPORT(MultiplyFewRows);

int64_t panel_width() { return HWY_DYNAMIC_DISPATCH(PanelWidth)(); }
int64_t tile_height() { return HWY_DYNAMIC_DISPATCH(TileHeight)(); }

void multiply(const Left& a, const Right& b, const Result& c, const Rectangle& where, int64_t columns, int64_t k,
              const Blocking& blocking) {
  HWY_DYNAMIC_DISPATCH(Multiply)(a, b, c, where, columns, k, blocking);
}
void pack_right(const float* b, int64_t row, bool transposed, int64_t k, int64_t columns, int64_t panel_begin,
                int64_t panel_end, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackRight)(b, row, transposed, k, columns, panel_begin, panel_end, packed);
}
void pack_left_transposed(const float* a, int64_t row, int64_t k, int64_t m, int64_t begin, int64_t end,
                          float* packed) {
  HWY_DYNAMIC_DISPATCH(PackLeftTransposed)(a, row, k, m, begin, end, packed);
}
void multiply_few_rows(const float* a, int64_t a_row, int64_t m, const float* b, int64_t k, int64_t n0, int64_t n1,
                       const Result& c) {
  HWY_DYNAMIC_DISPATCH(MultiplyFewRows)(a, a_row, m, b, k, n0, n1, c);
}
} // namespace kumiki::generic
#endif
