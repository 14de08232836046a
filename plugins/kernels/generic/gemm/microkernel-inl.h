/* The innermost product: a tile of R rows x NV vectors, its accumulators in named registers (arrays of vectors are not
 * allowed on SVE, and the compilers keep names out of memory). Compiled once for each target. */
#if defined(KUMIKI_GENERIC_MICROKERNEL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef KUMIKI_GENERIC_MICROKERNEL_INL_H
#undef KUMIKI_GENERIC_MICROKERNEL_INL_H
#else
#define KUMIKI_GENERIC_MICROKERNEL_INL_H
#endif

#include "hwy/cache_control.h"
#include "plugins/kernels/generic/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kumiki::generic {
namespace HWY_NAMESPACE {

/* 8 x 3 accumulators, 3 vectors of b and 1 of a fill 28 of 32 registers; AVX2 has 16, all taken by 4 x 3. */
#if HWY_TARGET == HWY_AVX2
constexpr int kTileRows = 4;
#else
constexpr int kTileRows = 8;
#endif
constexpr int kTileVectors = 3;

/* c [R, NV vectors] = (addend, if not null) + a b, where a(i, k) = a[i * a_row + (k / chunk) * chunk_step + (k %
 * chunk) * a_k], k = 0 … chunks * chunk - 1, and row k of b lies at b + k * b_row. addend has c's strides and may be
 * c. */
template <int R, int NV>
HWY_NOINLINE void tile(int64_t chunks, int64_t chunk, const float* HWY_RESTRICT a, int64_t a_row, int64_t a_k,
                       int64_t chunk_step, const float* HWY_RESTRICT b, int64_t b_row, const float* addend, float* c,
                       int64_t c_row) {
  const F d;
  const size_t n = hn::Lanes(d);
  V s00 = hn::Zero(d), s01 = s00, s02 = s00, s10 = s00, s11 = s00, s12 = s00, s20 = s00, s21 = s00, s22 = s00;
  V s30 = s00, s31 = s00, s32 = s00, s40 = s00, s41 = s00, s42 = s00, s50 = s00, s51 = s00, s52 = s00;
  V s60 = s00, s61 = s00, s62 = s00, s70 = s00, s71 = s00, s72 = s00;
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < NV; ++j) hwy::Prefetch(c + i * c_row + static_cast<int64_t>(n) * j);

  const float* HWY_RESTRICT a0 = a;
  const float* HWY_RESTRICT a3 = a + 3 * a_row;
  const float* HWY_RESTRICT a6 = a + 6 * a_row;
  const int64_t jump = chunk_step - chunk * a_k;
#define KM_ROW(i, element)                                      \
  if constexpr (R > i) {                                        \
    const V x = hn::Set(d, element);                            \
    s##i##0 = hn::MulAdd(x, b0, s##i##0);                       \
    if constexpr (NV > 1) s##i##1 = hn::MulAdd(x, b1, s##i##1); \
    if constexpr (NV > 2) s##i##2 = hn::MulAdd(x, b2, s##i##2); \
  }
  for (int64_t q = 0; q < chunks; ++q) {
    for (int64_t k = 0; k < chunk; ++k) {
      const V b0 = hn::LoadU(d, b);
      const V b1 = NV > 1 ? hn::LoadU(d, b + (NV > 1 ? n : 0)) : b0;
      const V b2 = NV > 2 ? hn::LoadU(d, b + (NV > 2 ? 2 * n : 0)) : b0;
      KM_ROW(0, a0[0])
      KM_ROW(1, a0[a_row])
      KM_ROW(2, a0[2 * a_row])
      KM_ROW(3, a3[0])
      KM_ROW(4, a3[a_row])
      KM_ROW(5, a3[2 * a_row])
      KM_ROW(6, a6[0])
      KM_ROW(7, a6[a_row])
      (void)b1;
      (void)b2;
      a0 += a_k;
      if constexpr (R > 3) a3 += a_k;
      if constexpr (R > 6) a6 += a_k;
      b += b_row;
    }
    a0 += jump;
    if constexpr (R > 3) a3 += jump;
    if constexpr (R > 6) a6 += jump;
  }
#undef KM_ROW

#define KM_PUT(i, j)                                                                       \
  if constexpr (R > i && NV > j) {                                                         \
    const int64_t at = i * c_row + j * static_cast<int64_t>(n);                            \
    hn::StoreU(addend ? hn::Add(s##i##j, hn::LoadU(d, addend + at)) : s##i##j, d, c + at); \
  }
#define KM_PUT_ROW(i) KM_PUT(i, 0) KM_PUT(i, 1) KM_PUT(i, 2)
  KM_PUT_ROW(0)
  KM_PUT_ROW(1)
  KM_PUT_ROW(2)
  KM_PUT_ROW(3)
  KM_PUT_ROW(4)
  KM_PUT_ROW(5)
  KM_PUT_ROW(6)
  KM_PUT_ROW(7)
#undef KM_PUT_ROW
#undef KM_PUT
}

using Tile = void (*)(int64_t, int64_t, const float*, int64_t, int64_t, int64_t, const float*, int64_t, const float*,
                      float*, int64_t);

/* The tile of `rows` (8, 4, 2 or 1, at most kTileRows) rows and 1 … 3 vectors. */
HWY_INLINE Tile tile_of(int rows, int vectors) {
  static constexpr Tile kTiles[4][3] = {{&tile<1, 1>, &tile<1, 2>, &tile<1, 3>},
                                        {&tile<2, 1>, &tile<2, 2>, &tile<2, 3>},
                                        {&tile<4, 1>, &tile<4, 2>, &tile<4, 3>},
                                        {&tile<kTileRows, 1>, &tile<kTileRows, 2>, &tile<kTileRows, 3>}};
  return kTiles[rows == 1 ? 0 : rows == 2 ? 1 : rows == 4 ? 2 : 3][vectors - 1];
}

/* The largest tile height that fits in `available` rows. */
HWY_INLINE int tile_rows(int64_t available) {
  if (available >= kTileRows) return kTileRows;
  return available >= 4 ? 4 : available >= 2 ? 2 : 1;
}

} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#endif
