/* Properties of the packed product of plugins/kernels/generic/gemm that the ops above rely on but do not show. */
#include "plugins/kernels/generic/gemm/gemm.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <random>
#include <vector>

using namespace kumiki::generic;

namespace {

std::vector<float> numbers(int64_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = normal(generator);
  return x;
}

std::vector<float> packed(const std::vector<float>& b, int64_t k, int64_t n) {
  std::vector<float> to(static_cast<size_t>(panels_of(n) * panel_width() * k));
  pack_right(b.data(), n, false, k, n, 0, panels_of(n), to.data());
  return to;
}

struct Sizes {
  int64_t m, n, k;
};

} // namespace

TEST_CASE("an element of a product has the same bits however c is cut and in whichever order its tiles are made") {
  const Sizes s = GENERATE(Sizes{37, 200, 300}, Sizes{8, 48, 16}, Sizes{1, 7, 5}, Sizes{100, 144, 129});
  const std::vector<float> a = numbers(s.m * s.k, 1), b = packed(numbers(s.k * s.n, 2), s.k, s.n);
  Left left;
  left.data = a.data();
  left.row = s.k;
  const Right right{b.data(), panel_width(), panel_width() * s.k, nullptr};
  const auto product = [&](int64_t rows, int64_t panels, bool rows_inner) {
    std::vector<float> c(static_cast<size_t>(s.m * s.n), -1.0f);
    Result result;
    result.c = c.data();
    result.row = s.n;
    result.panel = panel_width();
    for (int64_t i = 0; i < s.m; i += rows)
      for (int64_t p = 0; p < panels_of(s.n); p += panels)
        multiply(left, right, result, {i, std::min(s.m, i + rows), p, std::min(panels_of(s.n), p + panels)}, s.n, s.k,
                 {128, rows_inner});
    return c;
  };
  const std::vector<float> whole = product(s.m, panels_of(s.n), false);
  CHECK(product(s.m, panels_of(s.n), true) == whole);
  CHECK(product(tile_height(), 1, false) == whole);
  CHECK(product(3, 2, true) == whole);
}

TEST_CASE("a left operand in groups and chunks gives the product of its plain rows") {
  const int64_t width = panel_width(), m = 2 * width + 5, k = 90, n = 60;
  const std::vector<float> a = numbers(m * k, 3), b = packed(numbers(k * n, 4), k, n);
  const Right right{b.data(), width, width * k, nullptr};
  const auto product = [&](const Left& left, int64_t k_block) {
    std::vector<float> c(static_cast<size_t>(m * n));
    Result result;
    result.c = c.data();
    result.row = n;
    result.panel = width;
    multiply(left, right, result, {0, m, 0, panels_of(n)}, n, k, {k_block, false});
    return c;
  };
  Left plain;
  plain.data = a.data();
  plain.row = k;
  const std::vector<float> expected = product(plain, k);

  // rows in panels [m / width][k][width], as the head keeps its logits
  std::vector<float> grouped(static_cast<size_t>((m + width - 1) / width * width * k));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < k; ++j)
      grouped[static_cast<size_t>(i / width * width * k + j * width + i % width)] = a[static_cast<size_t>(i * k + j)];
  Left by_group;
  by_group.data = grouped.data();
  by_group.row = 1;
  by_group.column = width;
  by_group.group = width;
  by_group.group_step = width * k;
  CHECK(product(by_group, k) == expected);

  // k in chunks [k / 16][m][16], the last one not full: two products, so equal up to rounding
  std::vector<float> chunked(static_cast<size_t>((k + 15) / 16 * 16 * m));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < k; ++j)
      chunked[static_cast<size_t>(j / 16 * 16 * m + i * 16 + j % 16)] = a[static_cast<size_t>(i * k + j)];
  Left by_chunk;
  by_chunk.data = chunked.data();
  by_chunk.row = 16;
  by_chunk.chunk = 16;
  by_chunk.chunk_step = 16 * m;
  const std::vector<float> c = product(by_chunk, 96);
  for (size_t i = 0; i < c.size(); ++i) REQUIRE(c[i] == Approx(expected[i]).margin(1e-4));
}

TEST_CASE("the packed transpose of a left operand holds each column of the plain one") {
  const int64_t k = 33, m = 45, height = tile_height(), tiles = (m + height - 1) / height;
  const std::vector<float> a = numbers(k * m, 5);
  std::vector<float> to(static_cast<size_t>(tiles * packed_left_pitch(k)), -1.0f);
  pack_left_transposed(a.data(), m, k, m, 0, 3, to.data());
  pack_left_transposed(a.data(), m, k, m, 3, tiles, to.data());
  for (int64_t i = 0; i < tiles * height; ++i)
    for (int64_t j = 0; j < k; ++j) {
      const float expected = i < m ? a[static_cast<size_t>(j * m + i)] : 0.0f;
      REQUIRE(to[static_cast<size_t>(i / height * packed_left_pitch(k) + j * height + i % height)] == expected);
    }
}
