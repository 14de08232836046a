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
      for (int64_t i = where.row_begin; i < where.row_end; i += kTileHeight) {
        const int64_t rows = std::min(kTileHeight, where.row_end - i),
                      at = i * c.row + (c.panel ? p * c.panel : first_column);
        TileArguments t{};
        t.k = kb;
        t.a = a_block + i / kTileHeight * tile_step;
        t.a_step = a.row_step;
        t.b = b.data + p * b.panel + k0 * b.row;
        t.b_row = b.row;
        t.c = c.c + at;
        t.c_row = c.row;
        t.columns = count;
        if (!is_first) {
          t.base = t.c;
          t.base_row = c.row;
        } else if (c.addend) {
          t.base = c.addend + at;
          t.base_row = c.row;
        } else if (bias) {
          t.base = bias;
          t.base_row = 0;
        }
        (a.packed ? tile_of<true>(rows, vectors) : tile_of<false>(rows, vectors))(t);
        const float* late_bias = c.addend ? bias : nullptr;
        if (is_last && (late_bias || c.activated)) finish(rows, count, late_bias, c, at);
      }
    }
  }
}

} // namespace kumiki::sve
