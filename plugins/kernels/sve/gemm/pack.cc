/* Packing. Transposes are networks of ZIP: a level puts vectors i and i + n/2 together to vectors 2i and 2i + 1, and
 * after log2(n) levels n rows stand interleaved, element by element, whatever the vector length. */
#include <algorithm>

#include "plugins/kernels/sve/gemm/gemm.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

#define KM_ZIP(a, b, low, high) const V low = svzip1(a, b), high = svzip2(a, b);
#define KM_LEVEL4(x, y) KM_ZIP(x##0, x##2, y##0, y##1) KM_ZIP(x##1, x##3, y##2, y##3)
#define KM_LEVEL8(x, y)          \
  KM_ZIP(x##0, x##4, y##0, y##1) \
  KM_ZIP(x##1, x##5, y##2, y##3) KM_ZIP(x##2, x##6, y##4, y##5) KM_ZIP(x##3, x##7, y##6, y##7)
#define KM_LEVEL16(x, y)          \
  KM_ZIP(x##0, x##8, y##0, y##1)  \
  KM_ZIP(x##1, x##9, y##2, y##3)  \
  KM_ZIP(x##2, x##10, y##4, y##5) \
  KM_ZIP(x##3, x##11, y##6, y##7) \
  KM_ZIP(x##4, x##12, y##8, y##9) \
  KM_ZIP(x##5, x##13, y##10, y##11) KM_ZIP(x##6, x##14, y##12, y##13) KM_ZIP(x##7, x##15, y##14, y##15)
#define KM_EACH4(DO) DO(0) DO(1) DO(2) DO(3)
#define KM_EACH8(DO) KM_EACH4(DO) DO(4) DO(5) DO(6) DO(7)
#define KM_EACH16(DO) KM_EACH8(DO) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)

/* A block of rows: row i is from + i * pitch, or zero from `rows` on. kWhole: all rows and columns of the block are
 * there, and nothing is asked; the rims of a matrix go the slower way. */
struct Rows {
  const float* from;
  int64_t pitch, rows;
  template <bool kWhole>
  inline V load(svbool_t p, int64_t i) const {
    if constexpr (kWhole) return svld1(all(), from + i * pitch);
    return svld1(i < rows ? p : svpfalse_b(), from + std::min(i, rows - 1) * pitch);
  }
};

#define KM_LOAD(i) const V a##i = in.load<kWhole>(p, i);

/* 8 rows x up to a vector of columns -> [columns][8]. */
template <bool kWhole>
inline void interleave8(const Rows& in, int64_t columns, float* to) {
  const svbool_t p = first(columns);
  const int64_t n = lanes(), size = 8 * columns;
  (void)p;
  (void)n;
  (void)size;
  KM_EACH8(KM_LOAD)
  KM_LEVEL8(a, b)
  KM_LEVEL8(b, c)
  KM_LEVEL8(c, d)
#define KM_STORE(i) svst1_vnum(kWhole ? all() : first(size - i * n), to, i, d##i);
  KM_EACH8(KM_STORE)
#undef KM_STORE
}

/* As many rows as a vector has lanes x up to a vector of columns -> a vector for each column. */
#define KM_STORE(i) \
  if (kWhole || i < columns) svst1(all(), to + i * to_row, z##i);
template <bool kWhole>
inline void transpose_block4(const Rows& in, int64_t columns, float* to, int64_t to_row) {
  const svbool_t p = first(columns);
  (void)p;
  KM_EACH4(KM_LOAD)
  KM_LEVEL4(a, b)
  KM_LEVEL4(b, z)
  KM_EACH4(KM_STORE)
}
template <bool kWhole>
inline void transpose_block8(const Rows& in, int64_t columns, float* to, int64_t to_row) {
  const svbool_t p = first(columns);
  (void)p;
  KM_EACH8(KM_LOAD)
  KM_LEVEL8(a, b)
  KM_LEVEL8(b, c)
  KM_LEVEL8(c, z)
  KM_EACH8(KM_STORE)
}
template <bool kWhole>
inline void transpose_block16(const Rows& in, int64_t columns, float* to, int64_t to_row) {
  const svbool_t p = first(columns);
  (void)p;
  KM_EACH16(KM_LOAD)
  KM_LEVEL16(a, b)
  KM_LEVEL16(b, c)
  KM_LEVEL16(c, d)
  KM_LEVEL16(d, z)
  KM_EACH16(KM_STORE)
}

template <bool kWhole>
inline void transpose_block(int64_t n, const Rows& in, int64_t columns, float* to, int64_t to_row) {
  if (n == 16) return transpose_block16<kWhole>(in, columns, to, to_row);
  if (n == 8) return transpose_block8<kWhole>(in, columns, to, to_row);
  transpose_block4<kWhole>(in, columns, to, to_row);
}

/* Rows of a [k, m] to tiles [begin, end): eight numbers of each row to each tile. */
void copy_to_tiles(const float* a, int64_t row, int64_t kb, int64_t m, int64_t begin, int64_t end, float* packed) {
  const int64_t n = lanes(), tile = kb * kTileHeight;
  int64_t t = begin;
  if (n == 2 * kTileHeight) {
    // A vector holds two tiles' numbers. Its upper half is stored behind an address that lies as much lower.
    const svbool_t low = first(kTileHeight), high = svnot_z(all(), low);
    for (; t + 2 <= std::min(end, m / kTileHeight); t += 2) {
      const float* from = a + t * kTileHeight;
      float *to = packed + t * tile, *next = to + tile - kTileHeight;
      for (int64_t k = 0; k < kb; ++k, from += row, to += kTileHeight, next += kTileHeight) {
        const V v = svld1(all(), from);
        svst1(low, to, v);
        svst1(high, next, v);
      }
    }
  }
  for (; t < end; ++t) {
    const int64_t valid = std::min(kTileHeight, m - t * kTileHeight);
    for (int64_t j = 0; j < kTileHeight; j += n) {
      const svbool_t p = first(valid - j), q = first(kTileHeight - j);
      const float* from = a + t * kTileHeight + j;
      float* to = packed + t * tile + j;
      for (int64_t k = 0; k < kb; ++k, from += row, to += kTileHeight) svst1(q, to, svld1(p, from));
    }
  }
}

} // namespace

void transpose_to_vectors(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to,
                          int64_t to_row) {
  const int64_t n = lanes();
  int64_t j = 0;
  if (rows == n)
    for (; j + n <= columns; j += n) transpose_block<true>(n, {from + j, from_row, rows}, n, to + j * to_row, to_row);
  for (; j < columns; j += n)
    transpose_block<false>(n, {from + j, from_row, rows}, std::min(n, columns - j), to + j * to_row, to_row);
}

void pack_right(const float* b, int64_t row, bool transposed, int64_t k, int64_t columns, int64_t p, float* packed) {
  const int64_t n = lanes(), width = panel_width();
  const int64_t column = panel_begin(p, columns), valid = panel_columns(p, columns);
  if (transposed) {
    // A vector of k at a time for all of the panel's rows: reads follow the lines of memory, writes stay in L1.
    for (int64_t k0 = 0; k0 < k; k0 += n)
      for (int64_t j = 0; j < width; j += n) {
        float* to = packed + k0 * width + j;
        const int64_t kb = std::min(n, k - k0);
        if (j < valid) {
          transpose_to_vectors(b + (column + j) * row + k0, row, std::min(n, valid - j), kb, to, width);
        } else {
          for (int64_t i = 0; i < kb; ++i) svst1(all(), to + i * width, set(0.0f));
        }
      }
    return;
  }
  const svbool_t p0 = first(valid), p1 = first(valid - n), p2 = first(valid - 2 * n);
  const float* from = b + column;
  for (int64_t i = 0; i < k; ++i, from += row, packed += width) {
    svst1_vnum(all(), packed, 0, svld1(p0, from));
    svst1_vnum(all(), packed, 1, svld1_vnum(p1, from, 1));
    svst1_vnum(all(), packed, 2, svld1_vnum(p2, from, 2));
  }
}

void pack_left(const float* a, int64_t row, bool transposed, int64_t kb, int64_t m, int64_t begin, int64_t end,
               float* packed) {
  if (transposed) return copy_to_tiles(a, row, kb, m, begin, end, packed);
  const int64_t n = lanes();
  for (int64_t t = begin; t < end; ++t) {
    const Rows rows{a + t * kTileHeight * row, row, std::min(kTileHeight, m - t * kTileHeight)};
    float* to = packed + t * kTileHeight * kb;
    int64_t k = 0;
    if (rows.rows == kTileHeight)
      for (; k + n <= kb; k += n) interleave8<true>({rows.from + k, row, rows.rows}, n, to + k * kTileHeight);
    for (; k < kb; k += n)
      interleave8<false>({rows.from + k, row, rows.rows}, std::min(n, kb - k), to + k * kTileHeight);
  }
}

} // namespace kumiki::sve
