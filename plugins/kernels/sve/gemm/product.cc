#include "plugins/kernels/sve/gemm/product.h"

#include <algorithm>

#include "plugins/kernels/sve/kernels.h"

namespace kumiki::sve {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr int64_t kFewPanels = 8;  /* up to so many, packing all of a first would cost too much memory traffic */
constexpr int64_t kMostRows = 128; /* of a task then: 128 x 256 numbers stay in a core's share of L2 */

/* Rows of a task that does all columns. */
int64_t best_narrow_rows(int64_t m, int64_t threads) {
  int64_t best = kMostRows, best_time = INT64_MAX;
  for (int64_t rows = kMostRows; rows >= 4 * kTileHeight; rows -= kTileHeight) {
    const int64_t time = ceil_div(ceil_div(m, rows), threads) * (rows + kTileHeight);
    if (time < best_time) {
      best = rows;
      best_time = time;
    }
  }
  return best;
}

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

/* Packs all of a [m, k] (or a [k, m] if transposed) for packed_left, over the pool. */
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

} // namespace

PanelProduct::PanelProduct(const ProductShape& shape, const Pool& pool) : pool_(pool), shape_(shape) {
  k_block_ = block_of_k(shape.k);
  narrow_ = panels_of(shape.n) <= kFewPanels;
  rows_ = narrow_ ? best_narrow_rows(shape.m, pool.threads()) : best_rows(shape.m, panels_of(shape.n), pool.threads());
  Arena arena(nullptr);
  arena.take(packed_a_floats());
  if (!shape.packed_b) arena.take(packed_b_floats());
  workspace_bytes_ = arena.used();
}

int64_t PanelProduct::packed_a_floats() const {
  return narrow_ ? scratch_floats() * pool_.threads() : tiles_of(shape_.m) * kTileHeight * shape_.k;
}

void PanelProduct::pack_b(const float* b, float* packed) const {
  const ProductShape& s = shape_;
  pool_.run(panels_of(s.n), [&](int64_t p, uint32_t) {
    pack_right(b, s.transpose_b ? s.k : s.n, s.transpose_b, s.k, s.n, p, packed + p * s.k * panel_width());
  });
}

void PanelProduct::run(const float* a, const float* b, const ProductOutput& output, void* workspace,
                       bool a_stands) const {
  const ProductShape& s = shape_;
  Arena arena(workspace);
  float* packed_a = arena.take(packed_a_floats());
  if (!s.packed_b) {
    float* packed_b = arena.take(packed_b_floats());
    pack_b(b, packed_b);
    b = packed_b;
  }
  Result c{output};
  c.row = s.n;
  const Right right = packed_right(b, s.k);
  if (narrow_) {
    pool_.run(ceil_div(s.m, rows_), [&](int64_t number, uint32_t worker) {
      const int64_t i = number * rows_;
      run_rows(a, right, c, i, std::min(rows_, s.m - i), packed_a + worker * scratch_floats());
    });
    return;
  }
  if (!a_stands) pack_whole_left(pool_, a, s.transpose_a ? s.m : s.k, s.transpose_a, s.m, s.k, k_block_, packed_a);
  const Left left = packed_left(packed_a, s.m);
  // Neighbouring tasks share the left operand's rows: the threads of a memory group read them out of its L2 together.
  const int64_t panels = panels_of(s.n);
  pool_.run(ceil_div(s.m, rows_) * panels, [&](int64_t number, uint32_t) {
    const int64_t i = number / panels * rows_, p = number % panels;
    multiply(left, right, c, {i, std::min(s.m, i + rows_), p, p + 1}, s.n, s.k, k_block_);
  });
}

/* Rows [i, i + rows) and all columns, a block of k at a time, each packed just before it is used. The sums are those
 * that multiply makes of all blocks at once. */
void PanelProduct::run_rows(const float* a, Right b, const Result& c, int64_t i, int64_t rows, float* packed) const {
  const ProductShape& s = shape_;
  const int64_t pitch = s.transpose_a ? s.m : s.k, at = i * c.row;
  for (int64_t k0 = 0; k0 < s.k; k0 += k_block_) {
    const int64_t kb = std::min(k_block_, s.k - k0);
    const bool is_first = k0 == 0, is_last = k0 + kb == s.k;
    const float* from = s.transpose_a ? a + k0 * pitch + i : a + i * pitch + k0;
    pack_left(from, pitch, s.transpose_a, kb, rows, 0, tiles_of(rows), packed);
    Result part = c;
    part.c = c.c + at;
    if (c.addend) part.addend = c.addend + at;
    if (c.activated) part.activated = c.activated + at;
    // A bias without an addend is what the first block's sums begin with; beside one it is added in the end.
    if (c.addend ? !is_last : !is_first) part.bias = nullptr;
    if (!is_first) part.addend = part.c;
    if (!is_last) part.activated = nullptr;
    multiply(packed_left(packed, rows), {b.data + k0 * b.row, b.row, b.panel}, part, {0, rows, 0, panels_of(s.n)}, s.n,
             kb, kb);
  }
}

/* Within a process all vectors are of one length, which fixes the width of a panel. */
const ProductFunctions kProducts = {[](const ProductShape& shape, const Pool& pool) -> std::unique_ptr<Product> {
                                      return std::make_unique<PanelProduct>(shape, pool);
                                    },
                                    "sve.panels", "sve.panels.transposed"};

} // namespace kumiki::sve
