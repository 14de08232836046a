/* Attention of one head on one thread, in blocks with an online softmax (Dao et al. 2022); T x T is never stored,
 * blocks past the diagonal are never computed. forward.cc, few.cc and backward.cc hold the loops, ops.cc spreads them
 * over threads.
 *
 * A block of scores is a product of tiles like any other (gemm/microkernel.h). So each head's keys and values are
 * packed once, and read by all blocks of queries. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_ATTENTION_ATTENTION_H
#define KUMIKI_PLUGINS_KERNELS_SVE_ATTENTION_ATTENTION_H

#include <cstdint>

namespace kumiki::sve {

/* One head of one sequence: token t's row begins at t * pitch. */
struct HeadRows {
  const float* data = nullptr;
  int64_t pitch = 0;
};

/* What both directions know of a head. Of the keys 0 … keys-1 query t sees 0 … past + t (past = keys: all), with segments
 * only those of its own segment. */
struct Head {
  int64_t tokens = 0, keys = 0, width = 0; /* tokens: queries */
  float scale = 0.0f;
  const int32_t *query_segments = nullptr, *key_segments = nullptr; /* [tokens], [keys], or null */
  int64_t past = 0;
};

constexpr float kMasked = -1.0e30f; /* the score of a key that a query does not see */

/* Whether two runs of tokens can share a segment: the ranges of their numbers meet. */
bool segments_meet(const int32_t* a, int64_t n, const int32_t* b, int64_t m);

/* ---- forward ---------------------------------------------------------------------------------------------------- */

/* Queries of a task: one panel of scores, so that maximum and sum of a query run down a column. */
int64_t forward_queries();

/* A head's `count` keys as tiles of 8 [tiles][width][8] and its values as panels. */
int64_t packed_keys_floats(int64_t count, int64_t width);
int64_t packed_values_floats(int64_t count, int64_t width);
void pack_head(const HeadRows& keys, const HeadRows& values, int64_t count, int64_t width, float* packed_keys,
               float* packed_values);

int64_t forward_scratch(int64_t width);
/* o (pitch of q) and lse of the queries [begin, begin + forward_queries()): 0 and -infinity of one that sees no key. */
void attention_forward(const Head& head, const HeadRows& q, const float* packed_keys, const float* packed_values,
                       int64_t begin, float* o, float* lse, float* scratch);

/* Of so few queries that packing the keys would cost more than it saves: keys and values are read as they lie, once
 * for each query. o and lse of all queries; no segments. */
constexpr int64_t kFewQueries = 8;
int64_t few_scratch(int64_t width);
void attention_few(const Head& head, const HeadRows& q, const HeadRows& keys, const HeadRows& values, float* o,
                   float* lse, float* scratch);

/* ---- backward --------------------------------------------------------------------------------------------------- */

constexpr int64_t kBackwardQueries = 96; /* queries of a block */

/* Keys and values of a head turned, as panels [panels][width][panel_width()], and keys as panels of columns. */
struct PackedHead {
  float *keys_turned = nullptr, *values_turned = nullptr, *keys = nullptr;
};
int64_t turned_floats(int64_t keys, int64_t width);
int64_t columns_floats(int64_t keys, int64_t width);
void pack_head_backward(const HeadRows& keys, const HeadRows& values, int64_t count, int64_t width,
                        const PackedHead& to);

/* Blocks of keys (two panels) and the first key of block b; b = key_blocks gives keys. */
int64_t key_blocks(int64_t keys);
int64_t key_block_begin(int64_t b, int64_t keys);

/* deltas[t] = Σ o d_o over a head's row, for the tokens [begin, end). */
void attention_deltas(const HeadRows& o, const HeadRows& d_o, int64_t begin, int64_t end, int64_t width, float* deltas);

/* A run of key blocks that one task owns: it computes dk and dv of these keys over all queries of the group's heads,
 * and its part of dq. */
struct BackwardPart {
  int64_t block_begin = 0, block_end = 0;
  int64_t group = 1; /* query heads that read this key head; member i lies i * width behind in q and d_o */
  HeadRows q, d_o;
  const float *lse = nullptr, *deltas = nullptr; /* of member i: + i * row_pitch */
  int64_t row_pitch = 0;
  float *dk = nullptr, *dv = nullptr;
  int64_t k_pitch = 0; /* of dk and dv */
  /* Where this part of dq goes: row t (from first_query on) of member i at dq + i * dq_member + t * dq_pitch. */
  float* dq = nullptr;
  int64_t dq_pitch = 0, dq_member = 0;
};
/* The first query whose block sees keys from `key` on. */
inline int64_t first_query(const Head& head, int64_t key) {
  return head.past > 0 ? 0 : key / kBackwardQueries * kBackwardQueries;
}

/* past is 0 or keys. */
int64_t backward_scratch(int64_t width);
void attention_backward(const Head& head, const PackedHead& packed, const BackwardPart& part, float* scratch);

} // namespace kumiki::sve

#endif
