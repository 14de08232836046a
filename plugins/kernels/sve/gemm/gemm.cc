#include "plugins/kernels/sve/gemm/gemm.h"

#include <algorithm>

#include "plugins/kernels/sve/gemm/microkernel.h"

namespace kumiki::sve {
namespace {

constexpr int64_t kLongestBlock = 256; /* x 48 columns x 4 bytes: three of the four ways of A64FX's L1 cache */

inline V activate(Activation activation, V x) { return activation == Activation::kGelu ? gelu(x) : silu(x); }

/* What the tile could not do in its registers: a bias beside an addend, and the activation. The tile is in L1. */
void finish(int64_t rows, int64_t columns, const float* bias, const Result& c, int64_t at) {
  for (int64_t i = 0; i < rows; ++i) {
    float* row = c.c + at + i * c.row;
    float* activated = c.activated ? c.activated + at + i * c.row : nullptr;
    for_vectors(0, columns, [&](int64_t j, svbool_t p) {
      V x = svld1(p, row + j);
      if (bias) {
        x = add(x, svld1(p, bias + j));
        svst1(p, row + j, x);
      }
      if (activated) svst1(p, activated + j, activate(c.activation, x));
    });
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
