#include "plugins/kernels/sve/gemm/product.h"

#include <algorithm>

#include "plugins/kernels/sve/kernel.h"

namespace kumiki::sve {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Rows of a task, of so many panels in all, that leave the fewest threads idle at the end. A task also loads its panel:
 * about as long as 8 rows take. */
int64_t best_rows(int64_t m, int64_t panels, int64_t threads) {
  int64_t best = 0, best_time = INT64_MAX;
  for (const int64_t rows : {512, 384, 256, 192, 128, 96, 64, 32}) {
    const int64_t rounds = ceil_div(ceil_div(m, rows) * panels, threads);
    const int64_t time = rounds * (std::min(rows, ceil_div(m, kTileHeight) * kTileHeight) + kTileHeight);
    if (time < best_time) {
      best = rows;
      best_time = time;
    }
  }
  return best;
}

} // namespace

void pack_whole_left(const Pool& pool, const float* a, int64_t row, bool transposed, int64_t m, int64_t k,
                     int64_t k_block, float* packed) {
  constexpr int64_t kTiles = 32;
  const int64_t tiles = tiles_of(m), groups = ceil_div(tiles, kTiles);
  pool.run(ceil_div(k, k_block) * groups, [&](int64_t number, uint32_t) {
    const int64_t k0 = number / groups * k_block, begin = number % groups * kTiles;
    pack_left(a + k0 * (transposed ? row : 1), row, transposed, std::min(k_block, k - k0), m, begin,
              std::min(tiles, begin + kTiles), packed + k0 * kTileHeight * tiles);
  });
}

Product::Product(const ProductShape& shape, const Pool& pool) : pool_(pool), shape_(shape) {
  k_block_ = block_of_k(shape.k);
  rows_ = best_rows(shape.m, panels_of(shape.n), pool.threads());
  Arena arena(nullptr);
  arena.take(tiles_of(shape.m) * kTileHeight * shape.k);
  if (!shape.packed_b) arena.take(packed_b_floats());
  workspace_bytes_ = arena.used();
}

void Product::pack_b(const float* b, float* packed) const {
  const ProductShape& s = shape_;
  pool_.run(panels_of(s.n), [&](int64_t p, uint32_t) {
    pack_right(b, s.transpose_b ? s.k : s.n, s.transpose_b, s.k, s.n, p, packed + p * s.k * panel_width());
  });
}

void Product::run(const float* a, const float* b, Result c, void* workspace, bool a_stands) const {
  const ProductShape& s = shape_;
  Arena arena(workspace);
  float* packed_a = arena.take(tiles_of(s.m) * kTileHeight * s.k);
  if (!a_stands) pack_whole_left(pool_, a, s.transpose_a ? s.m : s.k, s.transpose_a, s.m, s.k, k_block_, packed_a);
  if (!s.packed_b) {
    float* packed_b = arena.take(packed_b_floats());
    pack_b(b, packed_b);
    b = packed_b;
  }
  c.row = s.n;
  const Left left = packed_left(packed_a, s.m);
  const Right right = packed_right(b, s.k);
  // Neighbouring tasks share the left operand's rows: the threads of a memory group read them out of its L2 together.
  const int64_t panels = panels_of(s.n);
  pool_.run(ceil_div(s.m, rows_) * panels, [&](int64_t number, uint32_t) {
    const int64_t i = number / panels * rows_, p = number % panels;
    multiply(left, right, c, {i, std::min(s.m, i + rows_), p, p + 1}, s.n, s.k, k_block_);
  });
}

} // namespace kumiki::sve
