#include "plugins/kernels/sve/gemm/product.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <queue>
#include <vector>

#include "plugins/kernels/sve/kernels.h"

namespace kumiki::sve {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* What the choice of a cut weighs, in cycles of a core for each step of k (bench/a64fx.md). */
constexpr double kTileRow = 1.55;       /* a row of a panel */
constexpr double kPanelLoad = 12.4;     /* a panel's way into L1: about as long as 8 rows take */
constexpr double kPackRow = 0.28;       /* a row of a, packed into a core's share of L2 */
constexpr double kPackRowTurned = 0.17; /* ... of a transposed a */
constexpr double kPackPanel = 4.6;      /* a panel of b, packed into L1 */
constexpr double kMemory = 1.24;        /* a number, packed for all threads: read from memory and written there */

constexpr int64_t kMostTiles = 64;    /* of rows of a task; ... */
constexpr int64_t kMostOwnTiles = 32; /* ... if it packs them: 256 x 256 numbers stay in a core's share of L2 */
constexpr int64_t kLeastTiles = 4;
constexpr int64_t kMostGroups = 16;

/* The time that `cut` takes: tasks go to the thread that is free first. Gives up above `limit`. */
double time_of(const Cut& cut, const ProductShape& s, int64_t threads, double limit) {
  const double workers = static_cast<double>(threads), load = kPanelLoad + (cut.own_b ? kPackPanel : 0.0);
  const double pack = !cut.own_a ? 0.0 : s.transpose_a ? kPackRowTurned : kPackRow;
  const int64_t tiles = tiles_of(s.m), panels = panels_of(s.n);
  double before = cut.own_a ? 0.0 : kMemory * static_cast<double>(s.m) / workers;
  if (!cut.own_b && !s.packed_b) before += kMemory * static_cast<double>(s.n) / workers;
  const auto task = [&](double rows, double width) { return rows * pack + width * (rows * kTileRow + load); };
  const double rows = static_cast<double>(kTileHeight * tiles), width = static_cast<double>(panels);
  const double all = static_cast<double>(cut.groups) * rows * pack +
                     width * (rows * kTileRow + static_cast<double>(cut.row_blocks) * load);
  if (before + all / workers >= limit) return limit;
  if (cut.tasks() > 16 * threads) return before + all / workers + 0.5 * all / static_cast<double>(cut.tasks());
  std::priority_queue<double, std::vector<double>, std::greater<>> free;
  for (int64_t i = 0; i < threads; ++i) free.push(0.0);
  double end = 0.0;
  for (int64_t number = 0; number < cut.tasks(); ++number) {
    const Part part = cut.part(number, tiles, panels);
    const double done = free.top() + task(static_cast<double>(kTileHeight * (part.tile_end - part.tile_begin)),
                                          static_cast<double>(part.panel_end - part.panel_begin));
    free.pop();
    free.push(done);
    end = std::max(end, done);
  }
  return before + end;
}

/* The fastest cut. A task that packs its rows does so for a group of panels; where rows are packed once for all, a task
 * is one panel. */
Cut best_cut(const ProductShape& s, int64_t threads) {
  const int64_t tiles = tiles_of(s.m), panels = panels_of(s.n);
  Cut best;
  double best_time = std::numeric_limits<double>::infinity();
  for (const bool own_a : {true, false})
    for (const bool own_b : {false, true}) {
      if (own_b && s.packed_b) continue;
      const int64_t least = std::max<int64_t>(1, ceil_div(tiles, own_a ? kMostOwnTiles : kMostTiles));
      const int64_t most = std::max(least, std::min(tiles / kLeastTiles, least + 2 * threads));
      for (int64_t row_blocks = least; row_blocks <= most; ++row_blocks)
        for (int64_t groups = own_a ? 1 : panels; groups <= (own_a ? std::min(panels, kMostGroups) : panels);
             ++groups) {
          const Cut cut{row_blocks, groups, own_a, own_b};
          const double time = time_of(cut, s, threads, best_time);
          if (time < best_time) {
            best = cut;
            best_time = time;
          }
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

/* Tasks that lie side by side share what is packed once: the panels if a task packs its rows, else the rows. The
 * threads of a memory group read it out of its L2 together. */
Part Cut::part(int64_t number, int64_t tiles, int64_t panels) const {
  const int64_t rows = own_a ? number % row_blocks : number / groups;
  const int64_t group = own_a ? number / row_blocks : number % groups;
  return {tiles * rows / row_blocks, tiles * (rows + 1) / row_blocks, panels * group / groups,
          panels * (group + 1) / groups};
}

PanelProduct::PanelProduct(const ProductShape& shape, const Pool& pool) : pool_(pool), shape_(shape) {
  k_block_ = block_of_k(shape.k);
  cut_ = best_cut(shape, pool.threads());
  Arena arena(nullptr);
  lay_out(arena);
  workspace_bytes_ = arena.used();
}

/* a stands first: where the next product of a group finds it. */
PanelProduct::Workspace PanelProduct::lay_out(Arena& arena) const {
  const ProductShape& s = shape_;
  const int64_t threads = pool_.threads();
  Workspace w;
  w.a_step = (ceil_div(tiles_of(s.m), cut_.row_blocks) * kTileHeight * k_block_ + 63) / 64 * 64;
  w.a = arena.take(cut_.own_a ? threads * w.a_step : tiles_of(s.m) * kTileHeight * s.k);
  w.b_step = (panel_width() * k_block_ + 63) / 64 * 64;
  if (cut_.own_b) w.b = arena.take(threads * w.b_step);
  if (!cut_.own_b && !s.packed_b) w.b = arena.take(packed_b_floats());
  return w;
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
  const Workspace w = lay_out(arena);
  if (!cut_.own_b && !s.packed_b) {
    pack_b(b, w.b);
    b = w.b;
  }
  if (!cut_.own_a && !a_stands)
    pack_whole_left(pool_, a, s.transpose_a ? s.m : s.k, s.transpose_a, s.m, s.k, k_block_, w.a);
  Result c{output};
  c.row = s.n;
  pool_.run(cut_.tasks(), [&](int64_t number, uint32_t worker) {
    run_part(a, b, c, cut_.part(number, tiles_of(s.m), panels_of(s.n)), w, worker);
  });
}

/* A block of k of a part's rows: packed here, or where it stands in the whole. */
Left PanelProduct::rows_of(const float* a, const Part& part, int64_t k0, int64_t kb, const Workspace& w,
                           uint32_t worker) const {
  const ProductShape& s = shape_;
  const int64_t i = part.tile_begin * kTileHeight, tiles = part.tile_end - part.tile_begin;
  if (!cut_.own_a) return packed_left(w.a + k0 * kTileHeight * tiles_of(s.m) + i * kb, s.m);
  const int64_t pitch = s.transpose_a ? s.m : s.k;
  float* packed = w.a + worker * w.a_step;
  pack_left(a + (s.transpose_a ? k0 * pitch + i : i * pitch + k0), pitch, s.transpose_a, kb, s.m - i, 0, tiles, packed);
  return packed_left(packed, tiles * kTileHeight);
}

/* The part of c, a block of k at a time. The sums are those that multiply makes of all blocks at once. */
void PanelProduct::run_part(const float* a, const float* b, const Result& c, const Part& part, const Workspace& w,
                            uint32_t worker) const {
  const ProductShape& s = shape_;
  const int64_t i = part.tile_begin * kTileHeight, at = i * c.row;
  const int64_t rows = std::min(s.m, part.tile_end * kTileHeight) - i;
  const Right whole = packed_right(b, s.k);
  for (int64_t k0 = 0; k0 < s.k; k0 += k_block_) {
    const int64_t kb = std::min(k_block_, s.k - k0);
    const bool is_first = k0 == 0, is_last = k0 + kb == s.k;
    const Left left = rows_of(a, part, k0, kb, w, worker);
    Result to = c;
    to.c = c.c + at;
    if (c.addend) to.addend = c.addend + at;
    if (c.activated) to.activated = c.activated + at;
    // A bias without an addend is what the first block's sums begin with; beside one it is added in the end.
    if (c.addend ? !is_last : !is_first) to.bias = nullptr;
    if (!is_first) to.addend = to.c;
    if (!is_last) to.activated = nullptr;
    for (int64_t p = part.panel_begin; p < part.panel_end; ++p) {
      Right right;
      if (cut_.own_b) {
        float* packed = w.b + worker * w.b_step;
        pack_right(b + (s.transpose_b ? k0 : k0 * s.n), s.transpose_b ? s.k : s.n, s.transpose_b, kb, s.n, p, packed);
        right = {packed, panel_width(), 0};
      } else {
        right = {whole.data + k0 * whole.row, whole.row, whole.panel};
      }
      multiply(left, right, to, {0, rows, p, p + 1}, s.n, kb, kb);
    }
  }
}

/* Within a process all vectors are of one length, which fixes the width of a panel. */
const ProductFunctions kProducts = {[](const ProductShape& shape, const Pool& pool) -> std::unique_ptr<Product> {
                                      return std::make_unique<PanelProduct>(shape, pool);
                                    },
                                    "sve.panels", "sve.panels.transposed"};

} // namespace kumiki::sve
