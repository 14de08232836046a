/* The innermost product: a tile of R <= 8 rows x NV <= 3 vectors of c, its accumulators in registers. 8 x 3 = 24 of
 * them hide the 9 cycles of an FMA on two pipes (18 would do); with 3 vectors of b and a few broadcasts of a the 32
 * registers are full. Per step of k: 24 FMA in 12 cycles, 3 loads, 8 broadcast loads (LD1RW; the indexed FMLA takes
 * both pipes). */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_GEMM_MICROKERNEL_H
#define KUMIKI_PLUGINS_KERNELS_SVE_GEMM_MICROKERNEL_H

#include "plugins/kernels/sve/simd.h"

/* Scheduled before registers are given out, the loop body would hold more values at once than there are registers. */
#pragma GCC push_options
#pragma GCC optimize("no-schedule-insns")

namespace kumiki::sve {

constexpr int kTileRows = 8;
constexpr int kTileVectors = 3;

/* What one tile is made of. a(i, k) = a[k * a_step + i]; row k of b begins at b + k * b_row and is readable in whole
 * vectors; c [R, columns], of which `columns` (at most NV vectors) are stored, is base + a b. base (null: nothing) has
 * rows of its own pitch, 0 for one row that is the same for all (a bias), and may be c. The accumulators begin as base:
 * loads cost the FMA pipes nothing, where zeroing them and adding base in the end would. `next`: the base of the tile
 * that comes next, which is fetched into the cache meanwhile. */
struct TileArguments {
  int64_t k;
  const float* a;
  int64_t a_step;
  const float* b;
  int64_t b_row;
  const float* base;
  int64_t base_row;
  float* c;
  int64_t c_row;
  int64_t columns;
  const float* next = nullptr;
};

/* Three vectors of zeros of the longest vector there is: the base of a tile that has none. */
inline constexpr float kZeros[kTileVectors * 16] = {};

/* kPackedStep: a_step is 8 (kTileRows); two steps of k a round then share one pointer. */
template <int R, int NV, bool kPackedStep>
__attribute__((noinline)) void sve_tile(const TileArguments& t) {
  const svbool_t p = svptrue_b32();
  int64_t k = t.k;
  const float* __restrict a = t.a;
  const float* __restrict b = t.b;
  const int64_t a_step = t.a_step, b_row = t.b_row;
  const int64_t n = lanes();
  const svbool_t p0 = first(t.columns), p1 = first(t.columns - n), p2 = first(t.columns - 2 * n);
  (void)p1;
  (void)p2;
  if (t.next)
    for (int i = 0; i < R; ++i) {
      __builtin_prefetch(t.next + i * t.base_row, 1);
      __builtin_prefetch(t.next + i * t.base_row + t.columns - 1, 1);
    }
  const float* base = t.base ? t.base : kZeros;
  const int64_t base_row = t.base ? t.base_row : 0;

#define KM_ROWS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#define KM_BEGIN(i)                                                  \
  V s##i##0 = svdup_f32(0.0f), s##i##1 = s##i##0, s##i##2 = s##i##0; \
  if constexpr (R > i) {                                             \
    const float* from = base + i * base_row;                         \
    s##i##0 = svld1(p0, from);                                       \
    if constexpr (NV > 1) s##i##1 = svld1_vnum(p1, from, 1);         \
    if constexpr (NV > 2) s##i##2 = svld1_vnum(p2, from, 2);         \
  }
  KM_ROWS(KM_BEGIN)
#define KM_ROW(i)                                               \
  if constexpr (R > i) {                                        \
    const V x = svdup_f32(a_now[i]);                            \
    s##i##0 = svmla_x(p, s##i##0, b0, x);                       \
    if constexpr (NV > 1) s##i##1 = svmla_x(p, s##i##1, b1, x); \
    if constexpr (NV > 2) s##i##2 = svmla_x(p, s##i##2, b2, x); \
  }
#define KM_STEP(a_at)                               \
  {                                                 \
    const float* a_now = a_at;                      \
    const V b0 = svld1(p, b);                       \
    const V b1 = NV > 1 ? svld1_vnum(p, b, 1) : b0; \
    const V b2 = NV > 2 ? svld1_vnum(p, b, 2) : b0; \
    (void)b1;                                       \
    (void)b2;                                       \
    KM_ROWS(KM_ROW)                                 \
    b += b_row;                                     \
  }
  if constexpr (kPackedStep) {
    for (int64_t pairs = k / 2; pairs > 0; --pairs) {
      KM_STEP(a)
      KM_STEP(a + kTileRows)
      a += 2 * kTileRows;
    }
    k &= 1;
  }
  for (; k > 0; --k) {
    KM_STEP(a)
    a += a_step;
  }
#undef KM_STEP
#undef KM_ROW
#undef KM_BEGIN

#define KM_PUT(i)                                         \
  if constexpr (R > i) {                                  \
    float* to = t.c + i * t.c_row;                        \
    svst1(p0, to, s##i##0);                               \
    if constexpr (NV > 1) svst1_vnum(p1, to, 1, s##i##1); \
    if constexpr (NV > 2) svst1_vnum(p2, to, 2, s##i##2); \
  }
  KM_ROWS(KM_PUT)
#undef KM_PUT
#undef KM_ROWS
}

using TileFunction = void (*)(const TileArguments&);

/* The tile of `rows` (1 … 8) rows and 1 … 3 vectors. */
template <bool kPackedStep>
inline TileFunction tile_of(int64_t rows, int64_t vectors) {
#define KM_TILES(r) \
  { &sve_tile<r, 1, kPackedStep>, &sve_tile<r, 2, kPackedStep>, &sve_tile<r, 3, kPackedStep> }
  static constexpr TileFunction kTiles[kTileRows][kTileVectors] = {KM_TILES(1), KM_TILES(2), KM_TILES(3), KM_TILES(4),
                                                                   KM_TILES(5), KM_TILES(6), KM_TILES(7), KM_TILES(8)};
#undef KM_TILES
  return kTiles[rows - 1][vectors - 1];
}

} // namespace kumiki::sve

#pragma GCC pop_options

#endif
