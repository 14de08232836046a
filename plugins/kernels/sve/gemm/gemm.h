/* Products of f32 matrices on one thread: packing of both operands, and the blocked product of a rectangle of c from
 * packed operands. product.h spreads the work over threads. Above microkernel.h.
 *
 * The right operand lies in panels of three vectors (48 columns on A64FX): one block of k of a panel (256 x 48 floats)
 * stays in the L1 cache while the left operand's tiles of 8 rows stream past it out of L2 in the order of memory. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_GEMM_GEMM_H
#define KUMIKI_PLUGINS_KERNELS_SVE_GEMM_GEMM_H

#include <cstdint>

#include "plugins/kernels/host/product.h"

namespace kumiki::sve {

/* Columns of a panel on this processor, and rows of a tile. */
int64_t panel_width();
constexpr int64_t kTileHeight = 8;

inline int64_t panels_of(int64_t columns) { return (columns + panel_width() - 1) / panel_width(); }
/* The first column of panel p: a multiple of panel_width(), but for the last panel where the columns end one vector
 * behind such a multiple. It then begins a vector earlier: a panel of 2 + 2 vectors keeps the pipes busier than one of
 * 3 + 1. For p = panels_of(columns) it is `columns`. */
int64_t panel_begin(int64_t p, int64_t columns);
inline int64_t panel_columns(int64_t p, int64_t columns) {
  return panel_begin(p + 1, columns) - panel_begin(p, columns);
}
inline int64_t tiles_of(int64_t rows) { return (rows + kTileHeight - 1) / kTileHeight; }

/* Steps of k that are summed in registers before c is touched: an even share of k, at most 256. */
int64_t block_of_k(int64_t k);

/* A left operand by blocks of k and tiles of 8 rows: element (i, k) of the block that begins at k0 and has kb steps
 * lies at data + k0 * block_step + (i / 8) * tile_step(kb) + (k - k0) * row_step + i % 8. Packed: block_step = 8 *
 * tiles, tile_step = 8 kb, row_step = 8, so that one block of k is one run of memory. In place (a matrix [k, m] with
 * pitch p): block_step = row_step = p, tile_step = 8. */
struct Left {
  const float* data = nullptr;
  int64_t block_step = 0;
  int64_t row_step = kTileHeight;
  bool packed = true;
};
Left packed_left(const float* data, int64_t rows);
Left plain_left(const float* data, int64_t pitch);

/* A right operand: row k of panel p begins at data + p * panel + k * row, readable in whole vectors. */
struct Right {
  const float* data = nullptr;
  int64_t row = 0;
  int64_t panel = 0;
};
/* Panels as pack_right makes them of b [k, columns]. */
Right packed_right(const float* data, int64_t k);

using kernels::Activation;

/* c(i, p, j) lies at c + i * row + j + p * panel, or if panel is 0 (a matrix) + panel_begin(p). So do addend and activated. */
struct Result : kernels::ProductOutput {
  int64_t row = 0;
  int64_t panel = 0;
};

/* The rectangle of c that a task owns; row_begin is a multiple of 8. */
struct Rectangle {
  int64_t row_begin = 0, row_end = 0;
  int64_t panel_begin = 0, panel_end = 0;
};

/* Computes the rectangle of c [.., columns] = addend + a b + bias, in blocks of k_block steps of k: the value of an
 * element depends on k and k_block only, not on the rectangle. */
void multiply(const Left& a, const Right& b, const Result& c, const Rectangle& where, int64_t columns, int64_t k,
              int64_t k_block);

/* Packs panel p of b [k, columns] (or b [columns, k] if transposed; `row` is the pitch of its rows) to
 * [k][panel_width()], columns past the end zero. */
void pack_right(const float* b, int64_t row, bool transposed, int64_t k, int64_t columns, int64_t p, float* packed);

/* Packs tiles [begin, end) of one block of kb steps: packed + t * 8 kb holds [kb][8], rows past m zero. `a` points to
 * the block's first element of a [m, ..] (or of a [.., m] if transposed), `row` is its pitch. */
void pack_left(const float* a, int64_t row, bool transposed, int64_t kb, int64_t m, int64_t begin, int64_t end,
               float* packed);

/* to [columns][to_row] = transpose of from [rows][from_row], for rows <= a vector; lanes past `rows` become zero and
 * are stored too. */
void transpose_to_vectors(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to,
                          int64_t to_row);

} // namespace kumiki::sve

#endif
