#include <algorithm>
#include <cstring>

#include "plugins/kernels/sve/attention/attention.h"
#include "plugins/kernels/sve/gemm/gemm.h"
#include "plugins/kernels/sve/gemm/microkernel.h"
#include "plugins/kernels/sve/kernels.h"

namespace kumiki::sve {
namespace {

constexpr int64_t kQueries = kBackwardQueries;
constexpr int64_t kPanelsOfBlock = 2; /* panels of keys in a block */

/* A task's scratch: one block of queries of one head. */
struct Scratch {
  float *q_tiles, *d_o_tiles;     /* tiles [width][8] of rows: left operands of scores and dp */
  float *q_columns, *d_o_columns; /* panels [queries][columns]: right operands of dk and dv */
  float *scores, *dp;             /* [queries][pitch] */
  float* ds_tiles;                /* ds again as tiles [keys][8]: left operand of dq */
  int64_t pitch;

  Scratch(void* base, int64_t width) : arena(base) {
    pitch = kPanelsOfBlock * panel_width();
    q_tiles = arena.take(kQueries * width);
    d_o_tiles = arena.take(kQueries * width);
    q_columns = arena.take(kQueries * panels_of(width) * panel_width());
    d_o_columns = arena.take(kQueries * panels_of(width) * panel_width());
    scores = arena.take(kQueries * pitch);
    dp = arena.take(kQueries * pitch);
    ds_tiles = arena.take(kQueries * pitch);
  }
  Arena arena;
};

/* Rows of a block of queries as both operands. */
void load_queries(const Head& head, const BackwardPart& part, int64_t column, int64_t q0, int64_t nq,
                  const Scratch& s) {
  const int64_t width = head.width, panel = panel_width();
  const float* q = part.q.data + column + q0 * part.q.pitch;
  const float* d_o = part.d_o.data + column + q0 * part.d_o.pitch;
  pack_left(q, part.q.pitch, false, width, nq, 0, tiles_of(nq), s.q_tiles);
  pack_left(d_o, part.d_o.pitch, false, width, nq, 0, tiles_of(nq), s.d_o_tiles);
  for (int64_t p = 0; p < panels_of(width); ++p) {
    pack_right(q, part.q.pitch, false, nq, width, p, s.q_columns + p * kQueries * panel);
    pack_right(d_o, part.d_o.pitch, false, nq, width, p, s.d_o_columns + p * kQueries * panel);
  }
}

/* Scores become p = e^(scale s - lse) and dp becomes ds = scale p (dp - delta), 0 where a query does not see a key. */
void block_gradient(const Head& head, const float* lse, const float* deltas, int64_t q0, int64_t nq, int64_t k0,
                    int64_t nk, const Scratch& s) {
  const int64_t n = lanes();
  const float scale = head.scale;
  for (int64_t i = 0; i < nq; ++i) {
    const float negative_lse = -lse[q0 + i], delta = deltas[q0 + i];
    float *score_row = s.scores + i * s.pitch, *dp_row = s.dp + i * s.pitch;
    const int64_t visible = head.past + q0 + i + 1 - k0; // keys 0 ... visible-1 of the block
    const auto gradient = [=](int64_t j, svbool_t seen) {
      const V x = mla(set(negative_lse), svld1(seen, score_row + j), set(scale));
      const V p = svsel(seen, exp_bounded(x), set(0.0f));
      const V ds = mul(mul(p, set(scale)), sub(svld1(seen, dp_row + j), set(delta)));
      svst1(all(), score_row + j, p);
      svst1(all(), dp_row + j, ds);
    };
    const auto whole_pair = [=](int64_t j) {
      const V s0 = svld1(all(), score_row + j), s1 = svld1_vnum(all(), score_row + j, 1);
      const V d0 = svld1(all(), dp_row + j), d1 = svld1_vnum(all(), dp_row + j, 1);
      const V p0 = exp_bounded(mla(set(negative_lse), s0, set(scale)));
      const V p1 = exp_bounded(mla(set(negative_lse), s1, set(scale)));
      const V g0 = mul(mul(p0, set(scale)), sub(d0, set(delta)));
      const V g1 = mul(mul(p1, set(scale)), sub(d1, set(delta)));
      svst1(all(), score_row + j, p0);
      svst1_vnum(all(), score_row + j, 1, p1);
      svst1(all(), dp_row + j, g0);
      svst1_vnum(all(), dp_row + j, 1, g1);
    };
    if (head.key_segments) {
      const int32_t mine = head.query_segments[q0 + i], *others = head.key_segments + k0;
      for (int64_t j = 0; j < nk; j += n) {
        const svbool_t p = first(std::min(visible, nk) - j);
        gradient(j, svcmpeq(p, svld1(p, others + j), mine));
      }
    } else {
      const int64_t end = std::min(nk, visible);
      int64_t at = 0;
      for (; at + 2 * n <= end; at += 2 * n) whole_pair(at);
      for (; at < end; at += n) gradient(at, first(end - at));
      for (int64_t j = std::max<int64_t>(0, (visible + n - 1) / n * n); j < nk; j += n) {
        svst1(all(), score_row + j, set(0.0f));
        svst1(all(), dp_row + j, set(0.0f));
      }
    }
  }
}

/* The products of one block of queries with one block of keys. */
void one_block(const Head& head, const PackedHead& packed, const BackwardPart& part, int64_t member, int64_t block,
               int64_t q0, int64_t nq, bool is_first, const Scratch& s) {
  const int64_t n = lanes(), width = head.width, panel = panel_width(), pitch = s.pitch;
  const int64_t k0 = key_block_begin(block, head.keys), nk = key_block_begin(block + 1, head.keys) - k0;
  const int64_t diagonal = head.past + q0; // the key that the first query sees last
  const int64_t key_panels = panels_of(head.keys), first_panel = block * kPanelsOfBlock;

  for (int64_t kp = first_panel; kp < std::min(key_panels, first_panel + kPanelsOfBlock); ++kp) {
    const int64_t key = panel_begin(kp, head.keys), vectors = (panel_columns(kp, head.keys) + n - 1) / n;
    for (int64_t i = 0; i < nq; i += kTileHeight) {
      const int64_t rows = std::min(kTileHeight, nq - i);
      if (key > diagonal + i + rows - 1) continue; // all of these keys lie after these queries
      const int64_t at = kp * width * panel, c = i * pitch + key - k0;
      const auto tile = tile_of<true>(rows, vectors);
      tile({width, s.q_tiles + i * width, kTileHeight, packed.keys_turned + at, panel, nullptr, 0, s.scores + c, pitch,
            vectors * n});
      tile({width, s.d_o_tiles + i * width, kTileHeight, packed.values_turned + at, panel, nullptr, 0, s.dp + c, pitch,
            vectors * n});
    }
  }
  const int64_t row = member * part.row_pitch;
  block_gradient(head, part.lse + row, part.deltas + row, q0, nq, k0, nk, s);

  for (int64_t p = 0; p < panels_of(width); ++p) {
    const int64_t column = panel_begin(p, width), columns = panel_columns(p, width), vectors = (columns + n - 1) / n;
    for (int64_t i = 0; i < nk; i += kTileHeight) {
      const int64_t from = std::max<int64_t>(0, k0 + i - diagonal); // earlier queries do not see these keys
      if (from >= nq) break;
      const int64_t rows = std::min(kTileHeight, nk - i), at = (p * kQueries + from) * panel;
      const auto tile = tile_of<false>(rows, vectors);
      float* dv = part.dv + (k0 + i) * part.k_pitch + column;
      float* dk = part.dk + (k0 + i) * part.k_pitch + column;
      tile({nq - from, s.scores + from * pitch + i, pitch, s.d_o_columns + at, panel, dv, part.k_pitch, dv,
            part.k_pitch, columns});
      tile({nq - from, s.dp + from * pitch + i, pitch, s.q_columns + at, panel, dk, part.k_pitch, dk, part.k_pitch,
            columns});
    }
  }

  pack_left(s.dp, pitch, false, nk, nq, 0, tiles_of(nq), s.ds_tiles);
  for (int64_t p = 0; p < panels_of(width); ++p) {
    const int64_t column = panel_begin(p, width), columns = panel_columns(p, width);
    for (int64_t i = 0; i < nq; i += kTileHeight) {
      const int64_t rows = std::min(kTileHeight, nq - i), k1 = std::min(nk, diagonal + i + rows - k0);
      float* dq = part.dq + member * part.dq_member + (q0 + i) * part.dq_pitch + column;
      if (k1 <= 0 && !is_first) continue;
      tile_of<true>(rows, (columns + n - 1) / n)({std::max<int64_t>(0, k1), s.ds_tiles + i * nk, kTileHeight,
                                                  packed.keys + (p * head.keys + k0) * panel, panel,
                                                  is_first ? nullptr : dq, part.dq_pitch, dq, part.dq_pitch, columns});
    }
  }
}

} // namespace

int64_t turned_floats(int64_t keys, int64_t width) { return panels_of(keys) * panel_width() * width; }
int64_t columns_floats(int64_t keys, int64_t width) { return panels_of(width) * panel_width() * keys; }

void pack_head_backward(const HeadRows& keys, const HeadRows& values, int64_t count, int64_t width,
                        const PackedHead& to) {
  const int64_t panel = panel_width();
  for (int64_t p = 0; p < panels_of(count); ++p) {
    pack_right(keys.data, keys.pitch, true, width, count, p, to.keys_turned + p * width * panel);
    pack_right(values.data, values.pitch, true, width, count, p, to.values_turned + p * width * panel);
  }
  for (int64_t p = 0; p < panels_of(width); ++p)
    pack_right(keys.data, keys.pitch, false, count, width, p, to.keys + p * count * panel);
}

int64_t key_blocks(int64_t keys) { return (panels_of(keys) + kPanelsOfBlock - 1) / kPanelsOfBlock; }
int64_t key_block_begin(int64_t b, int64_t keys) {
  return panel_begin(std::min(b * kPanelsOfBlock, panels_of(keys)), keys);
}

int64_t backward_scratch(int64_t width) {
  return static_cast<int64_t>(Scratch(nullptr, width).arena.used() / sizeof(float));
}

void attention_backward(const Head& head, const PackedHead& packed, const BackwardPart& part, float* scratch) {
  const Scratch s(scratch, head.width);
  const int64_t key_begin = key_block_begin(part.block_begin, head.keys),
                key_end = key_block_begin(part.block_end, head.keys);
  const size_t row_bytes = static_cast<size_t>(head.width) * sizeof(float);
  for (int64_t t = key_begin; t < key_end; ++t) {
    std::memset(part.dk + t * part.k_pitch, 0, row_bytes);
    std::memset(part.dv + t * part.k_pitch, 0, row_bytes);
  }
  for (int64_t member = 0; member < part.group; ++member) {
    for (int64_t q0 = first_query(head, key_begin); q0 < head.tokens; q0 += kQueries) {
      const int64_t nq = std::min(kQueries, head.tokens - q0);
      load_queries(head, part, member * head.width, q0, nq, s);
      bool is_first = true;
      for (int64_t block = part.block_begin; block < part.block_end; ++block) {
        const int64_t k0 = key_block_begin(block, head.keys), k1 = key_block_begin(block + 1, head.keys);
        if (k0 >= head.past + q0 + nq) break;
        if (head.key_segments && !segments_meet(head.key_segments + k0, k1 - k0, head.query_segments + q0, nq))
          continue;
        one_block(head, packed, part, member, block, q0, nq, is_first, s);
        is_first = false;
      }
      for (int64_t i = 0; is_first && i < nq; ++i)
        std::memset(part.dq + member * part.dq_member + (q0 + i) * part.dq_pitch, 0, row_bytes);
    }
  }
}

void attention_deltas(const HeadRows& o, const HeadRows& d_o, int64_t begin, int64_t end, int64_t width,
                      float* deltas) {
  for (int64_t t = begin; t < end; ++t) {
    const float *left = d_o.data + t * d_o.pitch, *right = o.data + t * o.pitch;
    V s0 = set(0.0f), s1 = s0;
    for (int64_t j = 0; j < width; j += 2 * lanes()) {
      const svbool_t p0 = first(width - j), p1 = first(width - j - lanes());
      s0 = mla(s0, svld1(p0, left + j), svld1(p0, right + j));
      s1 = mla(s1, svld1_vnum(p1, left + j, 1), svld1_vnum(p1, right + j, 1));
    }
    deltas[t] = sum_lanes(add(s0, s1));
  }
}

} // namespace kumiki::sve
