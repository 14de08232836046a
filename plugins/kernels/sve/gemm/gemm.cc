#include "plugins/kernels/sve/gemm/gemm.h"

#include <algorithm>

#include "plugins/kernels/sve/gemm/microkernel.h"

namespace kumiki::sve {
namespace {

constexpr int64_t kLongestBlock = 256; /* x 48 columns x 4 bytes: three of the four ways of A64FX's L1 cache */

/* What a tile could not do in its registers: a bias beside an addend, and the activation. The tile is in L1; a row's
 * three vectors go together, so that their chains of dependent operations overlap. */
template <class Activate>
inline __attribute__((always_inline)) void activate_rows(int64_t rows, int64_t columns, const float* from, float* to,
                                                         int64_t row, const Activate& f) {
  const int64_t n = lanes();
  const svbool_t p0 = first(columns), p1 = first(columns - n), p2 = first(columns - 2 * n);
  for (int64_t i = 0; i < rows; ++i, from += row, to += row) {
    const V y0 = f(svld1(p0, from)), y1 = f(svld1_vnum(p1, from, 1)), y2 = f(svld1_vnum(p2, from, 2));
    svst1(p0, to, y0);
    svst1_vnum(p1, to, 1, y1);
    svst1_vnum(p2, to, 2, y2);
  }
}

void finish(int64_t rows, int64_t columns, const float* bias, const Result& c, int64_t at) {
  float* tile = c.c + at;
  if (bias)
    for (int64_t i = 0; i < rows; ++i) map(tile + i * c.row, bias, tile + i * c.row, 0, columns, add);
  if (!c.activated) return;
  if (c.activation == Activation::kGelu) {
    activate_rows(rows, columns, tile, c.activated + at, c.row, [](V x) { return gelu(x); });
  } else {
    activate_rows(rows, columns, tile, c.activated + at, c.row, [](V x) { return silu(x); });
  }
}

} // namespace

int64_t panel_width() { return kTileVectors * lanes(); }

int64_t panel_begin(int64_t p, int64_t columns) {
  const int64_t n = lanes(), width = kTileVectors * n, at = p * width;
  if (at >= columns) return columns;
  return p > 0 && columns - at <= n ? at - n : at;
}

int64_t block_of_k(int64_t k) {
  const int64_t blocks = (k + kLongestBlock - 1) / kLongestBlock;
  return ((k + blocks - 1) / blocks + 1) / 2 * 2;
}

Left packed_left(const float* data, int64_t rows) { return {data, kTileHeight * tiles_of(rows), kTileHeight, true}; }
Left plain_left(const float* data, int64_t pitch) { return {data, pitch, pitch, false}; }
Right packed_right(const float* data, int64_t k) { return {data, panel_width(), k * panel_width()}; }

void multiply(const Left& a, const Right& b, const Result& c, const Rectangle& where, int64_t columns, int64_t k,
              int64_t k_block) {
  const int64_t n = lanes();
  for (int64_t k0 = 0; k0 < k; k0 += k_block) {
    const int64_t kb = std::min(k_block, k - k0);
    const bool is_first = k0 == 0, is_last = k0 + kb == k;
    const float* a_block = a.data + k0 * a.block_step;
    const int64_t tile_step = a.packed ? kTileHeight * kb : kTileHeight;
    for (int64_t p = where.panel_begin; p < where.panel_end; ++p) {
      const int64_t first_column = panel_begin(p, columns), count = panel_begin(p + 1, columns) - first_column;
      const float* bias = c.bias ? c.bias + first_column : nullptr;
      const int64_t vectors = (count + n - 1) / n;
      const auto tile_for = a.packed ? tile_of<true> : tile_of<false>;
      const TileFunction full = tile_for(kTileHeight, vectors);
      const float* late_bias = is_last && c.addend ? bias : nullptr;
      const bool unfinished = is_last && (late_bias || c.activated);
      int64_t i = where.row_begin, at = i * c.row + (c.panel ? p * c.panel : first_column);
      TileArguments t{};
      t.k = kb;
      t.a = a_block + i / kTileHeight * tile_step;
      t.a_step = a.row_step;
      t.b = b.data + p * b.panel + k0 * b.row;
      t.b_row = b.row;
      t.c = c.c + at;
      t.c_row = c.row;
      t.columns = count;
      int64_t base_step = 0; // from one tile to the next
      if (!is_first || c.addend) {
        t.base = is_first ? c.addend + at : t.c;
        t.base_row = c.row;
        base_step = kTileHeight * c.row;
      } else if (bias) {
        t.base = bias;
      }
      for (; i < where.row_end; i += kTileHeight) {
        const int64_t rows = where.row_end - i;
        t.next = base_step && rows >= 2 * kTileHeight ? t.base + base_step : nullptr;
        (rows >= kTileHeight ? full : tile_for(rows, vectors))(t);
        if (unfinished) finish(std::min(rows, kTileHeight), count, late_bias, c, t.c - c.c);
        t.a += tile_step;
        t.c += kTileHeight * c.row;
        if (t.base) t.base += base_step;
      }
    }
  }
}

} // namespace kumiki::sve
