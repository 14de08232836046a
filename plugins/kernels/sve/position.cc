#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

void rope_token(const float* x, const float* cosine, const float* sine, int64_t heads, int64_t width, float* y) {
  const int64_t half = width / 2;
  for (int64_t h = 0; h < heads; ++h, x += width, y += width)
    for_vectors(0, half, [=](int64_t i, svbool_t p) {
      const V a = svld1(p, x + i), b = svld1(p, x + half + i);
      const V c = svld1(p, cosine + i), s = svld1(p, sine + i);
      svst1(p, y + i, mls(mul(a, c), b, s));
      svst1(p, y + half + i, mla(mul(b, c), a, s));
    });
}

void add_rows(const float* a, const float* b, float* y, int64_t n) {
  for_vectors(0, n, [=](int64_t i, svbool_t p) { svst1(p, y + i, add(svld1(p, a + i), svld1(p, b + i))); });
}

void add_token_rows(const TokenRows& r, int64_t begin, int64_t end) {
  const TokenRows rows = r; // in registers: what is stored could be taken for it
  for (int64_t t = 0; t < rows.count; ++t) {
    const int64_t at = rows.part.row(rows.tokens[t]);
    if (at < 0) continue;
    float* row = rows.y + at * rows.width;
    const float* from = rows.dy + t * rows.width;
    for_vectors(begin, end,
                [=](int64_t i, svbool_t p) { svst1(p, row + i, add(svld1(p, row + i), svld1(p, from + i))); });
  }
}

} // namespace

const PositionFunctions kPositions = {.rope_token = rope_token, .add = add_rows, .add_token_rows = add_token_rows};

} // namespace kumiki::sve
