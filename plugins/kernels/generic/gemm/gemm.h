/* Products of f32 matrices on one thread: packing and the blocked product of a rectangle of c. gemm.cc holds the
 * code of each instruction set and chooses at run time; product.h spreads the work over threads. */
#ifndef KUMIKI_PLUGINS_KERNELS_GENERIC_GEMM_GEMM_H
#define KUMIKI_PLUGINS_KERNELS_GENERIC_GEMM_GEMM_H

#include <cstdint>

#include "plugins/kernels/host/product.h"

namespace kumiki::generic {

/* Columns of a panel (three vectors: 48 for AVX-512) and rows of a tile (8, or 4 for AVX2) on this processor. */
int64_t panel_width();
int64_t tile_height();

inline int64_t panels_of(int64_t columns) { return (columns + panel_width() - 1) / panel_width(); }

/* A left operand with elements a(i, k) = data[(i / group) * group_step + (i % group) * row + (k / chunk) * chunk_step +
 * (k % chunk) * column]. Plain rows have one group and one chunk. */
struct Left {
  const float* data = nullptr;
  int64_t row = 0;
  int64_t column = 1;
  int64_t group = INT64_MAX;
  int64_t group_step = 0;
  int64_t chunk = INT64_MAX;
  int64_t chunk_step = 0;
};

/* A right operand in panels: row k of panel p begins at data + p * panel + k * row. Rows of the last panel are
 * readable up to the vector that holds the last column. */
struct Right {
  const float* data = nullptr;
  int64_t row = 0;
  int64_t panel = 0;
  const float* last = nullptr; /* the last panel, where it lies apart (row pitch panel_width()); else null */
};

using kernels::Activation;

/* c(i, p, j) lies at c + i * row + p * panel + j. So do addend and activated. */
struct Result : kernels::ProductOutput {
  int64_t row = 0;
  int64_t panel = 0;
  bool padded = false; /* the last panel is stored in whole vectors */
};

/* The rectangle of c that a task owns. */
struct Rectangle {
  int64_t row_begin = 0, row_end = 0;
  int64_t panel_begin = 0, panel_end = 0;
};

struct Blocking {
  int64_t k_block = 384;   /* a multiple of the left operand's chunk */
  bool rows_inner = false; /* false: all panels for a tile row (a in L1, b in L2); true: all rows for a panel */
};

/* Computes the rectangle of c [.., columns] = addend + a b + bias, with k terms added in order: the value of an element
 * depends on k and k_block only. */
void multiply(const Left& a, const Right& b, const Result& c, const Rectangle& where, int64_t columns, int64_t k,
              const Blocking& blocking);

/* Packs panels [panel_begin, panel_end) of b [k, columns] (or b [columns, k] if transposed; `row` is the pitch of
 * its rows) into packed + p * k * panel_width(), rows of panel_width(), columns past the end zero. */
void pack_right(const float* b, int64_t row, bool transposed, int64_t k, int64_t columns, int64_t panel_begin,
                int64_t panel_end, float* packed);

/* Floats from one packed tile row to the next: a line more than its contents, so that tile rows of a round k do not all
 * fall on the same sets of the cache. */
inline int64_t packed_left_pitch(int64_t k) { return k * tile_height() + 16; }

/* Packs tile rows [begin, end) of the transpose of a [k, m] (pitch `row`): packed + t * packed_left_pitch(k) holds
 * [k, tile_height()], zero past m. */
void pack_left_transposed(const float* a, int64_t row, int64_t k, int64_t m, int64_t begin, int64_t end, float* packed);

/* c [m, columns n0 … n1) = addend + a b^T + bias for few rows: dot products along k, nothing packed. a [m, k] pitch
 * a_row, b [columns, k] pitch k, c pitch c_row. */
void multiply_few_rows(const float* a, int64_t a_row, int64_t m, const float* b, int64_t k, int64_t n0, int64_t n1,
                       const Result& c);

} // namespace kumiki::generic

#endif
